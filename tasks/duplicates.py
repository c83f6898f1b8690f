"""The same recording under several ids: the catalogue's marks by names, joined with what sounds the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from simsong.progress import track
from simsong.search.duplicates import first_of_group, near_pairs, on_timeline, same_recording
from storage.catalogue import Catalogue
from storage.store import Store
from tasks.stages import MFCC
from tasks.vectors import matrix, positions

VERSION = 1
_HELD = 20_000                  # songs whose soundprints are held at once: about 2 GB


def duplicates_inputs(store: Store) -> list[Any]:
    """Digests of all that `duplicates` depends on, from footers."""
    catalogue = Catalogue(store)
    return [VERSION,
            [store.rows_digest("tracks", shard, ("duplicate_of", "shard")) for shard in catalogue.shards],
            catalogue.rows_digests("audio", ("duration_s",)),
            catalogue.rows_digests("track_embeddings", ("embedding",), MFCC),
            catalogue.rows_digests("soundprints", ("start_s", "embedding"))]


def duplicates(store: Store) -> pa.Table:
    """track_id, duplicate_of, duplicate_by of the marked tracks.

    Whatever names or sound join is one recording: its track catalogued first (lowest shard, then id) bears no
    mark, all others bear its id. `duplicate_by` is "names" where the catalogue had marked the track, else
    "sound".
    """
    tracks = store.read("tracks", columns=["track_id", "shard", "duplicate_of"]).sort_by(
        [("shard", "ascending"), ("track_id", "ascending")])
    ids = tracks["track_id"].combine_chunks()
    named = positions(tracks["duplicate_of"], ids)
    by_names = np.stack([np.arange(len(ids)), named], axis=1)[named >= 0]
    first = first_of_group(len(ids), np.concatenate([by_names, _sounding_same(store, ids)]))
    marked = np.flatnonzero(first != np.arange(len(ids)))
    return pa.table({"track_id": ids.take(pa.array(marked)),
                     "duplicate_of": ids.take(pa.array(first[marked])),
                     "duplicate_by": pa.array(np.where(named[marked] >= 0, "names", "sound").tolist(),
                                              pa.string())})


def _sounding_same(store: Store, ids: pa.Array) -> np.ndarray:
    """(p, 2) positions in `ids` of tracks whose audio is the same recording; none where there is no audio."""
    audio = Catalogue(store).read("audio", columns=["track_id", "duration_s"])
    songs = Catalogue(store).read("track_embeddings", partition=MFCC)
    fetched, at = positions(songs["track_id"], audio["track_id"]), positions(songs["track_id"], ids)
    known = np.flatnonzero((fetched >= 0) & (at >= 0))
    if len(known) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    at, durations_s = at[known], audio["duration_s"].to_numpy()[fetched[known]]
    pairs = at[near_pairs(matrix(songs)[known], durations_s)]
    return np.array([pair for some in _batches(pairs) for pair in _compared(store, ids, some)],
                    dtype=np.int64).reshape(-1, 2)


def _batches(pairs: np.ndarray) -> Iterator[np.ndarray]:
    """The pairs, some at a time, of at most _HELD songs."""
    for start in range(0, len(pairs), _HELD // 2):
        yield pairs[start:start + _HELD // 2]


def _compared(store: Store, ids: pa.Array, pairs: np.ndarray) -> Iterator[np.ndarray]:
    """Those of the pairs that are one recording."""
    wanted = np.unique(pairs)
    prints = _prints(store, ids.take(pa.array(wanted)))
    name = dict(zip(wanted.tolist(), ids.take(pa.array(wanted)).to_pylist(), strict=True))
    for pair in track(pairs, "comparing what sounds alike", unit="pairs"):
        a, b = (prints.get(name[song]) for song in pair.tolist())
        if a is not None and b is not None and same_recording(a, b):
            yield pair


def _prints(store: Store, ids: pa.Array) -> dict[str, np.ndarray]:
    """The soundprint of each of those tracks along its time, a shard's windows at a time."""
    found: dict[str, np.ndarray] = {}
    for shard in Catalogue(store).parts("soundprints"):
        rows = store.read("soundprints", shard)
        kept = np.flatnonzero(positions(rows["track_id"], ids) >= 0)
        if not len(kept):
            continue
        starts_s, windows = rows["start_s"].to_numpy(), matrix(rows)
        track_ids = rows["track_id"].to_numpy()
        for own in np.split(kept, np.flatnonzero(track_ids[kept][1:] != track_ids[kept][:-1]) + 1):
            found[track_ids[own[0]]] = on_timeline(windows[own], starts_s[own])
    return found
