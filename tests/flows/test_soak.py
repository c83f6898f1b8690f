"""Long runs, with `make soak`: a run killed 25 times at random moments ends as an undisturbed one does."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from simsong.demo.plan import KINDS
from simsong.demo.server import DemoServer, serve
from simsong.demo.world import World, build_world
from storage.store import Store
from tests.small_world import contents

KILLS = int(os.environ.get("SOAK_KILLS", "25"))
pytestmark = pytest.mark.soak

CONFIG = """
store = "{store}"
[sources]
msd = "{msd}"
lastfm = "{lastfm}"
[catalogue]
shard_songs = 6
[fetch]
search = "{search}"
[lyrics]
provider = "genius"
genius_root = "{genius}"
[segments]
length_s = 8.0
hop_s = 8.0
[training]
steps = 40
batch = 8
checkpoint_s = 1.0
[evaluation]
bootstrap = 100
"""


def start(root: Path, name: str, world: World, site: DemoServer) -> subprocess.Popen[bytes]:
    config = root / f"{name}.toml"
    config.write_text(CONFIG.format(store=name, msd=world.msd, lastfm=world.lastfm, search=site.search,
                                    genius=site.genius_root))
    log = (root / f"{name}.log").open("ab")
    environ = {**os.environ, "GENIUS_ACCESS_TOKEN": "demo", "PREFECT_HOME": str(root / "prefect")}
    return subprocess.Popen([sys.executable, "-m", "simsong.cli", "run", "--config", str(config), "--json"],
                            stdout=log, stderr=log, cwd=root, env=environ)


def without_times(file: Path) -> Any:
    """What is in a file. JSON without when it was written, and without the digest of a training's card, which
    holds times."""
    if file.suffix != ".json":
        return file.read_bytes()

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(own) for key, own in value.items()
                    if key not in ("at", "made_at", "training.json")}
        return [plain(own) for own in value] if isinstance(value, list) else value

    return plain(json.loads(file.read_text()))


def test_kills(tmp_path: Path) -> None:
    kinds = dict.fromkeys(KINDS, 0) | {"removed": 1}
    world = build_world(tmp_path / "world", 20, duration_s=(26, 34), kinds=kinds)
    with serve(world) as site:
        began = time.monotonic()
        assert start(tmp_path, "undisturbed", world, site).wait() == 0
        length_s = time.monotonic() - began
        rng = random.Random(0)
        for _ in range(KILLS):
            process = start(tmp_path, "killed", world, site)
            time.sleep(rng.uniform(0.2, 0.9) * length_s)
            process.kill()
            process.wait()
        assert start(tmp_path, "killed", world, site).wait() == 0
    stores = {name: Store.open(str(tmp_path / name)) for name in ("undisturbed", "killed")}
    parts = {name: {key: part for key, part in contents(store).items() if "report" not in key}
             for name, store in stores.items()}
    assert parts["killed"] == parts["undisturbed"]
    for kind in ("models", "exports", "audio"):
        files = {name: {p.relative_to(tmp_path / name): without_times(p)
                        for p in (tmp_path / name / kind).rglob("*")
                        if p.is_file() and p.name != "training.json"} for name in stores}
        assert files["killed"] == files["undisturbed"], kind
        assert files["killed"]
    left = [p for folder in ("tmp", "work") for p in (tmp_path / "killed" / folder).rglob("*") if p.is_file()]
    assert left == []
