"""The same recording under several ids: the catalogue's marks by names, but for tracks that sound otherwise,
joined with what sounds the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from simsong.parts.stages import MFCC
from simsong.progress import track
from simsong.search.duplicates import (
    first_of_group,
    near_pairs,
    on_timeline,
    other_recording,
    same_recording,
)
from storage.catalogue import Catalogue
from storage.store import Store
from storage.vectors import matrix, positions

VERSION = 2
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
    mark, all others bear its id. Names do not join a track that sounds otherwise than the first of its names
    that is heard; a track that is not heard goes by its names. `duplicate_by` is "names" where these have
    marked the track, else "sound".
    """
    tracks = store.read("tracks", columns=["track_id", "shard", "duplicate_of"]).sort_by(
        [("shard", "ascending"), ("track_id", "ascending")])
    ids = tracks["track_id"].combine_chunks()
    named = positions(tracks["duplicate_of"], ids)
    named[_sounding_otherwise(store, ids, named)] = -1
    by_names = np.stack([np.arange(len(ids)), named], axis=1)[named >= 0]
    first = first_of_group(len(ids), np.concatenate([by_names, _sounding_same(store, ids)]))
    marked = np.flatnonzero(first != np.arange(len(ids)))
    return pa.table({"track_id": ids.take(pa.array(marked)),
                     "duplicate_of": ids.take(pa.array(first[marked])),
                     "duplicate_by": pa.array(np.where(named[marked] >= 0, "names", "sound").tolist(),
                                              pa.string())})


def _sounding_otherwise(store: Store, ids: pa.Array, named: np.ndarray) -> np.ndarray:
    """Positions in `ids` of tracks that are another recording than the first one heard of those that share
    their names. What these have in common among them, their sound tells.

    Args: named: (n,) the position of the first track of the same names, -1 where a track is that itself.
    """
    group = np.where(named >= 0, named, np.arange(len(ids)))
    heard = np.flatnonzero(np.isin(group, named[named >= 0]))
    heard = heard[_printed(store, ids.take(pa.array(heard)))]
    leader = np.full(len(ids), len(ids))
    np.minimum.at(leader, group[heard], heard)
    pairs = np.stack([leader[group[heard]], heard], axis=1)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    others = [pair[1] for some in _batches(pairs) for pair in _compared(store, ids, some, other_recording)]
    return np.array(others, dtype=np.int64)


def _printed(store: Store, ids: pa.Array) -> np.ndarray:
    """(ids,) bool: which tracks have soundprints."""
    out = np.zeros(len(ids), dtype=bool)
    for shard in Catalogue(store).parts("soundprints") if len(ids) else ():
        rows = store.read("soundprints", shard, columns=["track_id"])
        out |= positions(ids, rows["track_id"].unique()) >= 0
    return out


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
    same = [pair for some in _batches(pairs) for pair in _compared(store, ids, some, same_recording)]
    return np.array(same, dtype=np.int64).reshape(-1, 2)


def _batches(pairs: np.ndarray) -> Iterator[np.ndarray]:
    """The pairs, some at a time, of at most _HELD songs."""
    for start in range(0, len(pairs), _HELD // 2):
        yield pairs[start:start + _HELD // 2]


def _compared(store: Store, ids: pa.Array, pairs: np.ndarray,
              holds: Callable[[np.ndarray, np.ndarray], bool]) -> Iterator[np.ndarray]:
    """Those of the pairs of whose timelines that holds."""
    wanted = np.unique(pairs)
    prints = _prints(store, ids.take(pa.array(wanted)))
    name = dict(zip(wanted.tolist(), ids.take(pa.array(wanted)).to_pylist(), strict=True))
    for pair in track(pairs, "comparing what sounds alike", unit="pairs"):
        a, b = (prints.get(name[song]) for song in pair.tolist())
        if a is not None and b is not None and holds(a, b):
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
