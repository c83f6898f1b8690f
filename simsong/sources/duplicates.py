"""The same recording under several ids: found by names and durations, marked, never dropped."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from simsong.matching import same_key

NEAR_S = 2.5                # durations of one recording: encoders and catalogues differ by about a second
_BATCH = 100_000


def mark_duplicates(db: duckdb.DuckDBPyConnection) -> None:
    """Give `tracks` a column `duplicate_of`: the id of the track that it is the same recording as.

    Same are local files of one sound (`files`), whatever they are called; and tracks whose artists, titles
    and albums differ in nothing but case, accents, punctuation, guests and edition, and whose durations are a
    chain of steps of at most NEAR_S. An album or a duration that is not known may be any. Of each group the
    one catalogued first (lowest shard, then id) carries no mark, and all others bear its id.
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
        SELECT begun.*, release FROM begun JOIN (SELECT track_id, release FROM merged) USING (track_id)
        QUALIFY count(*) OVER (PARTITION BY artist, begins) > 1""")
    _keys(db, "title", "SELECT DISTINCT title AS name FROM suspects")
    _keys(db, "release", "SELECT DISTINCT release AS name FROM suspects WHERE release IS NOT NULL")
    db.execute(f"""
        CREATE TABLE same AS
        WITH named AS (SELECT track_id, duration_s, shard, artist, t.key AS title, r.key AS release
                       FROM suspects JOIN keys_title t ON title = t.name
                       LEFT JOIN keys_release r ON release = r.name),
        stepped AS (
            SELECT *, duration_s - lag(duration_s) OVER (
                PARTITION BY artist, title ORDER BY duration_s NULLS LAST, track_id) > {NEAR_S} AS apart
            FROM named),
        chained AS (
            SELECT *, sum(coalesce(apart, false)::INTEGER) OVER (
                PARTITION BY artist, title ORDER BY duration_s NULLS LAST, track_id) AS chain
            FROM stepped),
        known AS (
            SELECT *, coalesce(release, first_value(release IGNORE NULLS) OVER (
                PARTITION BY artist, title, chain ORDER BY shard, track_id
                ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)) AS album
            FROM chained)
        SELECT track_id, shard, dense_rank() OVER (ORDER BY artist, title, chain, album) AS names FROM known
        QUALIFY count(*) OVER (PARTITION BY artist, title, chain, album) > 1""")
    _join_sounds(db)
    db.execute("ALTER TABLE tracks ADD COLUMN duplicate_of VARCHAR")
    db.execute("""
        UPDATE tracks SET duplicate_of = first.track_id FROM grouped, grouped AS first
        WHERE tracks.track_id = grouped.track_id AND first.number = grouped.label
            AND grouped.label <> grouped.number""")
    for table in ("keys_artist", "keys_title", "keys_release", "suspects", "same", "grouped"):
        db.execute(f"DROP TABLE {table}")


def _join_sounds(db: duckdb.DuckDBPyConnection) -> None:
    """The table grouped: the tracks of `same` and those that share a sound, each with its number in the order
    of cataloguing, and as label the lowest number that names or sounds lead to."""
    db.execute("""
        CREATE TABLE grouped AS
        WITH sounding AS (
            SELECT track_id, shard, sound
            FROM tracks JOIN (SELECT track_id, sound FROM files) USING (track_id)
            WHERE sound IS NOT NULL QUALIFY count(*) OVER (PARTITION BY sound) > 1)
        SELECT track_id, names, sound, row_number() OVER (ORDER BY shard, track_id) AS number, number AS label
        FROM (SELECT track_id, coalesce(same.shard, sounding.shard) AS shard, names, sound
              FROM same FULL JOIN sounding USING (track_id))""")
    labels = None
    while labels != (labels := db.execute("SELECT sum(label) FROM grouped").fetchall()):
        for what in ("names", "sound"):
            db.execute(f"""
                UPDATE grouped SET label = lowest.least
                FROM (SELECT {what}, min(label) AS least FROM grouped GROUP BY {what}) lowest
                WHERE grouped.{what} = lowest.{what}""")


def _keys(db: duckdb.DuckDBPyConnection, what: str, names: str) -> None:
    """The table keys_<what>: name, key."""
    db.execute(f"CREATE TABLE keys_{what} (name VARCHAR, key VARCHAR)")
    with db.cursor() as cursor:
        for rows in db.execute(names).to_arrow_reader(_BATCH):
            keyed = pa.table({"name": rows["name"],
                              "key": [same_key(name) for name in rows["name"].to_pylist()]})
            cursor.register("keyed", keyed)
            cursor.execute(f"INSERT INTO keys_{what} SELECT * FROM keyed")
