"""Every song of the catalogue is embedded, failed for a reason, or pending; one that is lost is found out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import soundfile

from simsong.care.account import CHAIN, account
from simsong.config import Config
from simsong.errors import SongsLost
from simsong.parts.song_audio import forget_sounds
from simsong.parts.stages import RunContext
from storage.store import Store
from tasks.ingest import ingest
from tests.small_world import configured, refresh, write_song


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Three songs, of which one is silent."""
    for name in ("ann", "bob"):
        write_song(tmp_path / "music", name)
    silent = write_song(tmp_path / "music", "cid")
    soundfile.write(silent, np.zeros(3 * 16_000, np.float32), 16_000)
    config = configured(tmp_path / "music", tmp_path / "store", pretrained={"network": "none"},
                        run={"may_shrink": True})
    refresh(config)
    return config


def test_songs_are_embedded_or_failed_for_a_reason(config: Config) -> None:
    counts = account(Store.open(config.store))
    assert (counts.found, counts.embedded, counts.failed, counts.pending.total()) == (3, 2, {"silent": 1}, 0)
    assert str(counts) == "3 songs found = 2 embedded + 1 failed (1 silent) + 0 pending"
    counts.check()


def test_new_and_changed_songs_are_pending_until_they_are_looked_at(config: Config, tmp_path: Path) -> None:
    write_song(tmp_path / "music", "dan")
    with Store.writing(config.store) as store:
        assert store.generation is not None
        ingest.fn(run=RunContext(config=config, generation=store.generation))
    counts = account(Store.open(config.store))
    assert (counts.found, counts.embedded, counts.pending) == (4, 2, {"not yet fetch_audio": 1})
    counts.check()
    forget_sounds()
    refresh(config)
    counts = account(Store.open(config.store))
    assert (counts.embedded, counts.pending.total()) == (3, 0)


@pytest.mark.parametrize("stage", CHAIN)
def test_a_song_that_a_stage_has_dropped_is_found_out(config: Config, stage: str) -> None:
    store = Store.open(config.store)
    shard = store.shards("outcomes", stage)[0]
    rows = store.read("outcomes", shard, partition=stage)
    footer = store.footers("outcomes", shard, stage)[0]
    ok = rows.filter(pc.field("status") == "ok")["track_id"].to_pylist()
    with Store.writing(config.store) as writer:
        writer.write("outcomes", [rows.filter(pc.field("track_id") != ok[0])], footer.identity, shard=shard,
                     partition=stage, facts=footer.facts)
    counts = account(store)
    assert counts.lost == [f"{ok[0]} at {stage.partition('-')[0]}"] and not counts.holds
    with pytest.raises(SongsLost, match=ok[0]):
        counts.check()


def test_a_run_that_loses_songs_fails(config: Config, prefect: None) -> None:
    """A stage's part that lacks a song, and says that it is whole."""
    from flows.pipeline import rerun

    store = Store.open(config.store)
    shard = store.shards("outcomes", "segments")[0]
    rows, footer = store.read("outcomes", shard, partition="segments"), store.footers(
        "outcomes", shard, "segments")[0]
    with Store.writing(config.store) as writer:
        writer.write("outcomes", [rows.slice(1)], footer.identity, shard=shard, partition="segments",
                     facts=footer.facts)
    settings = config.model_dump(mode="json", exclude_defaults=True)
    with pytest.raises(SongsLost):
        rerun(None, settings, stages=["trim"])
