"""What is published stays where another is surely worse, switches in one step, and can be rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from simsong.care.prune import prunable
from simsong.errors import ModelError
from simsong.parts.stages import MFCC, RunContext
from simsong.registry import models, trained_on
from simsong.registry.planned import Planned, record
from simsong.registry.published import published, roll_back
from simsong.registry.trained_on import HELD_OUT, TRAINED, VALIDATED
from storage.exports import CURRENT, read_published
from storage.reports import GATE
from storage.store import Store
from tasks.base import Done
from tasks.choose import choose
from tasks.export import export
from tests.evaluation.test_choose import ARTISTS, DIM, SONGS, USES, settled, written


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Published is a model that knows the artists that validate, by half."""
    with Store.writing(str(tmp_path / "store")) as store:
        written(store, {}, {VALIDATED: 0.5})
        assert export_with(store) and read_published(store).model == "ns-aa1"
        yield store


def export_with(store: Store, **publish: object) -> Done:
    assert store.generation is not None
    run = RunContext(config=settled(store, **publish), generation=store.generation)   # pyright: ignore
    choose.fn(run=run, after=[])
    return export.fn(run=run, after=[])


def trained(store: Store, version: str, share: dict[str, float], uses: dict[int, str] = USES) -> None:
    """Another version, promoted by its training."""
    rng = np.random.default_rng(1)
    of = rng.normal(size=(ARTISTS, DIM))
    rows = []
    ids = [f"T{artist:02d}{song}" for artist in range(ARTISTS) for song in range(SONGS)]
    for i in ids:
        own = share.get(USES[int(i[1:3])], 0.0)
        rows.append({"track_id": i, "embedding": own * of[int(i[1:3])] + (1 - own) * rng.normal(size=DIM)})
    label = f"ns-{version}"
    store.write("track_embeddings", [rows], "id", shard=0, partition=label)
    store.write("segment_embeddings", [[{**row, "segment": 0} for row in rows]], "id", shard=0,
                partition=label)
    trained_on.write_tracks(store, label, {i: uses[int(i[1:3])] for i in ids})
    store.put(f"models/ns/{version}/model.safetensors", b"weights")
    facts = {"settings": "s", "inputs": {}, "tables": {}}
    record(store, Planned("ns", version, facts), len(ids))
    models.follow(store, "ns", version)


def test_a_worse_model_is_refused_until_it_is_told_otherwise(store: Store) -> None:
    trained(store, "bb2", {VALIDATED: 0.1})
    export_with(store)
    assert read_published(store).model == "ns-aa1"
    verdict = store.get_json(GATE) or {}
    assert verdict["refused"] and verdict["new"] == ["ns-bb2"] and verdict["difference"]["high"] < 0
    assert export_with(store).parts_computed == 0, "it is refused once"
    config = settled(store)
    assert published(store, config) == ("ns-aa1",)
    assert store.generation is not None
    assert "ns-bb2" in models.embedding_labels(RunContext(config=config, generation=store.generation))
    export_with(store, gate=False)
    assert read_published(store).model == "ns-bb2"


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_one_as_good_or_better_follows(store: Store, share: float) -> None:
    trained(store, "bb2", {VALIDATED: share})
    export_with(store)
    assert read_published(store).model == "ns-bb2"
    assert not (store.get_json(GATE) or {})["refused"]
    assert [export["model"] for export in (store.get_json(CURRENT) or {})["before"]] == ["ns-aa1"]
    assert export_with(store).parts_computed == 0


def test_artists_whom_either_model_was_trained_on_do_not_judge(store: Store) -> None:
    """The new one is worse for those who validated with the old one; it itself was trained on them."""
    uses = {artist: TRAINED if use == VALIDATED else use for artist, use in USES.items()}
    trained(store, "bb2", {VALIDATED: 0.1, HELD_OUT: 0.9}, uses)
    export_with(store)
    assert read_published(store).model == "ns-bb2"
    assert (store.get_json(GATE) or {})["queries"] == 0


def test_rolling_back_is_one_step_and_holds(store: Store) -> None:
    trained(store, "bb2", {VALIDATED: 0.8})
    export_with(store)
    assert prunable(store, settled(store)).summary() == {}, "what can be gone back to stays"
    roll_back(store, settled(store))
    assert read_published(store).model == "ns-aa1"
    assert models.promoted(store, "ns") == "ns-aa1"
    export_with(store)
    assert read_published(store).model == "ns-aa1", "the next publish keeps to it"
    with pytest.raises(ModelError, match="nothing was published before"):
        roll_back(store, settled(store))
    models.promote(store, "ns", "latest")
    export_with(store)
    assert read_published(store).model == "ns-bb2"


def test_a_rolled_back_choice_holds_too(store: Store) -> None:
    """What was published before is another method, of which no version can be put to use."""
    store.delete("models/ns/promoted.json")
    export_with(store, gate=False)
    assert read_published(store).model == MFCC
    models.follow(store, "ns", "aa1")
    export_with(store)
    assert read_published(store).model == "ns-aa1"
    roll_back(store, settled(store))
    export_with(store)
    assert read_published(store).model == MFCC
