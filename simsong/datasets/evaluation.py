"""What an evaluation takes from a store: songs, every method's vectors, which songs no model has seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.catalogue import songs as catalogue
from simsong.catalogue.recordings import Recordings, recordings_inputs
from simsong.config import Config
from simsong.evaluation.ground_truth import EvaluationSongs
from simsong.evaluation.meaning import EvaluationSegments
from simsong.evaluation.ranking import Embedding, prepare
from simsong.parts.stages import (
    MFCC,
    MFCC_BEFORE,
    TIMBRE,
    config_values,
    features_label,
    has_heads,
    lyric_model_label,
)
from simsong.registry.models import (
    CARD,
    FINAL,
    UNTRAINED,
    fitted_names,
    promoted,
    trained_labels,
)
from simsong.registry.published import MFCC_METHOD, alone_method, measured_as
from simsong.registry.trained_on import artists_heard, folder, tracks_seen
from simsong.training.split import halves
from storage.catalogue import Catalogue
from storage.identity import digest
from storage.reports import CHOICE
from storage.store import Store
from storage.vectors import matrix, positions

EVALUATION_VERSION = 8          # of stage evaluate
LYRICS, WORDS = "lyrics", "words"
SEGMENT_SONGS = 5_000           # whose segments are compared with each other, drawn at random


def methods(store: Store, config: Config) -> dict[str, str]:
    """Method → the partition of `track_embeddings` that holds its vectors."""
    # FINAL has heard the held-out artists, but for those of a fold.
    fitted = fitted_names(config) if config.training.fold else fitted_names(config)[:1]
    untrained = () if has_heads(config) else (UNTRAINED,)
    labels = {name: promoted(store, name) for name in (*untrained, *config.training.losses, *fitted)}
    network = features_label(config)
    return {MFCC_METHOD: MFCC, TIMBRE: TIMBRE, **({alone_method(network): network} if network else {}),
            **{name: label for name, label in labels.items() if label}}


def songs_of(store: Store) -> EvaluationSongs:
    """The songs that have an embedding of their audio (where none has, of MSD's timbre), sorted by id; of the
    tracks of one recording, one."""
    id_columns = (Catalogue(store).read("track_embeddings", partition=label, columns=["track_id"])["track_id"]
                  for label in (MFCC, *MFCC_BEFORE, TIMBRE))
    ids = next((column.to_pylist() for column in id_columns if len(column)), [])
    recordings = Recordings.of(store)
    return catalogue.songs_of(store, pa.array(recordings.stand_ins(ids).values(), pa.string()))


def chosen_join(store: Store, config: Config) -> str | None:
    """The methods that are published joined, with a `+` between them; None where one alone is."""
    choice = store.get_json(CHOICE) if config.publish.model == "auto" else None
    methods = (choice or {}).get("methods") or []
    return measured_as(config, methods) if len(methods) > 1 else None


class Embeddings(Mapping[str, Embedding]):
    """Method → (songs, dim) float32, NaN rows where a song has none, or sparse. One is read each time that it
    is asked for, so that no more are held than are looked at."""

    def __init__(self, store: Store, config: Config, songs: EvaluationSongs, *, words: bool = False,
                 joined: str | None = None) -> None:
        """
        Args:
            words: with those of lyrics (sparse).
            joined: with a join of several methods, which a `+` in its name says. Any can be asked for.
        """
        self._store, self._songs = store, songs
        of = {name: ("track_embeddings", label) for name, label in methods(store, config).items()}
        of[LYRICS] = "lyric_embeddings", lyric_model_label(config)
        self._of = {name: where for name, where in of.items() if self._any(*where)}
        self._words = catalogue.words_of(store, songs) if words else None
        self._joined = joined if joined and set(joined.split("+")) <= set(self._of) else None

    def __getitem__(self, name: str) -> Embedding:
        if "+" in name:
            units = [prepare(part, self[part]) for part in name.split("+")]
            return np.concatenate(units, axis=1) / np.float32(np.sqrt(len(units)))
        if name == WORDS and self._words is not None:
            return self._words
        vectors = catalogue.vectors_of(self._store, *self._of[name], self._songs)
        assert vectors is not None, name
        return vectors

    def __iter__(self) -> Iterator[str]:
        yield from self._of
        if self._joined:
            yield self._joined
        if self._words is not None:
            yield WORDS

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _any(self, table: str, label: str) -> bool:
        """Whether any of the songs has one."""
        ids = pa.array(self._songs.track_ids, pa.string())
        return any((positions(self._store.read(table, shard, partition=label,
                                                         columns=["track_id"])["track_id"], ids) >= 0).any()
                   for shard in Catalogue(self._store).parts(table, label))


def held_out_of(store: Store, config: Config, songs: EvaluationSongs) -> np.ndarray | None:
    """(songs,) bool: whether no promoted model has heard the artist, or a recording that also goes by the
    artist's name, in training; None where they have heard all, or nothing is trained.

    It goes by what each model was trained on, however it was split then."""
    recordings, in_training, of_before = Recordings.of(store), set[str](), set[str]()
    final = promoted(store, FINAL) if FINAL in methods(store, config) else None
    for label in [*trained_labels(store, config), *([final] if final else [])]:
        in_training |= tracks_seen(store, label)
        of_before |= artists_heard(store, label)        # also of songs that have left since
    artists = recordings.artists_of(in_training)
    artists |= {recordings.of_id.get(artist, artist) for artist in of_before}
    held_out = np.array([recordings.artists[i] not in artists for i in songs.track_ids], dtype=bool)
    return held_out if artists and held_out.any() else None


def segments_of(store: Store, config: Config, songs: EvaluationSongs,
                held_out: np.ndarray | None) -> dict[str, EvaluationSegments]:
    """Method → its vectors of segments, of at most SEGMENT_SONGS songs. Those count that no promoted model
    was trained on, where there are any: of held-out songs all, of the others what training was told to leave
    (`training.part`)."""
    unheard = np.zeros(len(songs), dtype=bool) if held_out is None else held_out
    left = _second_halves_left(store, config)
    candidates = np.flatnonzero(unheard) if unheard.any() and not left else np.arange(len(songs))
    sample = np.sort(np.random.default_rng(config.evaluation.seed).permutation(candidates)[:SEGMENT_SONGS])
    ids = pa.array([songs.track_ids[row] for row in sample], pa.string())
    rows = _of_songs(store, "segments", None, ids, ["start_s", "end_s"])
    if not rows.num_rows:
        return {}
    song = sample[positions(rows["track_id"], ids)]
    spans_s = np.stack([rows[name].to_numpy() for name in ("start_s", "end_s")], axis=1)
    counted = unheard[song]
    if left:
        counted |= _second(rows["track_id"].to_pylist(), spans_s)
    unseen = bool(counted.any())
    of = {"songs": song, "artists": songs.artist_codes()[song], "spans_s": spans_s,
          "rows": counted if unseen else None, "unseen": unseen}
    keys, out = _keys(rows), dict[str, EvaluationSegments]()
    for name, label in methods(store, config).items():
        there = _of_songs(store, "segment_embeddings", label, ids, ["embedding"])
        if there.num_rows:
            at, vectors = positions(keys, _keys(there)), matrix(there)
            chosen_vectors = vectors[np.maximum(at, 0)]
            chosen_vectors[at < 0] = np.nan
            out[name] = EvaluationSegments(chosen_vectors, **of)
    return out


def _second_halves_left(store: Store, config: Config) -> bool:
    """Whether every promoted model was trained on songs' first halves alone."""
    cards = [store.get_json(f"{folder(label)}/{CARD}") or {} for label in trained_labels(store, config)]
    return bool(cards) and all(card.get("data", {}).get("part") == "first_half" for card in cards)


def _second(track_ids: list[str], spans_s: np.ndarray) -> np.ndarray:
    """(segments,) bool: those of a song's second half; a song's follow each other."""
    parts, at = [], 0
    for _, own in groupby(track_ids):
        end = at + sum(1 for _ in own)
        parts.append(halves(*spans_s[at:end].T)[1])
        at = end
    return np.concatenate(parts)


def _of_songs(store: Store, table: str, partition: str | None, ids: pa.Array, columns: list[str]) -> pa.Table:
    """Rows of the songs, a shard at a time: there may be millions of others."""
    columns = ["track_id", "segment", *columns]
    parts = [store.read(table, shard, partition=partition, columns=columns).filter(
        pc.field("track_id").isin(ids)) for shard in Catalogue(store).parts(table, partition)]
    return pa.concat_tables(parts) if parts else pa.table({name: [] for name in columns})


def _keys(rows: pa.Table) -> pa.ChunkedArray:
    """Of segments."""
    numbers = rows["segment"].cast(pa.string())
    return pc.call_function("binary_join_element_wise", [rows["track_id"], numbers, pa.scalar("/")])


def evaluation_identity(store: Store, config: Config) -> str:
    """Of all that the figures of single embeddings depend on."""
    inputs: dict[str, Any] = {}
    catalogue = Catalogue(store)
    for table, label in [("lyric_embeddings", lyric_model_label(config)),
                         *(("track_embeddings", label) for label in methods(store, config).values())]:
        inputs[label] = catalogue.rows_digests(table, ("embedding",), label)
    spans = catalogue.rows_digests("segments", ("start_s", "end_s"))
    tracks = [store.rows_digest("tracks", shard, ("artist_id", "artist", "title"))
              for shard in catalogue.parts("segments") or catalogue.shards]
    labels = [[footer.columns for footer in store.footers(table)]
              for table in ("similars", "artist_similars", "genres", "words")]
    return digest("evaluate", EVALUATION_VERSION, inputs, spans, tracks, labels, recordings_inputs(store),
                  config_values(config, ("evaluation",)))
