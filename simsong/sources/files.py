"""Which song a local file is: by its sound, so that moving, renaming and tagging it change nothing.

A source names files by their places. Here each is looked up among the files known before: first by place and
sound, then by sound alone, since it may have moved; what is found nowhere is a new song. Two files of one
sound are two songs, each with an id that stays.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa

from simsong.files.places import local_path
from simsong.files.sound import sound_digest
from simsong.parallel import ordered_map
from simsong.progress import track
from simsong.sources.base import derived_id

BY_SOUND, PREFIX = "folder", "FL"       # the source whose songs have no other id, and how those begin
_ROWS = 10_000
# What a file and a known one have in common, tried in this order; `name` is the last part of the place. Of a
# store made before sounds were known a file's place tells, or its size and time where it has moved.
_ALIKE = (
    ("url, sound", "sound IS NOT NULL"),
    ("url, stat", "sound IS NULL"),
    ("url", "sound IS NULL"),
    ("sound, name", "sound IS NOT NULL"),
    ("sound", "sound IS NOT NULL"),
    ("stat, name", "sound IS NULL"),
)
FILES = pa.schema([("track_id", pa.string()), ("url", pa.string()), ("stat", pa.string()),
                   ("sound", pa.string()), ("fingerprint", pa.string()), ("duration_s", pa.float32()),
                   ("gone", pa.bool_())])


def identify(db: duckdb.DuckDBPyConnection, known: pa.Table) -> None:
    """Give the songs of `raw_tracks` that are local files their ids and fingerprints; make the table `files`.

    `raw_tracks.fingerprint` comes as size and modification time; it becomes what stays while the sound does.

    Args: known: as FILES, of all files ever catalogued; `gone` is of those that are not in the catalogue now.
    """
    db.register("given_files", known.select(FILES.names).cast(FILES))
    db.execute("""
        CREATE TABLE known_files AS SELECT *, regexp_extract(url, '[^/]*$') AS name FROM given_files;
        CREATE TABLE files AS
            SELECT track_id AS place, any_value(url) AS url, regexp_extract(any_value(url), '[^/]*$') AS name,
                any_value(fingerprint) AS stat, NULL::VARCHAR AS sound, any_value(source) AS source,
                any_value(duration_s) AS duration_s, NULL::VARCHAR AS track_id, NULL::VARCHAR AS fingerprint
            FROM raw_tracks WHERE url LIKE 'file:%' AND fingerprint IS NOT NULL GROUP BY track_id""")
    db.unregister("given_files")
    if db.execute("SELECT count(*) FROM files").fetchall()[0][0]:
        _sounds(db)
        _match(db)
        _name(db)
        db.execute(f"""
            UPDATE raw_tracks SET track_id = f.track_id, fingerprint = f.fingerprint,
                duration_s = CASE WHEN raw_tracks.source = '{BY_SOUND}' THEN f.duration_s
                    ELSE raw_tracks.duration_s END
                FROM files f WHERE raw_tracks.track_id = f.place;
            UPDATE raw_genres SET track_id = f.track_id FROM files f WHERE raw_genres.track_id = f.place""")


def _sounds(db: duckdb.DuckDBPyConnection) -> None:
    """Fill in `files.sound`: as known of a file whose size and time are as before; else the file is read."""
    db.execute("""
        UPDATE files SET sound = k.sound FROM known_files k
        WHERE files.url = k.url AND files.stat = k.stat AND k.sound IS NOT NULL""")
    unread = db.execute("SELECT url FROM files WHERE sound IS NULL ORDER BY url").fetchall()
    read = track(ordered_map(_sound, (url for url, in unread)), "identifying files", len(unread), "files")
    for rows in _batched(read):
        db.register("read", rows)
        db.execute("UPDATE files SET sound = read.sound FROM read WHERE files.url = read.url")
        db.unregister("read")


def _sound(url: str) -> tuple[str, str | None]:
    path = local_path(url)
    try:
        return url, None if path is None else sound_digest(path)
    except OSError:                         # not for us to read: the audio stage is to say so
        return url, None


def _batched(files: Iterator[tuple[str, str | None]]) -> Iterator[pa.Table]:
    batch: list[tuple[str, str | None]] = []
    for one in files:
        batch.append(one)
        if len(batch) >= _ROWS:
            yield _table(batch)
            batch = []
    if batch:
        yield _table(batch)


def _table(rows: list[tuple[str, str | None]]) -> pa.Table:
    return pa.table({"url": [url for url, _ in rows], "sound": pa.array([s for _, s in rows], pa.string())})


def _match(db: duckdb.DuckDBPyConnection) -> None:
    """Fill in `files.track_id` of files known before, each known one once. Sources other than a folder have
    ids of their own."""
    db.execute(f"UPDATE files SET track_id = place WHERE source <> '{BY_SOUND}'")
    for columns, condition in _ALIKE:
        theirs = f"known_files WHERE {condition} AND starts_with(track_id, '{PREFIX}') AND track_id NOT IN " \
                 "(SELECT track_id FROM files WHERE track_id IS NOT NULL)"
        db.execute(f"""
            CREATE TABLE matched AS
            SELECT place, track_id FROM (
                SELECT place, {columns}, row_number() OVER (PARTITION BY {columns} ORDER BY url) AS number
                FROM files WHERE track_id IS NULL)
            JOIN (SELECT track_id, {columns}, row_number() OVER (
                    PARTITION BY {columns} ORDER BY gone, url, track_id) AS number FROM {theirs})
            USING ({columns}, number);
            UPDATE files SET track_id = matched.track_id FROM matched WHERE files.place = matched.place;
            DROP TABLE matched""")
    # What was made of a file's sound before is good as long as the sound is the same.
    db.execute("""
        UPDATE files SET fingerprint = k.fingerprint, duration_s = coalesce(k.duration_s, files.duration_s)
        FROM known_files k
        WHERE files.track_id = k.track_id
            AND (files.sound = k.sound OR k.sound IS NULL AND files.stat = k.stat);
        UPDATE files SET fingerprint = coalesce(sound, stat) WHERE fingerprint IS NULL""")


def _name(db: duckdb.DuckDBPyConnection) -> None:
    """Ids for new songs: of the sound, and of a number where several files have it."""
    db.execute("""
        CREATE TABLE new AS
        SELECT place, coalesce(sound, place) AS sound,
            row_number() OVER (PARTITION BY coalesce(sound, place) ORDER BY url) - 1 AS number,
        FROM files WHERE track_id IS NULL;
        CREATE TABLE taken AS
            SELECT track_id FROM known_files UNION SELECT track_id FROM files WHERE track_id IS NOT NULL""")
    while rows := db.execute("SELECT place, sound, number FROM new ORDER BY ALL").fetchall():
        named = pa.table({"place": [place for place, _, _ in rows],
                          "track_id": [derived_id(PREFIX, sound, *([str(number)] if number else []))
                                       for _, sound, number in rows]})
        db.register("named", named)
        db.execute("""
            CREATE TABLE free AS SELECT * FROM named ANTI JOIN taken USING (track_id);
            UPDATE files SET track_id = free.track_id FROM free WHERE files.place = free.place;
            INSERT INTO taken SELECT track_id FROM free;
            DELETE FROM new WHERE place IN (SELECT place FROM free);
            UPDATE new SET number = number + 1;
            DROP TABLE free""")
        db.unregister("named")
    db.execute("DROP TABLE new; DROP TABLE taken")
