"""A catalogue is searchable while a long run goes on: shards embedded so far answer, and say how many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import simsong
from simsong.config import Config
from simsong.errors import StoreError
from simsong.parts.stages import MFCC, RunContext
from storage.store import Store
from tasks.base import Done
from tasks.embed import embed
from tasks.fetch_audio import fetch_audio
from tasks.ingest import ingest
from tasks.segments import cut_segments
from tasks.trim import trim
from tests.cli.test_cli import simsong as command
from tests.search.test_neighbours import published
from tests.small_world import configured, refresh, write_song

SONGS = 5           # in three shards


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for number in range(SONGS):
        write_song(tmp_path / "music", f"a{number}", lyrics=None)
    return configured(tmp_path / "music", tmp_path / "store")


def run_until(config: Config, shards: int) -> None:
    """A run that was ended when so many shards were embedded, before anything was published."""
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        catalogue = ingest.fn(run=run)
        for shard in catalogue.shards[:shards]:
            given = Done(stage="ingest", shards=(shard,))
            for stage in (fetch_audio, trim, cut_segments):
                stage.fn(done=given, run=run)
            embed.fn(done=given, run=run, labels=[MFCC])


def test_a_first_run_answers_by_what_is_embedded(config: Config) -> None:
    run_until(config, 0)
    with pytest.raises(StoreError, match="nothing is published yet, and no song is embedded"):
        simsong.open(config.store).similar("song of a0")
    run_until(config, 2)
    songs = simsong.open(config.store)
    assert len(songs) == 4
    names = sorted(row["title"] for row in songs.sql("SELECT title FROM tracks"))
    there = next(name for name in names if _is_there(songs, name))
    ranking = songs.similar(there, k=10)
    assert len(ranking) == 3
    assert ranking.notes[-1].startswith("4 of 5 songs are embedded so far; a run goes on")
    assert "4 of 5 songs are embedded so far" in command("similar", there, "--store", config.store).stderr
    refresh(config)
    published(Store.open(config.store))
    whole = simsong.open(config.store)
    again = whole.similar(there, k=10)
    assert len(whole) == 5 and not again.notes


def test_a_grown_catalogue_answers_with_what_is_new(config: Config, tmp_path: Path) -> None:
    refresh(config)
    published(Store.open(config.store))
    before = simsong.open(config.store)
    ids = [row["track_id"] for row in before.sql("SELECT track_id FROM songs")]
    vectors = {track_id: before.embedding(track_id) for track_id in ids}
    for number in range(5, 9):
        write_song(tmp_path / "music", f"a{number}", lyrics=None)
    run_until(config, 4)
    songs = simsong.open(config.store)
    assert SONGS < len(songs) < 9
    assert all(np.allclose(songs.embedding(one), vector, atol=1e-6) for one, vector in vectors.items())
    new = next(f"song of a{number}" for number in range(5, 9) if _is_there(songs, f"song of a{number}"))
    ranking = songs.similar(new, k=20)
    assert len(ranking) == len(songs) - 1
    assert ranking.notes[0].startswith(f"{len(songs)} of 9 songs are embedded so far; a run goes on")


def _is_there(songs: simsong.Songs, title: str) -> bool:
    try:
        songs.embedding(title)
    except Exception:
        return False
    return True

