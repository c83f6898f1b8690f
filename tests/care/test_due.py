"""What a run would compute and why is told before, and is what it computes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from simsong.care.due import changed, due
from simsong.config import Config
from simsong.parts.stages import FOLLOWED_BY, FUNNEL, STAGES, stages_from
from storage.store import Store
from tests.small_world import configured, refresh, write_song

SHARD_STAGES = set(STAGES) - {"features"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for name in ("ann", "bob", "cid"):
        write_song(tmp_path / "music", name)
    config = configured(tmp_path / "music", tmp_path / "store", pretrained={"network": "none"})
    refresh(config)
    return config


def told(config: Config, *stages: str, shards: list[int] | None = None) -> dict[tuple[str, int | None], str]:
    parts = due(Store.open(config.store), config, stages or SHARD_STAGES, shards)
    return {(one.stage, one.shard): one.why for one in parts}


def test_every_stage_is_followed_by_known_ones() -> None:
    assert FOLLOWED_BY.keys() == set(FUNNEL)
    assert {name for names in FOLLOWED_BY.values() for name in names} <= set(FUNNEL)
    for stage in STAGES.values():           # what a stage reads, it follows
        for table in stage.reads.keys() - {"tracks"}:
            writer = next(other.name for other in STAGES.values() if table in other.writes)
            assert stage.name in stages_from(writer)
    following = stages_from("segments")
    assert following > {"segments", "train", "embed", "soundprints", "choose", "export", "evaluate", "report"}
    assert not following & {"ingest", "fetch_audio", "fetch_lyrics", "trim", "features", "embed_lyrics"}


def test_nothing_is_due_of_what_is_whole(config: Config) -> None:
    assert told(config) == {}


def test_a_setting_is_named_and_what_follows_it(config: Config) -> None:
    settings = config.trim.model_copy(update={"mode": "fixed", "intro_s": 1.0})
    trim = config.model_copy(update={"trim": settings})
    reasons = told(trim)
    assert reasons["trim", 0] == "trim.intro_s: 5.0 → 1.0; trim.mode: none → fixed"
    assert {key for key, why in reasons.items() if why == "follows trim"} == {("segments", 0),
                                                                              ("segments", 1)}
    assert reasons.keys() == {(stage, shard) for stage in ("trim", "segments", "embed", "soundprints")
                              for shard in (0, 1)}
    assert told(trim, "trim", shards=[1]).keys() == {("trim", 1)}
    computed = refresh(trim)
    assert computed - {("ingest", 0)} <= reasons.keys() and {("trim", 0), ("trim", 1)} <= computed
    assert told(trim) == {}


def test_rows_and_songs_are_told(config: Config, tmp_path: Path) -> None:
    write_song(tmp_path / "music", "dan")
    parts = list(due(Store.open(config.store), config, {"ingest", *SHARD_STAGES}, None))
    assert (parts[0].stage, parts[0].why) == ("ingest", "sources or [catalogue] have changed")
    write_song(tmp_path / "music", "bob", seed=7)
    from simsong.parts.song_audio import forget_sounds
    from simsong.parts.stages import RunContext
    from tasks.ingest import ingest

    with Store.writing(config.store) as store:
        assert store.generation is not None
        ingest.fn(run=RunContext(config=config, generation=store.generation))
    forget_sounds()
    parts = list(due(Store.open(config.store), config, {"fetch_audio"}, None))
    assert sum(one.songs or 0 for one in parts) == 2
    made_from = {"version": 1, "settings": {}, "inputs": {"audio": "a", "tracks": "b"}}
    now = {**made_from, "inputs": {"audio": "a", "tracks": "c"}}
    assert changed(made_from, now) == "rows of tracks changed"


def test_a_version_and_parts_of_before_are_told(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = dataclasses.replace(STAGES["trim"], version=99)
    monkeypatch.setitem(STAGES, "trim", newer)
    assert told(config, "trim")["trim", 0] == f"version {3} → 99"
    assert "not written down" in changed(None, {})


def test_a_part_that_is_gone_is_told(config: Config) -> None:
    with Store.writing(config.store) as store:
        store.delete_part("trims", 1)
    assert "trims/00001.parquet" in told(config, "trim")["trim", 1]
