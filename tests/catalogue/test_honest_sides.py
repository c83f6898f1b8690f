"""Nothing that training heard asks or answers as unheard: artists by all their spellings, recordings by all
their tracks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from simsong.artists import main_artist
from simsong.catalogue.recordings import Recordings
from simsong.catalogue.songs import similars_of, truths_of
from simsong.config import Config
from simsong.config_loader import load
from simsong.datasets.evaluation import Embeddings, held_out_of, songs_of
from simsong.datasets.training import DUPLICATE, prior_of, training_choice
from simsong.evaluation.evaluate import evaluate_queries
from simsong.registry import models, trained_on
from simsong.registry.planned import Planned, plan_model, record, training_inputs
from simsong.registry.trained_on import HELD_OUT, TRAINED
from storage.store import Store

ARTISTS = 40
SPELLINGS = ("{a}", "The {a}", "{a} feat. {b}", "{a} & {b}", "{u}", "{a} (feat. {b})")
# Every artist's songs: one a spelling, each with an id of its own; then two more tracks of the first one's
# recording, one by the same artist, and one by another, who is credited first there.
AGAIN = (("{a}", "same"), ("{b} feat. {a}", "other"))


def catalogue() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for n in range(ARTISTS):
        names = {"a": f"Band {n}q", "b": f"Band {(n + 7) % ARTISTS}q", "u": f"BAND-{n}Q"}
        for k, spelling in enumerate((*SPELLINGS, *(again for again, _ in AGAIN))):
            first = f"T{n:02d}0" if k >= len(SPELLINGS) else None
            name = spelling.format(**names)
            rows.append({"track_id": f"T{n:02d}{k}", "artist_id": f"ID {name}", "artist": name,
                         "title": f"song {k}", "source": "table", "shard": k % 3, "duplicate_of": first})
    return rows


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store.writing(str(tmp_path / "store")) as store:
        written(store, catalogue())
        yield store


def written(store: Store, tracks: list[dict[str, Any]]) -> None:
    store.write("tracks", [tracks], "id")
    for shard in range(3):
        ids = sorted(row["track_id"] for row in tracks if row["shard"] == shard)
        store.write("segments", ([{"track_id": i, "segment": n, "start_s": float(n), "end_s": n + 1.0,
                                   "audio": b""} for n in range(2)] for i in ids), "id", shard=shard)
        vectors = [{"track_id": i, "embedding": np.random.default_rng(int(i[1:])).normal(size=4)}
                   for i in ids]
        store.write("track_embeddings", [vectors], "id", shard=shard, partition="mfcc-2")


def settled(store: Store, **training: Any) -> Config:
    return load(None, {"store": store.backend.url, "evaluation": {"bootstrap": 100},
                       "training": {"held_out": 0.3, "validation": 0.2, "losses": ["ns"], **training}}, {})


def main_of(store: Store) -> dict[str, str]:
    return {row["track_id"]: str(main_artist(row["artist"])) for row in store.read("tracks").to_pylist()}


def recordings(store: Store) -> dict[str, str]:
    return {row["track_id"]: row["duplicate_of"] or row["track_id"]
            for row in store.read("tracks").to_pylist()}


@pytest.mark.parametrize("seed", range(5))
def test_artists_and_recordings_are_on_one_side(store: Store, seed: int) -> None:
    config = settled(store, split_seed=seed)
    choice, main, recording = training_choice(store, config), main_of(store), recordings(store)
    train, validation = set(choice.train), set(choice.validation)
    heard = {i for i, use in choice.use.items() if use != HELD_OUT}
    left = set(main) - heard
    assert len(train) > 60 and len(validation) > 20 and len(left) > 60
    # an artist is held out with all spellings or with none
    held_out = {main[i] for i in left if recording[i] == i and main[i] not in
                {main[j] for j in train | validation}}
    assert choice.about["held_out_artists"] == len(held_out) >= 4
    assert not held_out & {main[i] for i in heard}
    assert {main[i] for i in train}.isdisjoint({main[i] for i in validation})
    assert choice.about["artists"] == len({main[i] for i in train})
    # no recording of which any track is by a held-out artist is heard
    of_held_out = {recording[i] for i in main if main[i] in held_out}
    assert not of_held_out & {recording[i] for i in heard}
    # of every other, one track at most, on one side
    used = [recording[i] for i in [*train, *validation]]
    assert len(used) == len(set(used))
    assert list(choice.use.values()).count(DUPLICATE) == choice.about["duplicates"] > 20
    assert all(recording[i] in used for i, use in choice.use.items() if use == DUPLICATE)


def test_a_catalogue_that_grows_moves_no_artist(store: Store) -> None:
    config, main = settled(store, validation=0.0), main_of(store)
    unheard = {i for i, use in training_choice(store, config).use.items() if use == HELD_OUT}
    more = [{"track_id": f"U{n:02d}0", "artist_id": f"ID new {n}", "artist": f"the Band {n}q w/ Others",
             "title": f"new {n}", "source": "table", "shard": 2} for n in range(ARTISTS)]
    written(store, catalogue() + more)
    use = training_choice(store, config).use
    assert {i for i in main if use[i] == HELD_OUT} == unheard
    held_out = {main[i] for i in unheard} - {main[i] for i in main if i not in unheard}
    for row in more:
        assert (use[row["track_id"]] == HELD_OUT) == (main_artist(row["artist"]) in held_out)


def test_negatives_priors_know_artists_by_all_spellings(store: Store) -> None:
    config = settled(store, priors={"lyrics": 0, "artist": 1})
    main = main_of(store)
    ids = sorted(training_choice(store, config).train)
    prior, warnings = prior_of(store, config, ids)
    assert prior is not None and not warnings
    same = np.array([[main[a] == main[b] for b in ids] for a in ids])
    np.testing.assert_array_equal(prior.matrix(np.arange(len(ids))).numpy() == 1, same)


def test_who_sings_and_what_is_one_recording_counts_for_training_again(store: Store) -> None:
    config = settled(store)

    def changed(sides: bool, **of_one: Any) -> int | None:
        """Of a training of the catalogue as it is, once a song is told otherwise."""
        written(store, catalogue())
        planned = plan_model(store, config, "ns")
        rows = store.read("tracks", columns=["track_id", "shard"]).to_pylist()
        inputs = [(shard, training_inputs(store, config, "ns", shard),
                   {row["track_id"]: None for row in rows if row["shard"] == shard}) for shard in range(3)]
        facts = planned.facts if sides else {k: v for k, v in planned.facts.items() if k != "sides"}
        known = Recordings.of(store) if sides else None
        trained_on.write_tracks(store, planned.label, training_choice(store, config).use, inputs, known)
        record(store, Planned("ns", planned.version, facts), 1)
        models.follow(store, "ns", planned.version)
        songs_by_id = {**{row["track_id"]: row for row in catalogue()}}
        songs_by_id["T031"] |= of_one
        store.write("tracks", [list(songs_by_id.values())], "id")
        return plan_model(store, config, "ns").changed

    assert changed(True) == 0
    assert changed(True, artist="BAND 3q (feat. Nobody)") == 0, "another spelling of the same"
    assert changed(True, artist="Zoe") == changed(True, duplicate_of="T030") == 1
    assert changed(True, artist="Band 4q") == 1
    assert changed(False, artist="Zoe") == 0, "a training of before is not made again for that"


def train_on(store: Store, ids: list[str]) -> None:
    trained_on.write_tracks(store, "ns-aa1", dict.fromkeys(ids, TRAINED))
    record(store, Planned("ns", "aa1", {"settings": "s", "inputs": {}, "tables": {}}), len(ids))
    models.follow(store, "ns", "aa1")


def test_what_a_model_heard_before_counts_by_all_spellings_and_tracks(store: Store) -> None:
    """Of a store split by ids: "X feat. Y" was trained on while "X" was held out."""
    config, main = settled(store), main_of(store)
    train_on(store, ["T002", "T011", "T207"])         # T207 is T200 again, with Band 27 credited first
    songs = songs_of(store)
    held_out = held_out_of(store, config, songs)
    assert held_out is not None
    heard = {main[i] for i, out in zip(songs.track_ids, held_out, strict=True) if not out}
    assert heard == {"band0q", "band1q", "band20q", "band27q"}
    train_on(store, sorted(main))
    assert held_out_of(store, config, songs) is None


def test_a_recording_asks_and_answers_once(store: Store) -> None:
    config, main, recording = settled(store), main_of(store), recordings(store)
    songs = songs_of(store)
    assert sorted(songs.track_ids) == sorted(set(recording.values()))
    assert held_out_of(store, config, songs) is None
    embeddings = Embeddings(store, config, songs)
    truths = truths_of(store, config, songs)[:1]
    assert truths[0].name == "same artist"
    figures, queries = evaluate_queries(embeddings, songs, truths, None, config.evaluation)
    assert figures["protocol"]["candidates"] == figures["protocol"]["queries"] == ARTISTS * len(SPELLINGS)
    assert set(queries["query"].to_pylist()) == set(songs.track_ids)
    # relevant are the songs by all spellings, and none of the query's own recording
    assert set(queries["n_relevant"].to_pylist()) == {len(SPELLINGS) - 1}
    for query, rows in zip(songs.track_ids, truths[0].relevant, strict=True):
        others = [str(songs.track_ids[row]) for row in rows.tolist()]
        assert {main[i] for i in others} == {main[query]}
    assert len(set(songs.artist_ids)) == ARTISTS
    filtered = queries.filter(queries["artist_filter"])
    assert not filtered.num_rows                        # the artist filter leaves nothing of this truth


def test_similars_of_any_track_of_a_recording_count_for_it(store: Store) -> None:
    store.write("similars", [pa.table({
        "track_id": ["T006", "T007", "T000", "T000", "T010"],
        "similar_id": ["T020", "T026", "T006", "T037", "T000"], "score": np.ones(5, np.float32)})], "id")
    config = settled(store)
    songs = songs_of(store)
    truth = similars_of(store, config, songs)
    relevant_ids = {query: [songs.track_ids[row] for row in rows] for query, rows
                    in zip(songs.track_ids, truth.relevant, strict=True) if len(rows)}
    assert relevant_ids == {"T000": ["T020", "T030"], "T010": ["T000"]}


def test_a_recording_whose_first_track_is_not_embedded_is_there_by_another(store: Store) -> None:
    rows = [row for row in catalogue() if row["track_id"] != "T000"]
    written(store, rows)
    store.write("tracks", [catalogue()], "id")
    ids = set(songs_of(store).track_ids)
    assert "T006" in ids and not ids & {"T000", "T007"}


def test_nobodys_songs_are_by_nobody(store: Store) -> None:
    rows = [{"track_id": f"V{n:02d}0", "artist_id": "AR9", "artist": name, "title": f"song {n}",
             "source": "table", "shard": 0} for n, name in enumerate(["Various Artists"] * 20 + ["VA"] * 20)]
    written(store, catalogue() + rows)
    config = settled(store)
    use = training_choice(store, config).use
    own = [use[row["track_id"]] != HELD_OUT for row in rows]
    assert 0 < sum(own) < len(own)                      # each on a side of its own
    songs = songs_of(store)
    truth = truths_of(store, config, songs)[0]
    assert not truth.queries[[songs.track_ids.index(row["track_id"]) for row in rows]].any()
