"""What an evaluation takes from a store: songs, every method's vectors, which songs no model has seen. No
Prefect: what a user brings is measured with it too."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.config import Config
from simsong.evaluation.ground_truth import Songs
from simsong.evaluation.meaning import Segments
from simsong.evaluation.ranking import Embedding
from simsong.training.split import halves
from storage.catalogue import Catalogue
from storage.store import Store
from tasks import songs as catalogue
from tasks.models import CARD, UNTRAINED, folder, promoted, tracks_seen
from tasks.stages import MFCC, TIMBRE, lyric_model_label

LYRICS, WORDS = "lyrics", "words"
SEGMENT_SONGS = 5_000           # whose segments are compared with each other, drawn at random


def methods(store: Store, config: Config) -> dict[str, str]:
    """Method → the partition of `track_embeddings` that holds its vectors."""
    found = {name: promoted(store, name) for name in (UNTRAINED, *config.training.losses)}
    return {MFCC: MFCC, TIMBRE: TIMBRE, **{name: label for name, label in found.items() if label}}


def songs_of(store: Store) -> Songs:
    """The songs that have an embedding of their audio (where none has, of MSD's timbre), sorted by id."""
    found = (Catalogue(store).read("track_embeddings", partition=label, columns=["track_id"])["track_id"]
             for label in (MFCC, TIMBRE))
    ids = next((column.combine_chunks() for column in found if len(column)), pa.array([], pa.string()))
    return catalogue.songs_of(store, ids)


def embeddings_of(store: Store, config: Config, songs: Songs) -> dict[str, np.ndarray]:
    """Method → (songs, dim) float32, NaN rows where a song has none; `lyrics` is one."""
    parts = [(name, "track_embeddings", label) for name, label in methods(store, config).items()]
    found = {name: catalogue.vectors_of(store, table, label, songs)
             for name, table, label in [*parts, (LYRICS, "lyric_embeddings", lyric_model_label(config))]}
    return {name: vectors for name, vectors in found.items() if vectors is not None}


def all_embeddings_of(store: Store, config: Config, songs: Songs) -> dict[str, Embedding]:
    """Those, and the words of lyrics (sparse)."""
    words = catalogue.words_of(store, songs)
    return {**embeddings_of(store, config, songs), **({WORDS: words} if words is not None else {})}


def held_out_of(store: Store, config: Config, songs: Songs) -> np.ndarray | None:
    """(songs,) bool: whether no promoted model has seen the artist in training; None where they have seen
    all, or nothing is trained."""
    seen: set[str] = set()
    for label in _trained(store, config):
        seen |= tracks_seen(store, label)
    artists = [artist or track_id for track_id, artist in zip(songs.track_ids, songs.artist_ids, strict=True)]
    trained = {artist for track_id, artist in zip(songs.track_ids, artists, strict=True) if track_id in seen}
    held_out = np.array([artist not in trained for artist in artists])
    return held_out if trained and held_out.any() else None


def segments_of(store: Store, config: Config, songs: Songs,
                held_out: np.ndarray | None) -> dict[str, Segments]:
    """Method → its vectors of segments, of at most SEGMENT_SONGS songs. Those count that no promoted model
    was trained on, where there are any: of held-out songs all, of the others what training was told to leave
    (`training.part`)."""
    unheard = np.zeros(len(songs), dtype=bool) if held_out is None else held_out
    left = _second_halves_left(store, config)
    asked = np.flatnonzero(unheard) if unheard.any() and not left else np.arange(len(songs))
    drawn = np.sort(np.random.default_rng(config.evaluation.seed).permutation(asked)[:SEGMENT_SONGS])
    ids = pa.array([songs.track_ids[row] for row in drawn], pa.string())
    rows = _of_songs(store, "segments", None, ids, ["start_s", "end_s"])
    if not rows.num_rows:
        return {}
    song = drawn[catalogue.positions(rows["track_id"], ids)]
    spans_s = np.stack([rows[name].to_numpy() for name in ("start_s", "end_s")], axis=1)
    counted = unheard[song]
    if left:
        counted |= _second(rows["track_id"].to_pylist(), spans_s)
    unseen = bool(counted.any())
    of = {"songs": song, "artists": songs.artist_codes()[song], "spans_s": spans_s,
          "rows": counted if unseen else None, "unseen": unseen}
    keys, out = _keys(rows), dict[str, Segments]()
    for name, label in methods(store, config).items():
        there = _of_songs(store, "segment_embeddings", label, ids, ["embedding"])
        if there.num_rows:
            at, vectors = catalogue.positions(keys, _keys(there)), catalogue.matrix(there)
            found = vectors[np.maximum(at, 0)]
            found[at < 0] = np.nan
            out[name] = Segments(found, **of)
    return out


def _trained(store: Store, config: Config) -> list[str]:
    return [label for name in config.training.losses if (label := promoted(store, name))]


def _second_halves_left(store: Store, config: Config) -> bool:
    """Whether every promoted model was trained on songs' first halves alone."""
    cards = [store.get_json(f"{folder(label)}/{CARD}") or {} for label in _trained(store, config)]
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
    found = [store.read(table, shard, partition=partition, columns=columns).filter(
        pc.field("track_id").isin(ids)) for shard in Catalogue(store).parts(table, partition)]
    return pa.concat_tables(found) if found else pa.table({name: [] for name in columns})


def _keys(rows: pa.Table) -> pa.ChunkedArray:
    """Of segments."""
    numbers = rows["segment"].cast(pa.string())
    return pc.call_function("binary_join_element_wise", [rows["track_id"], numbers, pa.scalar("/")])
