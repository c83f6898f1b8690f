"""Whatever is edited, exactly the parts that depend on it are computed again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsong.config import Config
from storage.store import Store
from tests.small_world import Computed, configured, contents, refresh, touch_later, write_song

AUDIO = ("fetch_audio", "trim", "segments", "traits", "embed", "soundprints")
WORDS = ("fetch_lyrics", "embed_lyrics")
NAMES = ("ann", "bob", "cat", "dan", "eve")      # three shards: two songs, two songs, one song


@dataclass
class World:
    root: Path
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    added: int = 0

    @property
    def music(self) -> Path:
        return self.root / "music"

    @property
    def store(self) -> Store:
        return Store.open(str(self.root / "store"))

    @property
    def config(self) -> Config:
        return configured(self.music, self.root / "store", **self.settings)

    def refresh(self) -> Computed:
        return refresh(self.config)

    def song(self, number: int) -> tuple[Path, int]:
        """An audio file and its shard."""
        rows = self.store.read("tracks", columns=["url", "shard"]).to_pylist()
        row = rows[number % len(rows)]
        return Path(row["url"].removeprefix("file://").replace("%20", " ")), row["shard"]

    def shards(self) -> list[int]:
        return sorted(set(self.store.read("tracks", columns=["shard"])["shard"].to_pylist()))

    def set(self, section: str, key: str, value: Any) -> None:
        self.settings.setdefault(section, {})[key] = value


def all_of(stages: tuple[str, ...], shards: list[int]) -> Computed:
    return {(stage, shard) for stage in stages for shard in shards}


# An edit does something to the world, given a number to choose with, and says what has to be computed again.

def nothing(world: World, number: int) -> Computed:
    return set()


def other_audio(world: World, number: int) -> Computed:
    """Which is another song: the one that was there has left, and what reads the catalogue is looked at again
    for the others of its shard."""
    file, shard = world.song(number)
    shards = world.store.read("tracks", columns=["shard"])["shard"].to_pylist()
    lyrics = file.with_suffix(".txt").read_text()
    world.added += 1
    write_song(world.music, file.parent.name, seed=1000 + world.added, lyrics=None)
    file.with_suffix(".txt").write_text(lyrics)
    touch_later(file)
    touch_later(file.with_suffix(".txt"))
    left = [shard] if shards.count(shard) > 1 else []
    known = Store.open(world.config.store).read("shards")["shard"].to_pylist()
    return ({("ingest", 0)} | all_of(AUDIO + WORDS, [max(known) + 1])
            | all_of(("fetch_audio", "fetch_lyrics", "trim"), left))


def touched(world: World, number: int) -> Computed:
    file, _ = world.song(number)
    touch_later(file)
    return {("ingest", 0)}                          # its sound is the same


def moved(world: World, number: int) -> Computed:
    file, shard = world.song(number)
    world.added += 1
    folder = file.parent / f"moved {world.added}"
    folder.mkdir()
    for each in (file, file.with_suffix(".txt")):
        each.rename(folder / each.name)
    # where its files are is looked up again; nothing is decoded
    return {("ingest", 0), ("fetch_audio", shard), ("fetch_lyrics", shard)}


def other_words(world: World, number: int) -> Computed:
    file, shard = world.song(number)
    sidecar = file.with_suffix(".txt")
    sidecar.write_text(sidecar.read_text() + f"\nanother line, the {number}th, about the rain\n")
    touch_later(sidecar)
    return {("ingest", 0)} | all_of(WORDS, [shard])


def new_song(world: World, number: int) -> Computed:
    world.added += 1
    write_song(world.music, f"new{world.added}", seed=number)
    known = Store.open(world.config.store).read("shards")["shard"].to_pylist()
    return {("ingest", 0)} | all_of(AUDIO + WORDS, [max(known) + 1])


def cut_differently(world: World, number: int) -> Computed:
    world.set("segments", "hop_s", 1.1 + number / 1000)
    return all_of(("segments", "embed", "soundprints"), world.shards())


def trim_differently(world: World, number: int) -> Computed:
    world.set("trim", "mode", "fixed")
    world.set("trim", "intro_s", 0.2 + number / 1000)
    world.set("trim", "outro_s", 0.2)
    return all_of(("trim", "segments", "embed", "soundprints"), world.shards())


def other_threshold(world: World, number: int) -> Computed:
    world.set("fetch", "threshold", 60 + number / 100)
    return set()                                         # what was found stays


def how_not_what(world: World, number: int) -> Computed:
    world.set("network", "workers", 1 + number % 8)
    world.set("evaluation", "bootstrap", 100 + number)
    world.set("training", "steps", 100 + number)
    world.set("training", "priors", {"artist": number / 100})
    world.set("training", "validation", number / 1000)
    world.set("training", "split_seed", number)
    world.set("model", "pooling", ("mean", "cls")[number % 2])
    world.set("run", "processes", 1 + number % 3)
    return set()


PARTS = {"audio": "fetch_audio", "candidates": "fetch_audio", "trims": "trim", "segments": "segments",
         "lyrics": "fetch_lyrics", "track_embeddings/model=mfcc-2": "embed",
         "segment_embeddings/model=mfcc-2": "embed", "soundprints": "soundprints",
         "outcomes/stage=trim": "trim", "outcomes/stage=fetch_lyrics": "fetch_lyrics"}


def part(world: World, number: int) -> tuple[Path, Computed]:
    table, stage = list(PARTS.items())[number % len(PARTS)]
    shard = world.shards()[number % len(world.shards())]
    return world.root / "store" / "tables" / table / f"{shard:05d}.parquet", {(stage, shard)}


def deleted(world: World, number: int) -> Computed:
    path, computed = part(world, number)
    path.unlink()
    return computed


def cut_short(world: World, number: int) -> Computed:
    path, computed = part(world, number)
    path.write_bytes(path.read_bytes()[:-(1 + number % 50)])
    return computed


def catalogue_lost(world: World, number: int) -> Computed:
    (world.root / "store/tables/tracks/00000.parquet").unlink()
    return {("ingest", 0)}                                # the shards are as they were


EDITS: tuple[Callable[[World, int], Computed], ...] = (
    nothing, other_audio, touched, moved, other_words, new_song, cut_differently, trim_differently,
    other_threshold, how_not_what, deleted, cut_short, catalogue_lost)

SETTINGS = (cut_differently, trim_differently, other_threshold, how_not_what)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose parts are all there."""
    world = World(tmp_path_factory.mktemp("world"))
    for name in NAMES:
        write_song(world.music, name)
    assert world.refresh() == {("ingest", 0)} | all_of(AUDIO + WORDS, [0, 1, 2])
    return world


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_each_edit(fresh: World, edit: Callable[[World, int], Computed]) -> None:
    _check(fresh, [(edit, 3)])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edits=st.lists(st.tuples(st.sampled_from(EDITS), st.integers(0, 400)), min_size=2, max_size=3))
def test_any_edits(fresh: World, edits: list[tuple[Callable[[World, int], Computed], int]]) -> None:
    _check(fresh, edits)


def _check(fresh: World, edits: list[tuple[Callable[[World, int], Computed], int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        # Copied with its times, at the same place for the store as for the music: both are the world.
        world = World(Path(folder) / "world")
        shutil.copytree(fresh.root, world.root)
        world.settings = {}
        before = world.refresh()
        # the music lies elsewhere now, so its URLs changed; its bytes did not
        assert before <= {("ingest", 0)} | all_of(("fetch_audio", "fetch_lyrics"), [0, 1, 2])
        for edit, number in edits:
            had = world.config
            expected = edit(world, number)
            computed = world.refresh()
            if edit in SETTINGS and world.config == had:
                expected = set()                          # set to what it was already
            assert computed == expected, edit.__name__
            assert world.refresh() == set(), f"after {edit.__name__} there was still something to do"


def test_a_part_made_again_holds_the_same(fresh: World, tmp_path: Path) -> None:
    root = tmp_path / "world"
    shutil.copytree(fresh.root, root)
    world = World(root)
    world.refresh()
    before = contents(world.store)
    for path in sorted((root / "store/tables").rglob("*.parquet"))[::3]:
        # tracks, lost together with a shard's outcomes, would take the shard's number along
        if path.parent.name != "tracks":
            path.unlink()
    world.refresh()
    assert contents(world.store) == before


def test_a_store_remembers_what_it_was_made_from(fresh: World, tmp_path: Path) -> None:
    root = tmp_path / "world"
    shutil.copytree(fresh.root, root)
    world = World(root)
    world.refresh()
    nowhere = configured(world.music, root / "store", sources={"folder": None})
    assert refresh(nowhere) == set()
