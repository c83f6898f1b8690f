"""One catalogue from several sources: a row per track, what is known beside it, and the shard it lives in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.config import Catalogue
from simsong.errors import CatalogueError
from simsong.records import Rejected, Rows
from simsong.sources.base import COLUMNS, Source, artist_id_of

# Tables beside `tracks`: whose rows they are, and what may stand there once only.
KEYS: dict[str, tuple[str, str]] = {
    "similars": ("track_id", "similar_id"),
    "tags": ("track_id", "name"),
    "genres": ("track_id", "name"),
    "words": ("track_id", "word"),
    "artist_terms": ("artist_id", "name"),
    "artist_similars": ("artist_id", "similar_id"),
}


@dataclass(frozen=True)
class Collected:
    """The catalogue.

    `tables` has `tracks`, sorted by track_id, with a `shard`, and every table of KEYS, sorted by its owner;
    a column that no source knows is of Arrow's null type. `rejected` has an entry for each unusable record,
    whose song may be in the catalogue all the same, as a duplicate's is, or one that another source knows.
    """

    tables: Mapping[str, pa.Table]
    rejected: list[Rejected]


def collect(sources: Sequence[Source], catalogue: Catalogue, known_shards: Mapping[str, int]) -> Collected:
    """Read all sources and make one catalogue of them.

    A track is described by the first source that has it; what that one does not know is filled in from later
    ones. Sources that annotate add tracks only where there are no others. Pairs and labels are kept for the
    catalogue's tracks and artists, in the order given; what those are similar to may lie outside.

    Args:
        known_shards: the shards of all tracks ever catalogued, by track_id.
    Raises: CatalogueError where a source cannot be read, or no track is usable.
    """
    chunks, rejected = _read(sources)
    tracks = _merged(chunks.pop("tracks"))
    tracks = _titled(tracks, rejected)
    if not tracks.num_rows:
        names = ", ".join(source.name for source in sources) or "no source"
        first = f"; {len(rejected)} rejected, the first: {rejected[0].detail}" if rejected else ""
        raise CatalogueError(f"no usable track in {names}{first}")
    ids: list[str] = tracks["track_id"].to_pylist()
    if catalogue.limit is not None and catalogue.limit < len(ids):
        chosen = choose(ids, catalogue.limit, catalogue.seed)
        ids = [ids[row] for row in chosen]
        tracks = tracks.take(pa.array(chosen))
    shards = assign_shards(ids, known_shards, catalogue.shard_songs)
    tracks = _with_artist_ids(tracks).append_column("shard", pa.array([shards[i] for i in ids], pa.int32()))

    owners = {"track_id": tracks["track_id"].combine_chunks(),
              "artist_id": tracks["artist_id"].unique().sort()}
    tables = {name: _belonging(name, chunks.pop(name), owners[key]) for name, (key, _) in KEYS.items()}
    return Collected({"tracks": tracks, **tables}, rejected)


def choose(track_ids: Sequence[str], limit: int, seed: int) -> list[int]:
    """Positions of `limit` tracks, ascending. Always the same ones; a larger limit keeps the smaller's."""
    def order(row: int) -> bytes:
        return hashlib.blake2b(f"{seed}:{track_ids[row]}".encode(), digest_size=16).digest()
    return sorted(sorted(range(len(track_ids)), key=order)[:limit])


def assign_shards(track_ids: Iterable[str], known: Mapping[str, int], shard_songs: int) -> dict[str, int]:
    """The shard of each track. Known ones keep theirs; new ones, sorted, are cut into shards of their own,
    numbered from after the highest known, so no shard ever grows or is refilled."""
    wanted = set(track_ids)
    after = max(known.values(), default=-1) + 1
    new = sorted(wanted - known.keys())
    return ({track_id: known[track_id] for track_id in wanted & known.keys()}
            | {track_id: after + row // shard_songs for row, track_id in enumerate(new)})


def _read(sources: Sequence[Source]) -> tuple[dict[str, list[pa.Table]], list[Rejected]]:
    """Everything given, as Arrow tables in the order of the sources.

    `tracks` gets a column `own`: no mere annotation. Key columns of the other tables are dictionary-encoded:
    there can be 50 million pairs of a million songs.
    """
    alone = all(source.annotates for source in sources)
    chunks: dict[str, list[pa.Table]] = {name: [] for name in COLUMNS}
    rejected: list[Rejected] = []
    for source in sources:
        for item in source.read():
            if isinstance(item, Rejected):
                rejected.append(item)
                continue
            table = _arrow(item)
            if item.table == "tracks":
                own = np.full(table.num_rows, alone or not source.annotates)
                table = table.append_column("own", pa.array(own))
            else:
                for name in KEYS[item.table]:
                    at = table.schema.get_field_index(name)
                    table = table.set_column(at, name, table[name].cast(pa.string()).dictionary_encode())
            chunks[item.table].append(table)
    return chunks, rejected


def _arrow(rows: Rows) -> pa.Table:
    def array(values: Any) -> pa.Array | pa.ChunkedArray:
        return values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return pa.table({name: array(values) for name, values in rows.columns.items()})


def _merged(chunks: list[pa.Table]) -> pa.Table:
    """A row per track that some source has of its own, sorted by id: each column's first known value."""
    names = COLUMNS["tracks"]
    if not chunks:
        return pa.table({name: pa.nulls(0) for name in names})
    rows = pa.concat_tables(chunks, promote_options="permissive").combine_chunks()
    coded = rows["track_id"].combine_chunks().dictionary_encode()
    code, ids = coded.indices.to_numpy(), coded.dictionary
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    for name in names:
        if name not in rows.column_names:
            columns[name] = pa.nulls(len(ids))
            continue
        known = np.flatnonzero(rows[name].is_valid().to_numpy())
        at = np.full(len(ids), -1)
        found, first = np.unique(code[known], return_index=True)
        at[found] = known[first]
        columns[name] = rows[name].take(pa.array(at, mask=at < 0))
    own = np.zeros(len(ids), bool)
    own[code[rows["own"].to_numpy()]] = True
    return pa.table(columns).filter(pa.array(own)).sort_by("track_id")


def _titled(tracks: pa.Table, rejected: list[Rejected]) -> pa.Table:
    """The tracks that have artist and title; the rest is rejected, since there is nothing to search by."""
    usable = tracks["artist"].is_valid().to_numpy() & tracks["title"].is_valid().to_numpy()
    for row in tracks.filter(pa.array(~usable)).select(["track_id", "artist"]).to_pylist():
        missing = "artist" if row["artist"] is None else "title"
        rejected.append(Rejected(row["track_id"], "no_title", f"{row['track_id']}: no {missing}"))
    return tracks.filter(pa.array(usable))


def _with_artist_ids(tracks: pa.Table) -> pa.Table:
    """Artists without an id get one from their name: splits are by artist, so every track needs one."""
    at = tracks.schema.get_field_index("artist_id")
    artists, ids = tracks["artist"].to_pylist(), tracks["artist_id"].to_pylist()
    return tracks.set_column(at, "artist_id", pa.array(
        [given or artist_id_of(artist) for given, artist in zip(ids, artists, strict=True)], pa.string()))


def _belonging(name: str, chunks: list[pa.Table], owners: pa.Array) -> pa.Table:
    """The rows of these owners, one for each key (the first), in the order of owners, then as given."""
    if not chunks:
        return pa.table({column: pa.nulls(0) for column in COLUMNS[name]})
    rows = pa.concat_tables(chunks, promote_options="permissive").unify_dictionaries().combine_chunks()
    owner_name, other_name = KEYS[name]
    owner, other = rows[owner_name].combine_chunks(), rows[other_name].combine_chunks()
    # Positions in `owners` (-1: not among them), by code and then by row: each string is looked up once.
    places = pc.call_function("index_in", [owner.dictionary], pc.SetLookupOptions(owners)).fill_null(-1)
    place = places.to_numpy()[owner.indices.to_numpy()]
    kept = np.flatnonzero(place >= 0)
    keys = place[kept].astype(np.int64) * max(len(other.dictionary), 1) + other.indices.to_numpy()[kept]
    first = kept[np.unique(keys, return_index=True)[1]]
    rows = rows.take(pa.array(first[np.lexsort((first, place[first]))]))
    for column in KEYS[name]:
        rows = rows.set_column(rows.schema.get_field_index(column), column, rows[column].cast(pa.string()))
    return rows.select([column for column in COLUMNS[name] if column in rows.column_names])
