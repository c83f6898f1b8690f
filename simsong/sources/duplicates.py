"""The same recording under several ids: found by names and durations, marked, never dropped."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from simsong.matching import same_key

NEAR_S = 2.5                # durations of one recording: encoders and catalogues differ by about a second
_BATCH = 100_000


def mark_duplicates(db: duckdb.DuckDBPyConnection) -> None:
    """Give `tracks` a column `duplicate_of`: the id of the track that it is the same recording as.

    Same are tracks whose artists and titles differ in nothing but case, accents, punctuation, guests and
    edition, and whose durations, where both are known, are a chain of steps of at most NEAR_S. Of each group
    the one catalogued first (lowest shard, then id) carries no mark, and all others bear its id.
    """
    _keys(db, "artist", "SELECT DISTINCT artist AS name FROM tracks")
    # A title's key costs microseconds, of a million most are the only one of their artist with such a
    # beginning: those need none.
    db.execute("""
        CREATE TABLE suspects AS
        WITH begun AS (
            SELECT track_id, title, duration_s, shard, key AS artist,
                   left(regexp_replace(lower(strip_accents(title)), '^the |[^a-z0-9]', '', 'g'), 3) AS begins
            FROM tracks JOIN keys_artist ON artist = name)
        SELECT * FROM begun QUALIFY count(*) OVER (PARTITION BY artist, begins) > 1""")
    _keys(db, "title", "SELECT DISTINCT title AS name FROM suspects")
    db.execute(f"""
        CREATE TABLE same AS
        WITH named AS (SELECT track_id, duration_s, shard, artist, key AS title
                       FROM suspects JOIN keys_title ON title = name),
        stepped AS (
            SELECT *, duration_s - lag(duration_s) OVER (
                PARTITION BY artist, title ORDER BY duration_s NULLS LAST, track_id) > {NEAR_S} AS apart
            FROM named),
        grouped AS (
            SELECT *, sum(coalesce(apart, false)::INTEGER) OVER (
                PARTITION BY artist, title ORDER BY duration_s NULLS LAST, track_id) AS chain
            FROM stepped)
        SELECT track_id, first_value(track_id) OVER (
            PARTITION BY artist, title, chain ORDER BY shard, track_id) AS duplicate_of FROM grouped""")
    db.execute("ALTER TABLE tracks ADD COLUMN duplicate_of VARCHAR")
    db.execute("UPDATE tracks SET duplicate_of = same.duplicate_of FROM same "
               "WHERE tracks.track_id = same.track_id AND same.duplicate_of <> same.track_id")
    for table in ("keys_artist", "keys_title", "suspects", "same"):
        db.execute(f"DROP TABLE {table}")


def _keys(db: duckdb.DuckDBPyConnection, what: str, names: str) -> None:
    """The table keys_<what>: name, key."""
    db.execute(f"CREATE TABLE keys_{what} (name VARCHAR, key VARCHAR)")
    with db.cursor() as cursor:
        for rows in db.execute(names).to_arrow_reader(_BATCH):
            keyed = pa.table({"name": rows["name"],
                              "key": [same_key(name) for name in rows["name"].to_pylist()]})
            cursor.register("keyed", keyed)
            cursor.execute(f"INSERT INTO keys_{what} SELECT * FROM keyed")
