"""Stage artists: the published embeddings → those of artists and of albums, and the nearest to each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from simsong.catalogue.recordings import artists_of_catalogue
from simsong.matching import same_key
from simsong.parts.compute import Done, compute_once
from simsong.parts.stages import RunContext
from simsong.search.groups import centroids
from simsong.search.topk import has_direction, top_k
from storage.exports import Published, published_content, read_published
from storage.identity import digest
from storage.store import Store
from storage.vectors import matrix
from tasks.base import stage_task

VERSION = 1
DEPTH = 50                  # artists near to each, and albums
_ASKED = 8_192              # that ask at a time
_OF_TRACKS = ("track_id", "artist_id", "artist", "release", "year", "shard")


@stage_task("artists")
def artists(run: RunContext, after: list[Done]) -> Done:
    """Write them, where other embeddings are published, or artists and albums go by other names, than when
    they were written. `after`: export."""
    identity = _identity(run.store)
    return compute_once("artists", run.store, identity, lambda: _write(run.store, str(identity)))


def _write(store: Store, identity: str) -> tuple[int, list[str]]:
    published = read_published(store)
    of_artists, of_albums, songs = grouped(store, published)
    written: list[str] = []
    for table, key, groups in (("artists", "artist_id", of_artists), ("albums", "album_id", of_albums)):
        facts = {"model": published.model}
        near = _neighbours(groups, key)
        written += store.write(table, [groups], identity, facts=facts)
        written += store.write(f"{key.removesuffix('_id')}_neighbours", near, identity, facts=facts)
    return songs, written


def _identity(store: Store) -> str | None:
    """None where nothing is published."""
    content = published_content(store)
    column_digests = [[footer.columns[name] for name in _OF_TRACKS] for footer in store.footers("tracks")]
    return digest("artists", VERSION, DEPTH, content, column_digests) if content else None


def grouped(store: Store, published: Published) -> tuple[pa.Table, pa.Table, int]:
    """Artists, albums, as the tables have them, and how many songs are of an artist. A recording counts once;
    songs of nobody known are of none."""
    whose = artists_of_catalogue(store)
    columns = published.tracks.select(["track_id", "artist", "release", "year"]).to_pydict()
    counted = [mark is None for mark in published.duplicate_of]
    labels = [artist if artist != track_id and once else None for track_id, artist, once in
              zip(columns["track_id"], map(whose.get, columns["track_id"]), counted, strict=True)]
    albums = [(label, same_key(release)) if label and release and same_key(release) else None
              for label, release in zip(labels, columns["release"], strict=True)]
    of_artists, rows = _groups(published.embeddings, labels)
    artist_rows = pa.table({
        "artist_id": [labels[own[0]] for own in rows], "artist": _commonest(columns["artist"], rows),
        "songs": pa.array(map(len, rows), pa.int32()), "embedding": of_artists})
    of_albums, rows = _groups(published.embeddings, albums)
    album_rows = pa.table({
        "album_id": [digest("album", *albums[own[0]] or ())[:16] for own in rows],
        "artist_id": [labels[own[0]] for own in rows], "artist": _commonest(columns["artist"], rows),
        "release": _commonest(columns["release"], rows),
        "year": pa.array(_commonest(columns["year"], rows), pa.int16()),
        "songs": pa.array(map(len, rows), pa.int32()), "embedding": of_albums})
    return (artist_rows.sort_by("artist_id"), album_rows.sort_by("album_id"),
            sum(label is not None for label in labels))


def _groups(embeddings: np.ndarray, names: Sequence[Hashable | None]) -> tuple[pa.Array, list[list[int]]]:
    """The mean of each name's songs, and the rows of these, for the names whose songs have one."""
    members: dict[Hashable, list[int]] = {}
    for row, name in enumerate(names):
        if name is not None:
            members.setdefault(name, []).append(row)
    groups = np.full(len(names), -1)
    for number, rows in enumerate(members.values()):
        groups[rows] = number
    means = centroids(embeddings, groups, len(members))
    there = has_direction(means)
    column = pa.FixedSizeListArray.from_arrays(pa.array(means[there].ravel()), embeddings.shape[1])
    return column, [rows for rows, is_known in zip(members.values(), there, strict=True) if is_known]


def _commonest(values: Sequence[Any], groups: Sequence[Sequence[int]]) -> list[Any]:
    """Of each group, the value that most of its songs have; of equals, the smaller."""
    out = []
    for rows in groups:
        counts = Counter(values[row] for row in rows if values[row] is not None)
        out.append(min(counts, key=lambda value: (-counts[value], value), default=None))
    return out


def _neighbours(groups: pa.Table, key: str) -> Iterator[pa.Table]:
    """The DEPTH nearest to each, by cosine, as the table has them."""
    ids, vectors = groups[key].combine_chunks(), matrix(groups) if groups.num_rows else np.zeros((0, 1))
    for first in range(0, len(ids), _ASKED):
        asking = np.arange(first, min(first + _ASKED, len(ids)))
        nearest, cosines = top_k(vectors[asking], vectors, DEPTH, exclude=asking)
        row, place = np.nonzero(nearest >= 0)
        yield pa.table({key: ids.take(pa.array(asking[row])), "rank": pa.array((place + 1).astype(np.int16)),
                        "similar_id": ids.take(pa.array(nearest[row, place])),
                        "score": pa.array(cosines[row, place].astype(np.float32))})
