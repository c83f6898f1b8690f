"""A song is decoded once in a run, whoever hears it; a stage that runs alone decodes by itself, to the same
samples."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.running import running
from simsong.audio.decode import files_decoded
from simsong.config import Config
from simsong.parts.stages import RunContext
from storage.store import Store
from tasks.base import Done
from tasks.features import features
from tasks.fetch_audio import fetch_audio
from tasks.segments import cut_segments
from tasks.traits import traits
from tasks.trim import trim
from tests.audio.test_audio_shared import open_sounds
from tests.checkpoints import install_musicnn
from tests.small_world import configured, contents, refresh, write_song

SONGS = 5       # in three shards
TABLES = {"trim": "trims", "segments": "segments"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for number in range(SONGS):
        write_song(tmp_path / "music", f"a{number}", lyrics=None)
    return configured(tmp_path / "music", tmp_path / "store",
                      trim={"mode": "fixed", "intro_s": 0.5, "outro_s": 0.0})


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    install_musicnn()


def decoded_in(config: Config, *stages: Any) -> int:
    before = files_decoded()
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        for shard in range(3):
            for stage in stages:
                stage.fn(done=Done(stage="ingest", shards=(shard,)), run=run)
    return files_decoded() - before


def test_a_song_is_decoded_once_for_all_stages(config: Config) -> None:
    before = files_decoded()
    refresh(config)
    assert files_decoded() - before == SONGS


def test_a_pretrained_network_hears_the_same_decoding(config: Config, network: None) -> None:
    refresh(config)
    shutil.rmtree(Path(config.store) / "tables/audio")
    shutil.rmtree(Path(config.store) / "tables/outcomes")
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        before = files_decoded()
        for shard in range(3):
            for stage in (fetch_audio, trim, features, cut_segments):
                done = stage.fn(done=Done(stage="ingest", shards=(shard,)), run=run)
                assert done.parts_computed == 1 and done.ok
    assert files_decoded() - before == SONGS


@pytest.mark.parametrize("stage", [trim, cut_segments], ids=["trim", "segments"])
def test_a_stage_alone_decodes_again_to_the_same(config: Config, stage: Any) -> None:
    refresh(config)
    before = contents(Store.open(config.store))
    shutil.rmtree(Path(config.store) / f"tables/{TABLES[stage.name]}")
    assert decoded_in(config, stage) == SONGS
    assert contents(Store.open(config.store)) == before


def test_trims_anew_decode_once_with_the_segments(config: Config, tmp_path: Path) -> None:
    refresh(config)
    later = configured(tmp_path / "music", tmp_path / "store", trim={"mode": "fixed", "intro_s": 1.0,
                                                                      "outro_s": 0.0})
    assert decoded_in(later, trim, cut_segments) == SONGS


def test_nothing_is_decoded_where_nothing_is_new(config: Config) -> None:
    refresh(config)
    before = files_decoded()
    assert refresh(config) == set() and files_decoded() == before


def test_a_file_that_changes_in_between_is_heard_as_it_was_fetched(config: Config, tmp_path: Path) -> None:
    """What the table `audio` has the digest of, and not what lies there by now."""
    refresh(config)
    before = contents(Store.open(config.store))
    for table in ("audio", "trims", "segments", "outcomes"):
        shutil.rmtree(Path(config.store) / f"tables/{table}")
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        for shard in range(3):
            shards = Done(stage="ingest", shards=(shard,))
            fetch_audio.fn(done=shards, run=run)
            for file in (tmp_path / "music").rglob("*.wav"):
                kept = file.read_bytes()
                file.write_bytes(np.random.default_rng(0).bytes(len(kept)))
                file.with_suffix(".kept").write_bytes(kept)
            for stage in (trim, cut_segments):
                stage.fn(done=shards, run=run)
            for file in (tmp_path / "music").rglob("*.kept"):
                file.replace(file.with_suffix(".wav"))
    after = contents(Store.open(config.store))
    for table in ("audio", "trims", "segments"):
        parts = [key for key in before if key.startswith(f"tables/{table}/")]
        assert parts and all(after[key] == before[key] for key in parts)


def test_sounds_are_let_go_when_no_stage_needs_them_any_more(config: Config) -> None:
    refresh(config)
    shutil.rmtree(Path(config.store) / "tables/audio")
    shutil.rmtree(Path(config.store) / "tables/outcomes/stage=fetch_audio")
    assert decoded_in(config, fetch_audio) == SONGS
    folder = Path(config.store) / "work/sounds"
    assert open_sounds(folder), "for the stages that come"
    assert decoded_in(config, trim, cut_segments, traits) == 0
    assert not open_sounds(folder), "though no stage had to hear them again"


def test_sounds_end_with_their_run(config: Config) -> None:
    refresh(config)
    shutil.rmtree(Path(config.store) / "tables/audio")
    shutil.rmtree(Path(config.store) / "tables/outcomes/stage=fetch_audio")
    with running("refresh", None, {"store": config.store}, False):
        decoded_in(config, fetch_audio)
        assert open_sounds(Path(config.store) / "work/sounds")
    assert not open_sounds(Path(config.store) / "work/sounds")
