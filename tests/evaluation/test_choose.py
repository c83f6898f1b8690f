"""What is published is chosen on artists that validate, by an interval, never on those that are reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from simsong.config import Config
from simsong.config_loader import load
from simsong.datasets.evaluation import songs_of
from simsong.parts.stages import MFCC, RunContext
from simsong.registry import models, trained_on
from simsong.registry.planned import Planned, record
from simsong.registry.published import published
from simsong.registry.trained_on import HELD_OUT, TRAINED, VALIDATED
from storage.exports import read_published
from storage.reports import CHOICE
from storage.store import Store
from tasks.choose import choice_of, choose
from tasks.export import export

ARTISTS, SONGS, DIM = 40, 4, 16
USES = {**dict.fromkeys(range(12), HELD_OUT), **dict.fromkeys(range(12, 24), VALIDATED),
        **dict.fromkeys(range(24, ARTISTS), TRAINED)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.writing(str(tmp_path / "store")) as store:
        yield store


def settled(store: Store, **publish: str) -> Config:
    return load(None, {"store": store.backend.url, "pretrained": {"network": "none"}, "publish": publish,
                       "evaluation": {"bootstrap": 200}, "training": {"losses": ["ns"]}}, {})


def written(store: Store, mfcc: dict[str, float], ns: dict[str, float]) -> None:
    """Songs whose embeddings are to some share the artist's own: by what the artist's songs are used for."""
    rng = np.random.default_rng(0)
    ids = [f"T{artist:02d}{song}" for artist in range(ARTISTS) for song in range(SONGS)]
    store.write("tracks", [[{"track_id": i, "artist_id": f"A{i[1:3]}", "artist": f"Artist {i[1:3]}",
                             "title": f"song {i}", "source": "table", "shard": 0} for i in ids]], "id")
    store.write("segments", ([{"track_id": i, "segment": 0, "start_s": 0.0, "end_s": 1.0, "audio": b""}]
                             for i in ids), "id", shard=0)
    for label, share in ((MFCC, mfcc), ("ns-aa1", ns)):
        of = rng.normal(size=(ARTISTS, DIM))
        rows = []
        for i in ids:
            own = share.get(USES[int(i[1:3])], 0.0)
            vector = own * of[int(i[1:3])] + (1 - own) * rng.normal(size=DIM)
            rows.append({"track_id": i, "embedding": 1000 * vector + 50 if label == MFCC else vector})
        store.write("track_embeddings", [rows], "id", shard=0, partition=label)
        store.write("segment_embeddings", [[{**row, "segment": 0} for row in rows]], "id", shard=0,
                    partition=label)
    trained_on.write_tracks(store, "ns-aa1", {i: USES[int(i[1:3])] for i in ids})
    record(store, Planned("ns", "aa1", {"settings": "s", "inputs": {}, "tables": {}}), len(ids))
    models.follow(store, "ns", "aa1")


def chosen(store: Store) -> list[str]:
    config = settled(store)
    choice = choice_of(store, config, songs_of(store))
    assert choice["queries"] >= 40 and set(choice["scores"]) == {"mfcc", "ns", "ns+mfcc"}
    return choice["methods"]


def test_what_learns_nothing_is_published_where_it_is_better(store: Store) -> None:
    written(store, {VALIDATED: 0.8}, {VALIDATED: 0.1})
    assert "mfcc" in chosen(store)


@pytest.mark.parametrize("use", [HELD_OUT, TRAINED])
def test_other_artists_do_not_choose(store: Store, use: str) -> None:
    """They are whom the report asks about, or whom a model knows by heart."""
    written(store, {use: 0.9}, {VALIDATED: 0.4})
    assert chosen(store) == ["ns"]


def test_what_may_be_chance_changes_nothing(store: Store) -> None:
    written(store, {}, {})
    choice = choice_of(store, settled(store), songs_of(store))
    assert choice["methods"] == ["ns"] and choice["why"] == "nothing is surely above ns"


def test_where_none_validate_nothing_is_compared(store: Store) -> None:
    written(store, {VALIDATED: 0.9}, {})
    ids = songs_of(store).track_ids
    trained_on.write_tracks(store, "ns-aa1", dict.fromkeys(ids, TRAINED))
    choice = choice_of(store, settled(store), songs_of(store))
    assert choice["methods"] == ["ns"] and not choice["queries"]


def test_where_nothing_was_trained_what_learns_nothing_is_published(store: Store) -> None:
    written(store, {}, {})
    store.delete("models/ns/promoted.json")
    assert store.generation is not None
    run = RunContext(config=settled(store), generation=store.generation)
    choose.fn(run=run, after=[])
    assert export.fn(run=run, after=[]).ok == ARTISTS * SONGS
    assert read_published(store).model == MFCC


def test_joined_vectors_are_exported_each_of_one_length(store: Store) -> None:
    written(store, {VALIDATED: 0.42}, {VALIDATED: 0.4})
    assert store.generation is not None
    run = RunContext(config=settled(store), generation=store.generation)
    choose.fn(run=run, after=[])
    assert (store.get_json(CHOICE) or {})["methods"] == ["ns", "mfcc"]
    assert choose.fn(run=run, after=[]).parts_computed == 0
    assert published(store, run.config) == ("ns-aa1", MFCC)
    export.fn(run=run, after=[])
    result = read_published(store)
    assert result.model.startswith("joined-") and result.parts == ("ns-aa1", MFCC)
    assert result.embeddings.shape == (ARTISTS * SONGS, 2 * DIM)
    halves = np.split(result.embeddings, 2, axis=1)
    for half in halves:
        np.testing.assert_allclose(np.linalg.norm(half, axis=1), np.sqrt(0.5), rtol=1e-5)
    # as evaluation standardises MFCC statistics, whose mean lies far from 0 here
    assert abs(halves[1].mean()) < 0.01
    # the choice is of "auto" alone
    assert published(store, settled(store, model="ns")) == ("ns-aa1",)
    assert published(store, settled(store, model="mfcc")) == (MFCC,)
