"""What a training is given of a store: which segments of which songs, what is known of these beforehand, and
what tells whether it learns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from simsong.audio.segments import decode_segment
from simsong.catalogue.recordings import Recordings
from simsong.catalogue.songs import similars_of, songs_of, tags_of, vectors_of, words_of
from simsong.config import Config, TrainingSettings
from simsong.errors import ModelError
from simsong.evaluation.ground_truth import GroundTruth, from_same_artist
from simsong.model.adapted import MOST_NEIGHBOURS
from simsong.model.encoder import Encoder, build
from simsong.model.head import Start, fit_start
from simsong.parts.stages import features_label, has_heads, lyric_model_label, settled_model
from simsong.pretrained.features import patches_in
from simsong.registry.trained_on import HELD_OUT, TRAINED, VALIDATED
from simsong.training.features import Part, TrainingFeatures, build_features
from simsong.training.prior import UNKNOWN, Prior
from simsong.training.split import fold_artists, halves, held_out_artists, validation_artists
from simsong.training.validation import LEAST_QUERIES, Validation
from storage.catalogue import Catalogue
from storage.identity import digest
from storage.store import Store
from storage.vectors import matrix, positions

FEATURES = "features"           # the workspace
ONE_SEGMENT = "one_segment"
DUPLICATE = "duplicate"         # another track of its recording is trained on, or validates
SAME_SONG = "same song"
MOST_FITTED = 4096              # songs whose features are held at once: about 400 MB
LEAST_DRAWN = 1024              # songs, where there are as many: what is known of them is to be typical
MOST_HELD = 2**28               # values of a training's features that are held in memory: 512 MB
EPOCHS, LEAST_STEPS, MOST_STEPS = 20, 300, 3000     # where `steps` says none
PATIENCE, MOST_MINUTES = 5, 480.0                   # of an encoder, there
Segments = dict[str, np.ndarray]        # track_id → (k, 3): segments' numbers, start_s, end_s


@dataclass(frozen=True)
class Choice:
    """Which segments of which songs are for what.

    Attributes:
        train: of songs with two or more, one or more for a head.
        validation: two at most of each song; empty where too few could ask.
        use: what becomes of every song (see `simsong.registry.trained_on.write_tracks`).
        about: what the training card tells of it.
    """

    train: Segments
    validation: Segments
    truth: GroundTruth | None
    use: dict[str, str]
    about: dict[str, Any]


def training_choice(store: Store, config: Config) -> Choice:
    """By the artists' split, the validation's, and the part of a song that training may see.

    A recording of which any track is by a held-out artist is not heard; of every other one, one track at most
    is trained on or validates. So no song has its own recording among its negatives.
    """
    training, recordings, least = config.training, Recordings.of(store), 1 if has_heads(config) else 2
    artists = recordings.artists
    all_of = _segments(store)
    of_all = [artists[i] for i in all_of]
    held_out = fold_artists(of_all, training.fold, training.split_seed) if training.fold else \
        held_out_artists(of_all, training.held_out, training.split_seed)
    unheard = recordings.of_artists(held_out)
    rest = {i: _part(rows, training.part) for i, rows in all_of.items()
            if recordings.recording(i) not in unheard}
    asking = validation_artists([artists[i] for i in rest], training.validation, training.split_seed)
    ask = recordings.stand_ins(i for i in rest if artists[i] in asking)
    validation, truth = _validation(store, config, {i: rest[i] for i in ask.values()})
    validating = {recordings.recording(i) for i in validation}
    pairs = {i: rows for i, rows in rest.items()
             if len(rows) >= least and recordings.recording(i) not in validating}
    one_each = set(recordings.stand_ins(pairs).values())
    train = {i: rows for i, rows in pairs.items() if i in one_each}
    use = {i: HELD_OUT if i not in rest else VALIDATED if i in validation else TRAINED if i in train
           else ONE_SEGMENT if len(rest[i]) < least else DUPLICATE for i in all_of}
    about = {"artists": len({artists[i] for i in train}), "held_out_artists": len(held_out),
             "held_out_songs": len(all_of) - len(rest), "validation_songs": len(validation),
             "duplicates": list(use.values()).count(DUPLICATE), "part": training.part}
    return Choice(train, validation, truth, use, about)


def _segments(store: Store) -> Segments:
    out: Segments = {}
    catalogue = Catalogue(store)
    for shard in catalogue.parts("segments"):
        rows = catalogue.read("segments", shard, columns=["track_id", "segment", "start_s", "end_s"])
        columns = np.stack([rows[name].to_numpy() for name in ("segment", "start_s", "end_s")], axis=1)
        at = 0
        for track_id, own in groupby(rows["track_id"].to_pylist()):
            number = sum(1 for _ in own)
            out[track_id] = columns[at:at + number]
            at += number
    return out


def _part(rows: np.ndarray, part: str) -> np.ndarray:
    return rows[halves(rows[:, 1], rows[:, 2])[0]] if part == "first_half" else rows


def _validation(store: Store, config: Config, songs: Segments) -> tuple[Segments, GroundTruth | None]:
    """Two segments of each song to validate with, and which songs are alike: by Last.fm, else of one artist,
    else, segment by segment, of one song; by the first of these that gives enough queries. {}, None where
    none does."""
    candidates = songs_of(store, pa.array(sorted(songs), pa.string()))
    two = {track_id: _spread(songs[track_id]) for track_id in candidates.track_ids}
    for truth in (similars_of(store, config, candidates), from_same_artist(candidates)):
        if truth.queries.sum() >= LEAST_QUERIES:
            return two, truth
    ends = {i: rows[[0, -1]] for i, rows in songs.items() if rows[-1, 1] >= rows[0, 2]}
    if len(ends) >= LEAST_QUERIES:
        ids = sorted(ends)
        other = [np.array([row ^ 1]) for row in range(2 * len(ids))]
        return {i: ends[i] for i in ids}, GroundTruth(SAME_SONG, other, np.ones(len(other), dtype=bool))
    return {}, None


def _spread(rows: np.ndarray) -> np.ndarray:
    """Two of them, a quarter from either end."""
    if len(rows) <= 2:
        return rows
    return rows[np.round((np.arange(2) + 0.5) / 2 * (len(rows) - 1)).astype(int)]


# Features

def features_of(store: Store, config: Config, choice: Choice,
                training: TrainingSettings) -> tuple[TrainingFeatures, Validation | None]:
    """Those that the steps draw from, and what validates. Computed shard by shard, where they are not there
    already."""
    encoder = build(settled_model(config), 0, segment_s=config.segments.length_s,
                    centred=config.training.centred)
    data = _features(store, config, draw_segments(choice.train, training), encoder)
    if choice.truth is None:
        return data, None
    features = _features(store, config, choice.validation, encoder)
    if choice.truth.name == SAME_SONG:              # each segment passes for a song, in the order of songs
        order = np.argsort([features.track_ids[song] for song in features.song], kind="stable")
        features = replace(features, key=f"{features.key} by segment", song=np.argsort(order),
                           track_ids=[str(row) for row in range(len(order))])
        rows = np.arange(len(order))
    else:
        rows = np.argsort(features.track_ids)           # the truth's songs are sorted by id
    return data, Validation(features, rows, list(choice.truth.relevant), choice.truth.name)


def draw_segments(wanted: Segments, training: TrainingSettings) -> Segments:
    """As many of the segments as the steps can show, whatever the number of songs: no more songs than come in
    all batches (LEAST_DRAWN at least), and of each two segments a time that it comes. By the songs' ids
    alone, so that a grown catalogue's are mostly the same, and those of all seeds."""
    steps = encoder_training(training, len(wanted)).steps
    assert steps is not None
    most = max(steps * training.batch, LEAST_DRAWN)
    songs = sorted(wanted, key=lambda i: digest("drawn", i))[:most]
    if not songs:
        return {}
    times = math.ceil(steps / max(1, len(songs) // training.batch))    # that each comes, at most
    return {i: _some(wanted[i], 2 * times, digest("segments", i)) for i in songs}


def _some(rows: np.ndarray, number: int, seed: str) -> np.ndarray:
    if len(rows) <= number:
        return rows
    return rows[np.sort(np.random.default_rng(int(seed, 16)).choice(len(rows), number, replace=False))]


def _features(store: Store, config: Config, wanted: Segments, encoder: Encoder) -> TrainingFeatures:
    return build_features(_parts(store, wanted), encoder, store.workspace(FEATURES),
                          workers=config.run.workers, total=sum(len(rows) for rows in wanted.values()))


def _parts(store: Store, wanted: Segments) -> Iterator[Part]:
    """Of each shard what is wanted: a new shard leaves the others' features what they are."""
    catalogue = Catalogue(store)
    for shard in catalogue.parts("segments"):
        ids = catalogue.ids(shard).to_pylist()
        here = {i: wanted[i][:, 0].astype(int).tolist() for i in ids if i in wanted}
        if here:
            of = digest(store.rows_digest("segments", shard, ("audio",)), here)
            yield Part(of, _waveforms(store, shard, here))


def _waveforms(store: Store, shard: int,
               wanted: Mapping[str, list[int]]) -> Iterator[tuple[str, int, np.ndarray]]:
    for track_id, rows in store.by_song("segments", shard, columns=["track_id", "segment", "audio"]):
        if track_id in wanted:
            for number, audio in zip(rows["segment"].to_pylist(), rows["audio"], strict=True):
                if number in wanted[track_id]:
                    yield track_id, number, decode_segment(audio.as_py())


# Pretrained features

def features_there(store: Store, label: str) -> list[str]:
    """The songs that have features, sorted within a shard."""
    catalogue = Catalogue(store)
    return [track_id for shard in catalogue.parts("features", label)
            for track_id in _ids(catalogue.read("features", shard, partition=label, columns=["track_id"]))]


def features_to_fit(store: Store, label: str, track_ids: Sequence[str]) -> list[np.ndarray]:
    """Features (patches, width) of at most MOST_FITTED of the songs: of many, those whose ids have the lowest
    digests, so that a grown catalogue's are mostly the same."""
    sample = set(sorted(track_ids, key=lambda i: digest("fit", i))[:MOST_FITTED])
    catalogue, out = Catalogue(store), list[np.ndarray]()
    for shard in catalogue.parts("features", label):
        out += [rows for track_id, _, rows in song_features_of(store, label, shard) if track_id in sample]
    return out


def neighbours_to_fit(store: Store, label: str) -> Iterator[np.ndarray]:
    """Features (patches, width) of all songs that are searched among, those of held-out artists too: nothing
    is fitted to them. None of a library that is larger than was measured."""
    if len(features_there(store, label)) <= MOST_NEIGHBOURS:
        for shard in Catalogue(store).parts("features", label):
            yield from (rows for _, _, rows in song_features_of(store, label, shard))


def song_features_of(store: Store, label: str, shard: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Of each song of a shard: where its patches begin, in seconds (patches,), and their features (patches,
    width)."""
    columns = ["track_id", "start_s", "embedding"]
    rows = Catalogue(store).read("features", shard, partition=label, columns=columns)
    vectors, at = matrix(rows) if rows.num_rows else np.empty((0, 0)), 0
    starts_s = rows["start_s"].to_numpy()
    for track_id, own in groupby(rows["track_id"].to_pylist()):
        end = at + sum(1 for _ in own)
        yield track_id, starts_s[at:end], vectors[at:end]
        at = end


def _ids(rows: pa.Table) -> list[str]:
    return list(dict.fromkeys(rows["track_id"].to_pylist()))


def heads_label(config: Config) -> str:
    """The features that heads are trained on. Raises: ModelError where there are none."""
    label = features_label(config)
    if label is None:
        raise ModelError('model.preset = "head" needs a pretrained network, and none is here; `simsong '
                         'pretrained fetch` gets one')
    return label


def head_data(store: Store, config: Config, choice: Choice,
              ) -> tuple[Start, TrainingFeatures, Validation | None]:
    """Where a head starts, fitted to all songs but those of held-out artists; what it reads of the patches of
    those to train on, and what validates. Raises: ModelError where there are too few songs."""
    label, segment_s = heads_label(config), config.segments.length_s
    to_fit = [track_id for track_id, use in choice.use.items() if use != HELD_OUT]
    start = fit_start(features_to_fit(store, label, to_fit), segment_s, neighbours_to_fit(store, label))
    half = config.training.part == "first_half"
    parts = _patches_of(store, label, choice.train, half, start)
    data = build_features(parts, start, store.workspace(FEATURES), workers=config.run.workers)
    if data.array.shape[0] * data.array.shape[1] <= MOST_HELD:
        data = replace(data, array=np.asarray(data.array))
    if choice.truth is None:
        return start, data, None
    apart, validating = choice.truth.name == SAME_SONG, list[tuple[str, np.ndarray]]()
    for shard in Catalogue(store).parts("features", label):
        for track_id, starts_s, patches in song_features_of(store, label, shard):
            windows = choice.validation.get(track_id)
            if windows is not None and apart:           # each segment passes for a song
                validating += [(track_id, start.song(patches[patches_in(starts_s, *window)]))
                               for window in windows[:, 1:].tolist()]
            elif windows is not None:
                validating.append((track_id, start.song(patches)))
    validating.sort(key=lambda song: song[0])                 # as the truth's songs are
    rows = np.stack([row for _, row in validating]).astype(np.float16)
    key = digest("held", label, start.digest(), [track_id for track_id, _ in validating])
    songs = np.arange(len(validating))
    names = [f"{at} {track_id}" for at, (track_id, _) in enumerate(validating)]
    asking = TrainingFeatures(key, segment_s, names, songs, rows)
    return start, data, Validation(asking, songs, list(choice.truth.relevant), choice.truth.name)


def _patches_of(store: Store, label: str, wanted: Segments, half: bool, start: Start) -> Iterator[Part]:
    """Args: half: those patches alone that lie in the segments wanted."""
    catalogue, named = Catalogue(store), start.digest()
    for shard in catalogue.parts("features", label):
        ids = catalogue.ids(shard).to_pylist()
        here = {i: [wanted[i][0, 1], wanted[i][-1, 2]] if half else None for i in ids if i in wanted}
        if here:
            of = digest(store.rows_digest("features", shard, ("embedding",), label), here, named)
            yield Part(of, _patches(store, label, shard, here))


def _patches(store: Store, label: str, shard: int,
             spans: Mapping[str, list[float] | None]) -> Iterator[tuple[str, int, np.ndarray]]:
    """Each song's, of a span from begin to end or of all of it."""
    for track_id, starts_s, patches in song_features_of(store, label, shard):
        if track_id in spans:
            span = spans[track_id]
            for at in range(len(patches)) if span is None else patches_in(starts_s, span[0], span[1]):
                yield track_id, int(at), patches[at]


def artists_of(store: Store, track_ids: list[str]) -> np.ndarray:
    """(n,) a number an artist, UNKNOWN where there is none."""
    songs = songs_of(store, pa.array(track_ids, pa.string()))
    numbers = _numbers(songs.artist_ids)
    order = positions(pa.array(track_ids, pa.string()), pa.array(songs.track_ids, pa.string()))
    return np.full(len(track_ids), UNKNOWN) if numbers is None else numbers[order]


def head_training(config: Config, songs: int) -> TrainingSettings:
    """`training`, with what `head` says in its place; the steps follow the number of songs."""
    head = config.head
    steps = head.steps or _steps(songs, head.batch)
    return config.training.model_copy(update={
        "steps": steps, "batch": head.batch, "learning_rate": head.learning_rate, "layer_decay": 1.0,
        "weight_decay": head.weight_decay, "temperature": head.temperature, "augment": "off",
        "centred": False, "patience": head.patience, "minutes": head.minutes,
        "precision": "fp32", "compile": False})


def encoder_training(training: TrainingSettings, songs: int) -> TrainingSettings:
    """`training`, where it says no steps with those that follow the number of songs, and what ends them."""
    if training.steps is not None:
        return training
    return training.model_copy(update={"steps": _steps(songs, training.batch),
                                       "patience": training.patience or PATIENCE,
                                       "minutes": training.minutes or MOST_MINUTES})


def _steps(songs: int, batch: int) -> int:
    return min(max(EPOCHS * max(1, songs // batch), LEAST_STEPS), MOST_STEPS)


# What is known beforehand

def prior_of(store: Store, config: Config, track_ids: list[str]) -> tuple[Prior | None, list[str]]:
    """What weighs the negatives of those songs, in their order, and, in words, what of it the catalogue does
    not have; None where it has nothing of what is asked for. Raises: ModelError where nothing is asked for.
    """
    weights = config.training.priors
    songs = songs_of(store, pa.array(track_ids, pa.string()))
    order = positions(pa.array(track_ids, pa.string()), pa.array(songs.track_ids, pa.string()))
    values: dict[str, Any] = {
        "lyrics": vectors_of(store, "lyric_embeddings", lyric_model_label(config), songs)
        if weights.lyrics else None,
        "artist": _numbers(songs.artist_ids) if weights.artist else None,
        "genre": _numbers(songs.genres) if weights.genre else None,
        "tags": tags_of(store, songs) if weights.tags else None,
        "words": words_of(store, songs) if weights.words else None}
    values = {name: rows[order] if rows is not None else None for name, rows in values.items()}
    missing = [name for name, weight in weights if weight and values[name] is None]
    warnings = [f"training.priors.{name} has a weight, but no song's {name} is known: it weighs nothing"
                for name in missing]
    if missing and all(rows is None for rows in values.values()):
        return None, warnings
    return Prior(values["lyrics"], values["artist"], values["genre"], values["tags"], values["words"],
                 weights=weights), warnings


def stands_in(store: Store, config: Config, choice: Choice) -> list[str]:
    """A warning where a prior is what the evaluation takes for the truth, of songs that training sees."""
    weights = config.training.priors
    named = [name for name in ("artist", "genre") if getattr(weights, name)]
    listed = any(footer.rows for table in ("similars", "artist_similars") for footer in store.footers(table))
    if not named or listed or choice.about["held_out_songs"]:
        return []
    return [f"training.priors.{' and '.join(named)}: without similar songs in the catalogue, same artist and "
            "same genre stand for the truth, and no artist is held out: the figures are told what they ask"]


def _numbers(labels: Sequence[str | None]) -> np.ndarray | None:
    """(n,) a number a label, UNKNOWN where there is none; None where no song has one."""
    codes: dict[str, int] = {}
    out = np.array([codes.setdefault(label, len(codes)) if label else UNKNOWN for label in labels], np.int64)
    return out if codes else None
