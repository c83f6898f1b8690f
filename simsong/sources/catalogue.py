"""One catalogue from several sources: a row per track, what is known beside it, and the shard it lives in.

The joins run in DuckDB on disk, so that 56 million pairs of a million songs need no more memory than a tenth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from simsong.config import CatalogueSettings
from simsong.errors import CatalogueError
from simsong.sources.base import COLUMNS, Source, artist_id_of
from simsong.sources.duplicates import mark_duplicates
from simsong.sources.files import FILES, identify
from simsong.sources.selection import select
from simsong.sources.staging import NUMBERED, stage

# Tables beside `tracks`: whose rows they are, and what may stand there once only.
KEYS: dict[str, tuple[str, ...]] = {
    "similars": ("track_id", "similar_id"),
    "tags": ("track_id", "name"),
    "genres": ("track_id", "source", "name"),
    "words": ("track_id", "word"),
    "timbre": ("track_id",),
    "artist_terms": ("artist_id", "name"),
    "artist_similars": ("artist_id", "similar_id"),
}
ARTIST_TERM = "artist_term"         # the provenance of a genre that is the artist's weightiest term

MEMORY = "300MB"                    # DuckDB's; beyond it, it spills to disk
SORTED_ROWS = 4_000_000             # of numbers, at once: DuckDB's spilling costs more than reading again
OUT_ROWS = 131_072                  # of a batch given out

SHARDS = pa.schema([("track_id", pa.string()), ("shard", pa.int32()),
                    ("gone_at", pa.timestamp("us", tz="UTC"))])     # null while it is in the catalogue


@dataclass(frozen=True)
class Known:
    """What earlier catalogues of a store held."""

    shards: pa.Table = field(default_factory=SHARDS.empty_table)    # of every track
    files: pa.Table = field(default_factory=FILES.empty_table)


@dataclass
class Collected:
    """The catalogue, while `collecting` lasts.

    `tracks` is sorted by track_id, with a `shard` and, where it is marked as the same recording as another,
    that one's id as `duplicate_of`; the tables of KEYS are sorted by their keys; `vocabulary` has the tags
    with the songs they stand on, in all the sources.
    """

    db: duckdb.DuckDBPyConnection
    strings: dict[str, pa.Array]        # by place, for the tables whose strings are numbered
    facts: dict[str, Any] = field(default_factory=dict[str, Any])       # for `simsong catalogue`

    def rows(self, table: str) -> Iterator[pa.Table]:
        """Batches in key order; none where the table is empty."""
        if table == "tracks":
            return self._stream(["SELECT merged.*, shard, duplicate_of FROM tracks "
                                 "JOIN merged USING (track_id) ORDER BY track_id"], ("track_id",))
        if table == "vocabulary":
            return self._stream(["SELECT name, songs FROM vocabulary ORDER BY name"], ("name",))
        key, numbered = KEYS[table], NUMBERED.get(table)
        if numbered is None:
            columns = ", ".join(COLUMNS[table])
            return self._stream([f"SELECT {columns} FROM raw_{table} SEMI JOIN tracks USING ({key[0]})"
                                 f" ORDER BY {', '.join(key)}, raw_{table}.rowid"], key)
        # Numbers are sorted in place of the strings, and become them on the way out.
        places = ", ".join(f"{name}s.place AS {name}" if name in numbered else f"t.{name}"
                           for name in COLUMNS[table])
        joins = " ".join(f"JOIN {_strings_of(name, domain)} {name}s ON {name}s.code = t.{name}"
                         for name, domain in numbered.items())
        order = f"ORDER BY {', '.join(f'{name}s.place' for name in key)}, t.rowid"
        rows = self._stream([f"SELECT {places} FROM raw_{table} t {joins} "
                             f"WHERE {key[0]}s.place >= {first} AND {key[0]}s.place < {end} {order}"
                             for first, end in self._ranges(table)], key)
        return (_spelled(batch, {name: self.strings[numbered[name]] for name in numbered}) for batch in rows)

    def outcomes(self) -> Iterator[pa.Table]:
        """track_id, status, reason, detail: of the tracks, and of records that gave none (once each)."""
        return self._stream([
            "SELECT track_id, 'ok' AS status, NULL::VARCHAR AS reason, NULL::VARCHAR AS detail FROM tracks "
            "UNION ALL SELECT track_id, 'failed', reason, detail FROM ("
            "  SELECT track_id, arg_min(reason, rowid) AS reason, arg_min(detail, rowid) AS detail"
            "  FROM raw_rejected ANTI JOIN tracks USING (track_id) GROUP BY track_id) "
            "ORDER BY track_id"], ("track_id",))

    def live_shards(self) -> list[int]:
        """The shards of the tracks, ascending."""
        rows = self.db.execute("SELECT DISTINCT shard FROM tracks ORDER BY 1").fetchall()
        return [shard for shard, in rows]

    def shards(self, at: datetime) -> Iterator[pa.Table]:
        """track_id, shard, gone_at: of every track ever catalogued.

        Args: at: when those left that are no longer there.
        """
        return self._stream(["SELECT track_id, shard, NULL::TIMESTAMPTZ AS gone_at FROM tracks UNION ALL "
                             f"SELECT track_id, shard, coalesce(gone_at, '{at.isoformat()}'::TIMESTAMPTZ) "
                             "FROM known ANTI JOIN tracks USING (track_id) "
                             "ORDER BY track_id"], ("track_id",))

    def files(self) -> Iterator[pa.Table]:
        """Rows of `files`: of every local file ever catalogued."""
        columns = "track_id, url, stat, sound, fingerprint, duration_s"
        return self._stream([f"SELECT {columns} FROM files UNION ALL "
                             f"SELECT {columns} FROM known_files ANTI JOIN files USING (track_id) "
                             "ORDER BY track_id"], ("track_id",))

    def lost(self) -> tuple[int, int, list[str]]:
        """How many songs leave the catalogue, of how many that it had; the first of them by id."""
        lost, ids = _row(self.db, "SELECT count(*), (array_agg(track_id ORDER BY track_id))[:3] FROM known "
                                  "ANTI JOIN tracks USING (track_id) WHERE gone_at IS NULL")
        songs, = _row(self.db, "SELECT count(*) FROM known WHERE gone_at IS NULL")
        return lost, songs, ids or []

    def _ranges(self, table: str) -> Iterator[tuple[int, int]]:
        """Of the places of track_ids: so many that the rows of one are sorted in memory."""
        count, = _row(self.db, f"SELECT count(*) FROM raw_{table}")
        parts = -(-count // SORTED_ROWS) or 1
        ids = len(self.strings["ids"])
        return pairwise(ids * part // parts for part in range(parts + 1))

    def _stream(self, queries: Sequence[str], key: tuple[str, ...]) -> Iterator[pa.Table]:
        """Rows of queries, each of which orders them by key; of several with one key, the first."""
        with self.db.cursor() as cursor:
            last: pa.Table | None = None
            readers = (cursor.execute(query).to_arrow_reader(OUT_ROWS) for query in queries)
            for rows in _regrouped(chain.from_iterable(readers)):
                rows, last = _firsts(rows, key, last), rows.slice(rows.num_rows - 1)
                if rows.num_rows:
                    yield rows


@contextmanager
def collecting(sources: Sequence[Source], catalogue: CatalogueSettings, known: Known,
               folder: Path) -> Iterator[Collected]:
    """Read all sources and make one catalogue of them.

    A track is described by the first source that has it; what that one does not know is filled in from later
    ones. Sources that annotate add tracks only where there are no others. Pairs and labels are kept for the
    catalogue's tracks and artists; of two with one key the one given first; what those are similar to may
    lie outside.

    Args:
        known: they keep their shards, and files their ids.
        folder: empty, for what does not fit into memory.
    Raises: CatalogueError where a source cannot be read, or no track is usable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(folder / "catalogue.duckdb"), config={
            "memory_limit": MEMORY, "temp_directory": str(folder / "spill"),
            "autoload_known_extensions": False}) as db:
        strings = stage(db, sources)
        rows_read = {name: _row(db, f"SELECT count(*) FROM raw_{name}")[0] for name in COLUMNS}
        identify(db, known.files)
        _merge(db)
        _reject(db, sources)
        _label(db, catalogue)
        select(db, catalogue)
        _place(db, known.shards, catalogue.shard_songs)
        mark_duplicates(db)
        left_out: dict[str, Counter[str]] = {}
        for source in sources:
            left_out.setdefault(source.name, Counter()).update(getattr(source, "left_out", {}))
        yield Collected(db, strings, {"given": rows_read, **_facts_of(db), "left_out": left_out})


def _merge(db: duckdb.DuckDBPyConnection) -> None:
    """A row per track that some source has of its own: each column's first known value."""
    once, = _row(db, "SELECT count(*) = count(DISTINCT track_id) FROM raw_tracks")
    if once:
        db.execute("ALTER TABLE raw_tracks RENAME TO merged")
        db.execute("DELETE FROM merged WHERE NOT own")
        db.execute("ALTER TABLE merged DROP COLUMN own")
        return
    columns = [name for name in COLUMNS["tracks"] if name != "track_id"]
    firsts = ", ".join(f"arg_min({name}, rowid) AS {name}" for name in columns)
    db.execute(f"CREATE TABLE merged AS SELECT track_id, {firsts} FROM raw_tracks "
               "GROUP BY track_id HAVING bool_or(own)")
    db.execute("DROP TABLE raw_tracks")


def _reject(db: duckdb.DuckDBPyConnection, sources: Sequence[Source]) -> None:
    """Tracks without artist or title, since there is nothing to search by; those that the dataset itself
    says are matched to a wrong song."""
    db.execute("""
        INSERT INTO raw_rejected SELECT track_id, 'no_title',
            track_id || ': no ' || CASE WHEN artist IS NULL THEN 'artist' ELSE 'title' END
        FROM merged WHERE artist IS NULL OR title IS NULL ORDER BY track_id""")
    db.execute("DELETE FROM merged WHERE artist IS NULL OR title IS NULL")
    db.execute("""
        CREATE TABLE untrusted AS SELECT DISTINCT m.track_id, m.song_id FROM merged m JOIN raw_mismatches x
        ON m.track_id = x.track_id AND (m.song_id IS NULL OR x.song_id IS NULL OR m.song_id = x.song_id)""")
    db.execute("""
        INSERT INTO raw_rejected SELECT track_id, 'untrusted',
            track_id || ': the dataset lists it as matched to a wrong song' || coalesce(', ' || song_id, '')
        FROM untrusted ORDER BY track_id""")
    db.execute("DELETE FROM merged WHERE track_id IN (SELECT track_id FROM untrusted)")
    usable, = _row(db, "SELECT count(*) FROM merged")
    if not usable:
        names = ", ".join(source.name for source in sources) or "no source"
        rejected, first = _row(db, "SELECT count(*), arg_min(detail, rowid) FROM raw_rejected")
        raise CatalogueError(f"no usable track in {names}"
                             + (f"; {rejected} rejected, the first: {first}" if rejected else ""))


def _label(db: duckdb.DuckDBPyConnection, catalogue: CatalogueSettings) -> None:
    """Artists without an id get one from their name: splits are by artist. Tags become a vocabulary without
    those on next to no songs. Tracks without a genre get their artist's weightiest term as one."""
    db.execute("CREATE TABLE named (artist VARCHAR, artist_id VARCHAR)")
    unnamed = db.execute("SELECT DISTINCT artist FROM merged WHERE artist_id IS NULL")
    with db.cursor() as cursor:
        for rows in unnamed.to_arrow_reader(OUT_ROWS):
            rows_named = pa.table({"artist": rows["artist"],
                                   "artist_id": [artist_id_of(name) for name in rows["artist"].to_pylist()]})
            cursor.register("made", rows_named)
            cursor.execute("INSERT INTO named SELECT * FROM made")
    db.execute("UPDATE merged SET artist_id = named.artist_id FROM named "
               "WHERE merged.artist_id IS NULL AND merged.artist = named.artist")
    db.execute(f"""
        CREATE TABLE vocabulary AS SELECT code, place, value AS name, songs FROM strings_tags JOIN (
            SELECT name AS code, count(DISTINCT track_id) AS songs FROM raw_tags GROUP BY 1) USING (code)
        WHERE songs >= {catalogue.tag_songs}""")
    db.execute(f"""
        INSERT INTO raw_genres SELECT track_id, name, weight, '{ARTIST_TERM}'
        FROM merged ANTI JOIN raw_genres USING (track_id) JOIN (
            SELECT artist_id, arg_max(name, (coalesce(weight, 0), -rowid)) AS name, max(weight) AS weight
            FROM raw_artist_terms GROUP BY artist_id) USING (artist_id)     -- of equals, the first
        ORDER BY track_id""")


def _place(db: duckdb.DuckDBPyConnection, known: pa.Table, shard_songs: int) -> None:
    """The chosen tracks with their shards. Known ones keep theirs; new ones, sorted, are cut into shards of
    their own, numbered from after the highest known, so no shard ever grows or is refilled."""
    db.register("given", known.select(SHARDS.names).cast(SHARDS))
    db.execute("CREATE TABLE known AS SELECT * FROM given")
    db.unregister("given")
    db.execute(f"""
        CREATE TABLE tracks AS
        WITH new AS (SELECT track_id, row_number() OVER (ORDER BY track_id) - 1 AS number
                     FROM chosen ANTI JOIN known USING (track_id))
        SELECT track_id, code, place, artist, artist_id, title, duration_s, coalesce(known.shard,
            (SELECT coalesce(max(shard), -1) + 1 FROM known) + new.number // {shard_songs})::INTEGER AS shard
        FROM chosen JOIN merged USING (track_id)
        LEFT JOIN known USING (track_id) LEFT JOIN new USING (track_id)
        LEFT JOIN strings_ids ON value = track_id""")


def _facts_of(db: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """What was read, kept and dropped, and how well the sources cover each other."""
    facts: dict[str, Any] = {
        "tracks": _row(db, "SELECT count(*) FROM merged")[0],
        "selected": _row(db, "SELECT count(*) FROM tracks")[0],
        "rejected": _counts(db, "SELECT reason, count(*) FROM raw_rejected GROUP BY 1 ORDER BY 1"),
        "sources": _counts(db, "SELECT source, count(*) FROM tracks JOIN merged USING (track_id) "
                               "GROUP BY 1 ORDER BY 1"),
        "artists": _row(db, "SELECT count(DISTINCT artist_id) FROM tracks")[0],
        "gone": _row(db, "SELECT count(*) FROM known ANTI JOIN tracks USING (track_id)")[0],
        "duplicates": _row(db, "SELECT count(*) FROM tracks WHERE duplicate_of IS NOT NULL")[0],
        "mismatches": _row(db, "SELECT count(*) FROM untrusted")[0],
        "tags": {"names": _row(db, "SELECT count(DISTINCT name) FROM raw_tags")[0],
                 "kept": _row(db, "SELECT count(*) FROM vocabulary")[0]},
        "genres": _counts(db, "SELECT source, count(DISTINCT track_id) FROM raw_genres "
                              "SEMI JOIN tracks USING (track_id) GROUP BY 1 ORDER BY 1")}
    covered = {name: f"track_id IN (SELECT track_id FROM raw_{name})" for name in ("genres", "timbre")}
    covered |= {name: f"code IN (SELECT track_id FROM raw_{name})" for name in NUMBERED}
    covered |= {"artist_terms": "artist_id IN (SELECT artist_id FROM raw_artist_terms)",
                "artist_similars": "artist_id IN (SELECT artist_id FROM raw_artist_similars)",
                "duration_s": "duration_s IS NOT NULL", "year": "year IS NOT NULL"}
    counts = ", ".join(f"count(*) FILTER ({condition})" for condition in covered.values())
    numbers = _row(db, f"SELECT {counts} FROM merged "
                       "JOIN (SELECT track_id, code FROM tracks) USING (track_id)")
    facts["covered"] = dict(zip(covered, numbers, strict=True))
    facts["pairs"] = dict(zip(("inside", "songs"), _row(db, """
        SELECT count(*), count(DISTINCT p.track_id) FROM raw_similars p
        SEMI JOIN tracks a ON a.code = p.track_id SEMI JOIN tracks b ON b.code = p.similar_id"""),
        strict=True))
    return facts


def _counts(db: duckdb.DuckDBPyConnection, query: str) -> dict[str, int]:
    return dict(db.execute(query).fetchall())


def _row(db: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = db.execute(query).fetchone()
    assert row is not None
    return row


def _regrouped(reader: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Tables of OUT_ROWS rows (the last one of fewer): column digests depend on where batches end."""
    batches: list[pa.RecordBatch] = []
    count = 0
    for batch in reader:
        while count + batch.num_rows >= OUT_ROWS:
            batches.append(batch.slice(0, OUT_ROWS - count))
            yield pa.Table.from_batches(batches).combine_chunks()
            batch, batches, count = batch.slice(OUT_ROWS - count), [], 0
        if batch.num_rows:
            batches.append(batch)
            count += batch.num_rows
    if batches:
        yield pa.Table.from_batches(batches).combine_chunks()


def _strings_of(column: str, domain: str) -> str:
    """The table whose numbers (code, place) are those to keep in a column."""
    return {"track_id": "tracks", "name": "vocabulary"}.get(column, f"strings_{domain}")


def _spelled(rows: pa.Table, strings: dict[str, pa.Array]) -> pa.Table:
    for name, values in strings.items():
        rows = rows.set_column(rows.column_names.index(name), name, values.take(rows[name].combine_chunks()))
    return rows


def _firsts(rows: pa.Table, key: tuple[str, ...], last: pa.Table | None) -> pa.Table:
    """Rows whose key is not that of the row before, of which `last` stands before the first."""
    before = pa.concat_tables([rows.slice(0, 1) if last is None else last, rows.slice(0, rows.num_rows - 1)])
    differs = [pc.call_function("not_equal", [rows[name], before[name]]) for name in key]
    new = differs[0]
    for more in differs[1:]:
        new = pc.call_function("or", [new, more])
    if last is None:
        new = pa.chunked_array([pa.array([True]), new.slice(1)])
    return rows.filter(new)
