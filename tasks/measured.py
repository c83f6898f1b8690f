"""What an evaluation takes from a store: songs, every method's vectors, which songs no model has seen. No
Prefect: what a user brings is measured with it too."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from simsong.config import Config
from simsong.evaluation.ground_truth import Songs
from simsong.evaluation.ranking import Embedding
from storage.store import Store
from tasks import songs as catalogue
from tasks.models import UNTRAINED, promoted, tracks_seen
from tasks.stages import MFCC, TIMBRE, lyric_model_label

LYRICS, WORDS = "lyrics", "words"


def methods(store: Store, config: Config) -> dict[str, str]:
    """Method → the partition of `track_embeddings` that holds its vectors."""
    found = {name: promoted(store, name) for name in (UNTRAINED, *config.training.losses)}
    return {MFCC: MFCC, TIMBRE: TIMBRE, **{name: label for name, label in found.items() if label}}


def songs_of(store: Store) -> Songs:
    """The songs that have an embedding of their audio (where none has, of MSD's timbre), sorted by id."""
    found = (store.read("track_embeddings", partition=label, columns=["track_id"])["track_id"]
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
    for name in config.training.losses:
        if label := promoted(store, name):
            seen |= tracks_seen(store, label)
    artists = zip(songs.track_ids, songs.artist_ids, strict=True)
    trained = {artist for track_id, artist in artists if track_id in seen}
    held_out = np.array([artist not in trained for artist in songs.artist_ids])
    return held_out if trained and held_out.any() else None
