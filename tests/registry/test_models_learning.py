"""What a training is given: which segments of which songs, what is known of them, what validates."""

from __future__ import annotations

import io
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from simsong.config import Config, TrainingSettings
from simsong.config_loader import load
from simsong.datasets.evaluation import held_out_of, segments_of, songs_of
from simsong.datasets.training import (
    SAME_SONG,
    draw_segments,
    features_of,
    prior_of,
    stands_in,
    training_choice,
)
from simsong.errors import ModelError
from simsong.parts.stages import RunContext, lyric_model_label
from simsong.registry import models, trained_on
from simsong.registry.planned import Planned, record
from simsong.registry.published import published
from simsong.registry.trained_on import TRAINED, VALIDATED
from simsong.training.data import Batches
from simsong.training.split import held_out_artists, validation_artists
from storage.store import Store
from tasks.train import train

SONGS, ARTISTS, SHARD = 120, 40, 50
IDS = [f"T{(37 * i) % SONGS:03d}" for i in range(SONGS)]        # shards hold ids of everywhere
SEGMENTS = 4


def artist(track_id: str) -> str:
    return f"A{int(track_id[1:]) % ARTISTS:02d}"


def flac(track_id: str, number: int) -> bytes:
    """A second of a tone of the song, another for each segment."""
    t = np.arange(16_000) / 16_000
    buffer = io.BytesIO()
    tone = 0.3 * np.sin(2 * np.pi * (200 + 10 * int(track_id[1:]) + 2 * number) * t)
    soundfile.write(buffer, tone, 16_000, format="FLAC")
    return buffer.getvalue()


def settled(root: Path, **sections: dict[str, Any]) -> Config:
    base: dict[str, dict[str, Any]] = {"segments": {"length_s": 1.0, "hop_s": 1.0}, "training": {}}
    merged = {name: {**base.get(name, {}), **sections.get(name, {})} for name in {*base, *sections}}
    return load(None, {"store": str(root), **merged}, {})


def lyrics_of(track_id: str) -> np.ndarray:
    return np.random.default_rng(int(track_id[1:])).normal(size=8).astype(np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 songs by 40 artists in three shards, of four segments each; T000 has one, T001 no lyrics."""
    root = tmp_path_factory.mktemp("learning")
    label = lyric_model_label(settled(root))
    with Store.writing(str(root)) as store:
        store.write("tracks", [[{"track_id": i, "artist_id": artist(i), "artist": artist(i), "title": i,
                                 "source": "table", "shard": at // SHARD} for at, i in enumerate(IDS)]], "id")
        for shard in range(-(-SONGS // SHARD)):
            ids = sorted(IDS[shard * SHARD:(shard + 1) * SHARD])
            rows = ([{"track_id": i, "segment": n, "start_s": float(n), "end_s": n + 1.0, "audio": flac(i, n)}
                     for n in range(1 if i == "T000" else SEGMENTS)] for i in ids)
            store.write("segments", rows, "id", shard=shard)
            store.write("lyric_embeddings", [[{"track_id": i, "embedding": lyrics_of(i)} for i in ids
                                              if i != "T001"]], "id", shard=shard, partition=label)
    return root


def test_the_sides_keep_apart(root: Path) -> None:
    config = settled(root, training={"validation": 0.3, "held_out": 0.3})
    choice = training_choice(Store.open(str(root)), config)
    artists = [artist(i) for i in IDS]
    held_out = held_out_artists(artists, 0.3, 0)
    asking = validation_artists([a for a in artists if a not in held_out], 0.3, 0)
    assert {artist(i) for i in choice.validation} == asking
    assert {artist(i) for i in choice.train} == set(artists) - held_out - asking
    assert choice.truth is not None and choice.truth.name == "same artist"
    assert {len(rows) for rows in choice.validation.values()} == {2}
    assert {i for i, use in choice.use.items() if use == TRAINED} == set(choice.train)
    assert {i for i, use in choice.use.items() if use == VALIDATED} == set(choice.validation)
    left = [i for i, use in choice.use.items() if use == "one_segment"]
    assert left == [i for i in ("T000",) if artist(i) not in held_out | asking]
    assert choice.about["held_out_artists"] == len(held_out)
    assert choice.about["validation_songs"] == len(choice.validation)


def test_too_few_queries_leave_the_songs_to_training(root: Path) -> None:
    config = settled(root, training={"validation": 0.05, "held_out": 0.5})
    choice = training_choice(Store.open(str(root)), config)
    assert choice.truth is None and not choice.validation
    assert set(choice.train) == {i for i in IDS if artist(i) not in held_out_artists(
        [artist(i) for i in IDS], 0.5, 0)} - {"T000"}


def test_similar_songs_are_the_better_truth_and_a_song_the_last(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "store")
    config = settled(tmp_path / "store", training={"validation": 0.3, "held_out": 0.2})
    with Store.writing(config.store) as store:
        before = training_choice(store, config)
        ids = sorted(before.validation)
        pairs = [{"track_id": a, "similar_id": b, "score": 0.5}
                 for a, b in pairwise(ids)][:25]
        store.write("similars", [pairs], "id")
        choice = training_choice(store, config)
        assert choice.truth is not None and choice.truth.name == "similars"
        assert [rows.tolist() for rows in choice.truth.relevant][:3] == [[1], [2], [3]]
        store.write("similars", [pairs[:10]], "id")
        assert training_choice(store, config).truth is not None
        # each song by an artist of its own: nothing is alike but a song's own segments
        tracks = store.read("tracks").to_pylist()
        store.write("tracks", [[{**row, "artist_id": f"own {row['track_id']}", "artist": row["track_id"]}
                                for row in tracks]], "id")
        choice = training_choice(store, config)
        assert choice.truth is not None and choice.truth.name == SAME_SONG
        features, validation = features_of(store, config, choice, config.training)
    assert validation is not None
    of = {float(row.astype(np.float32).sum()): i for i, row in _rows(config, choice.validation)}
    names = [of[float(validation.features.array[int(np.flatnonzero(validation.features.song == song)[0])]
                      .astype(np.float32).sum())] for song in validation.songs]
    assert names == sorted(names) and len(names) == 2 * len(choice.validation)
    for row, relevant in enumerate(validation.relevant):
        assert [names[other] for other in relevant] == [names[row]] and relevant.tolist() != [row]
    assert set(features.track_ids) == set(choice.train)


def _rows(config: Config, wanted: dict[str, np.ndarray]) -> Any:
    """The features of each wanted segment, made one by one."""
    import torch

    from simsong.audio.segments import decode_segment
    from simsong.model.encoder import build

    encoder = build(config.model, 0, segment_s=1.0)
    for i, rows in wanted.items():
        for number in rows[:, 0].astype(int).tolist():
            waveform = torch.from_numpy(decode_segment(flac(i, number)))[None]
            yield i, encoder.features(waveform).to(torch.float16).numpy()[0]


def test_features_are_those_of_the_songs(root: Path) -> None:
    config = settled(root, training={"validation": 0.3, "held_out": 0.3, "part": "first_half"})
    choice = training_choice(Store.open(str(root)), config)
    assert {tuple(rows[:, 0]) for rows in choice.train.values()} == {(0, 1)}
    features, validation = features_of(Store.open(str(root)), config, choice, config.training)
    assert validation is not None and validation.chooses
    assert len(features.song) == 2 * len(choice.train)
    expected = dict(_rows(config, {i: r[:1] for i, r in choice.train.items()}))
    for at, name in enumerate(features.track_ids):
        first = features.array[int(np.flatnonzero(features.song == at)[0])]
        np.testing.assert_array_equal(first, expected[name])
    ids = [validation.features.track_ids[song] for song in validation.songs]
    assert ids == sorted(choice.validation)
    for row, relevant in enumerate(validation.relevant):
        assert {artist(ids[other]) for other in relevant} == {artist(ids[row])}


def library(songs: int, segments: int = 7) -> dict[str, np.ndarray]:
    rows = np.stack([np.arange(segments), np.arange(segments), np.arange(segments) + 1.0], 1)
    return {f"T{song}": rows for song in range(songs)}


def test_no_more_is_computed_than_the_steps_can_show(root: Path) -> None:
    """Whatever the library's size: 300 steps of 32 songs show 19,200 segments."""
    few, some, many = library(1_200), library(5_000), library(40_000)
    output = TrainingSettings(steps=300)
    assert draw_segments(few, output) == few                              # each comes nine times: all it has
    assert sum(map(len, draw_segments(some, output).values())) == 4 * 5_000
    chosen_of_many = draw_segments(many, output)
    assert sum(map(len, chosen_of_many.values())) == 2 * 300 * 32
    grown = draw_segments(library(44_000), output)
    assert len(grown.keys() & chosen_of_many.keys()) > 0.88 * len(grown)
    assert all(np.array_equal(grown[i], chosen_of_many[i]) for i in grown.keys() & chosen_of_many.keys())
    counts = np.bincount(np.concatenate([rows[:, 0].astype(int) for rows in grown.values()]), minlength=7)
    assert counts.min() > 0.9 * counts.mean()                   # any part of a song may be heard
    assert draw_segments({}, output) == {}

    config = settled(root, training={"validation": 0.3, "held_out": 0.3, "steps": 20, "batch": 4})
    choice = training_choice(Store.open(str(root)), config)
    features, _ = features_of(Store.open(str(root)), config, choice, config.training)
    assert len(features.track_ids) == len(choice.train) and len(choice.train) // 4 < 20
    assert len(features.song) == SEGMENTS * len(choice.train)   # twice each: four segments
    fewer = config.model_copy(update={"training": config.training.model_copy(update={"steps": 5})})
    features, validation = features_of(Store.open(str(root)), fewer, choice, fewer.training)
    assert len(features.song) == 2 * len(choice.train)
    shown = np.concatenate([Batches(features, 4, seed=3).rows_of(step) for step in range(5)])
    assert len(set(shown.tolist())) == 40                       # none is shown again for want of another
    assert validation is not None and len(validation.songs) == len(choice.validation)


def test_a_prior_is_of_the_songs_in_their_order(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "store")
    names = ["T080", "T000", "T001", "T040", "T003"]                # T080, T000, T040: one artist
    config = settled(tmp_path / "store", training={"priors": {"lyrics": 1, "artist": 1}})
    store = Store.open(config.store)
    prior, warnings = prior_of(store, config, names)
    assert prior is not None and not warnings
    result = prior.matrix(np.arange(5)).numpy()
    vectors = np.stack([lyrics_of(i) for i in names])
    known = [0, 1, 3, 4]
    centred = vectors[known] - vectors[known].mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    same = np.array([[artist(a) == artist(b) for b in names] for a in names], np.float32)
    np.testing.assert_allclose(result[np.ix_(known, known)],
                               (centred @ centred.T + same[np.ix_(known, known)]) / 2, atol=1e-5)
    np.testing.assert_allclose(result[2, known], same[2, known], atol=1e-6)     # T001 has no lyrics

    with Store.writing(config.store) as store:
        store.write("genres", [[{"track_id": "T003", "name": "rock", "weight": 1.0, "source": "x"},
                                {"track_id": "T080", "name": "rock", "weight": 2.0, "source": "x"},
                                {"track_id": "T080", "name": "folk", "weight": 1.0, "source": "x"}]], "id")
        store.write("tags", [[{"track_id": "T000", "name": "loud", "weight": 3.0},
                              {"track_id": "T003", "name": "loud", "weight": 1.0},
                              {"track_id": "T003", "name": "old", "weight": 1.0}]], "id")
        store.write("words", [[{"track_id": "T001", "word": "sea", "count": 2},
                               {"track_id": "T040", "word": "sea", "count": 1}]], "id")
        for weights, a, b, alike in (({"genre": 1}, 0, 4, 1.0), ({"tags": 1}, 1, 4, 0.5 ** 0.5),
                                     ({"words": 1}, 2, 3, 1.0)):
            config = settled(tmp_path / "store", training={"priors": {"lyrics": 0, **weights}})
            prior, warnings = prior_of(store, config, names)
            assert prior is not None and not warnings
            matrix = prior.matrix(np.arange(5)).numpy()
            assert matrix[a, b] == pytest.approx(alike, abs=1e-5)
            assert np.isnan(matrix[a]).sum() == 3


def test_what_is_not_known_is_told(root: Path) -> None:
    store = Store.open(str(root))
    config = settled(root, training={"priors": {"lyrics": 1, "words": 1}})
    prior, warnings = prior_of(store, config, IDS)
    assert prior is not None
    assert warnings == ["training.priors.words has a weight, but no song's words is known: it weighs nothing"]
    config = settled(root, training={"priors": {"lyrics": 0, "words": 1}})
    assert prior_of(store, config, IDS)[0] is None
    with pytest.raises(ModelError, match="no prior has a weight"):
        prior_of(store, settled(root, training={"priors": {"lyrics": 0}}), IDS)


def test_a_prior_that_is_the_truth_is_told(root: Path) -> None:
    store = Store.open(str(root))
    for held_out, said in ((0.0, 1), (0.3, 0)):
        config = settled(root, training={"priors": {"artist": 1}, "held_out": held_out})
        warnings = stands_in(store, config, training_choice(store, config))
        assert len(warnings) == said, warnings
    assert not stands_in(store, settled(root),
                         training_choice(store, settled(root, training={"held_out": 0})))


@pytest.mark.parametrize(("part", "seen"), [("first_half", 60), ("whole", 60), ("whole", SONGS)])
def test_only_what_no_model_has_heard_counts(root: Path, tmp_path: Path, part: str, seen: int) -> None:
    shutil.copytree(root, tmp_path / "store")
    config = settled(tmp_path / "store", training={"losses": ["ns"]})
    artists = sorted({artist(i) for i in IDS})[:seen // 3]
    with Store.writing(config.store) as store:
        for shard in store.shards("segments"):
            keys = store.read("segments", shard, columns=["track_id", "segment"]).to_pylist()
            vectors = [{**key, "embedding": [float(key["track_id"][1:]), float(key["segment"])]}
                       for key in keys if key["track_id"] != "T002"]
            store.write("segment_embeddings", [vectors], "id", shard=shard, partition="mfcc-2")
            store.write("track_embeddings", [[{"track_id": i, "embedding": [0.0, 1.0]}
                                              for i in sorted({key["track_id"] for key in keys})]],
                        "id", shard=shard, partition="mfcc-2")
        planned = Planned("ns", "aa1", {"settings": "s", "inputs": {}, "tables": {}})
        store.put_json("models/ns/aa1/training.json", {"data": {"part": part}})
        heard = [i for i in IDS if artist(i) in artists]
        trained_on.write_tracks(store, "ns-aa1", dict.fromkeys(heard, TRAINED))
        record(store, planned, seen)
        models.follow(store, "ns", "aa1")
        songs = songs_of(store)
        held_out = held_out_of(store, config, songs)
        segments = segments_of(store, config, songs, held_out)["mfcc"]
    numbers = np.array([int(i[1:]) for i in songs.track_ids])[segments.songs]
    known = ~np.isnan(segments.vectors[:, 0])
    assert set(numbers[~known].tolist()) == ({2} if part == "first_half" or seen == SONGS else set())
    np.testing.assert_array_equal(segments.vectors[known, 0], numbers[known])
    assert segments.spans_s is not None and segments.artists is not None
    np.testing.assert_array_equal(segments.vectors[known, 1], segments.spans_s[known, 0])
    of_seen = np.array([f"A{n % ARTISTS:02d}" in artists for n in numbers.tolist()])
    if seen == SONGS:
        assert held_out is None and segments.rows is None and not segments.unseen
        return
    assert segments.rows is not None and segments.unseen
    second = (segments.spans_s[:, 0] >= 2) & (part == "first_half")
    np.testing.assert_array_equal(segments.rows, ~of_seen | second)


def test_a_training_is_of_what_it_was_given(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "store")
    training = {"validation": 0.3, "held_out": 0.3, "steps": 2, "batch": 4,
                "priors": {"lyrics": 1, "genre": 1}}
    config = settled(tmp_path / "store", training=training)
    weights: dict[str, str] = {}
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run, choice = RunContext(config=config, generation=store.generation), training_choice(store, config)
        for name in ("wns", "wns_shuffled", "untrained"):
            train.fn(name=name, run=run)
            label = str(models.promoted(store, name))
            card = store.get_json(f"{trained_on.folder(label)}/training.json")
            assert card is not None
            weights[name] = card["weights"]
            if name == "untrained":
                continue
            assert trained_on.tracks_of(store, label) == choice.use
            assert card["validated"]["truth"] == "same artist"
            assert card["validated"]["songs"] == len(choice.validation)
            assert card["data"]["songs_used"] == len(choice.train)
            assert card["data"]["held_out_artists"] == choice.about["held_out_artists"]
            assert card["warnings"][0] == \
                "training.priors.genre has a weight, but no song's genre is known: it weighs nothing"
            assert set(card["data"]["known"]) == {"lyrics"}
        assert len(set(weights.values())) == 3
        # the control is published where it is named, and nowhere else
        only = config.model_copy(update={"training": config.training.model_copy(update={
            "losses": ("wns_shuffled",)})})
        store.delete("models/wns/promoted.json")
        assert published(store, only) == ()
        named = only.model_copy(update={"publish": only.publish.model_copy(update={"model": "wns_shuffled"})})
        assert published(store, named) == (models.promoted(store, "wns_shuffled"),)
