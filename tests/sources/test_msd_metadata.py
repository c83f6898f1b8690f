"""The Million Song Dataset's databases: their values as columns, whatever stands in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.sources.catalogue_files import artist_ids, track_ids, write_track_metadata
from simsong.errors import CatalogueError
from simsong.sources.base import TRACK_ID, positive, text, year_of
from simsong.sources.msd.metadata import ArtistSimilarityDb, ArtistTermDb, MetadataDb, open_database
from storage.tables import TABLES, conform
from tests.source_files import read

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
COLUMNS = ("track_id", "title", "song_id", "release", "artist_id", "artist_mbid", "artist_name", "duration",
           "artist_familiarity", "artist_hotttnesss", "year")
SONGS = """CREATE TABLE songs (track_id text PRIMARY KEY, title text, song_id text, release text,
    artist_id text, artist_mbid text, artist_name text, duration real, artist_familiarity real,
    artist_hotttnesss real, year int)"""
GOB = ("TRAAAFD128F92F423A", "Face the Ashes", "SOFSOCN12A8C143F5D", "Foot in Mouth", "ARXR32B1187FB57099",
       "e188a520-9cb7-4f73-a3d7-2f70c6538e92", "Gob", 218.93179, 0.63, 0.46, 2007)
TERMS = ("CREATE TABLE artists (artist_id TEXT PRIMARY KEY)", "CREATE TABLE terms (term TEXT PRIMARY KEY)",
         "CREATE TABLE artist_term (artist_id TEXT, term TEXT)")
SIMILARITY = ("CREATE TABLE artists (artist_id TEXT PRIMARY KEY)",
              "CREATE TABLE similarity (target TEXT, similar TEXT)")


def database(path: Path, schema: Sequence[str], table: str, rows: Iterable[Sequence[Any]]) -> Path:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db:
        for statement in schema:
            db.execute(statement)
        for row in rows:
            db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        db.commit()
    return path


def metadata(path: Path, *rows: Sequence[Any], schema: str = SONGS) -> Path:
    return database(path / "track_metadata.db", [schema], "songs", rows)


def song(**values: Any) -> tuple[Any, ...]:
    return tuple({**dict(zip(COLUMNS, GOB, strict=True)), **values}.values())


def test_fields(tmp_path: Path) -> None:
    path = metadata(tmp_path, GOB, song(
        track_id="TRB", title="Don\x19t  R&amp;B", artist_name="Cafe\u0301", release="", song_id=None, year=0,
        duration=0.0))
    source = open_database(str(path))
    assert (type(source), source.name, source.rank, source.annotates) == (MetadataDb, "msd", 3, False)
    tables, rejected = read(source)
    assert rejected == []
    nothing = dict.fromkeys(("url", "fingerprint", "lyrics_fingerprint", "fade_in_end_s", "fade_out_start_s"))
    assert tables["tracks"].to_pylist() == [
        {"track_id": "TRAAAFD128F92F423A", "song_id": "SOFSOCN12A8C143F5D", "artist_id": "ARXR32B1187FB57099",
         "artist": "Gob", "title": "Face the Ashes", "release": "Foot in Mouth", "year": 2007,
         "duration_s": 218.93179, "source": "msd", **nothing},
        {"track_id": "TRB", "song_id": None, "artist_id": "ARXR32B1187FB57099", "artist": "Café",
         "title": "Don’t R&B", "release": None, "year": None, "duration_s": None, "source": "msd", **nothing}]


def test_fewer_columns_will_do(tmp_path: Path) -> None:
    schema = "CREATE TABLE SONGS (Track_ID, Title, artist_name)"
    path = metadata(tmp_path, ("TRA", "Song", "Gob"), schema=schema)
    (row,) = read(open_database(str(path)))[0]["tracks"].to_pylist()
    assert {name: value for name, value in row.items() if value is not None} == {
        "track_id": "TRA", "title": "Song", "artist": "Gob", "source": "msd"}


def test_values_of_other_types(tmp_path: Path) -> None:
    """SQLite lets anything stand anywhere."""
    path = metadata(
        tmp_path,
        song(title=1999, artist_name=b"Caf\xc3\xa9", release=b"\xff!", duration="12.5", year="1984-1-2"),
        song(track_id="TRB", title=2.5, artist_name=b"", release=None, duration="long", year="soon"),
        song(track_id="TRC", duration=9e999, year=b"2001"), song(track_id="TRD", duration=-1.0, year=2**62))
    source = open_database(str(path))
    rows = read(source)[0]["tracks"].to_pylist()
    assert source.left_out == {"years": 2}
    assert [[row[name] for name in ("title", "artist", "release", "duration_s", "year")] for row in rows] == [
        ["1999", "Café", "\ufffd!", 12.5, 1984], ["2.5", None, None, None, None],
        ["Face the Ashes", "Gob", "Foot in Mouth", None, 2001],
        ["Face the Ashes", "Gob", "Foot in Mouth", None, None]]


def test_years_of_no_use_are_counted_and_not_taken(tmp_path: Path) -> None:
    """0 says that the year is not known."""
    source = open_database(str(metadata(tmp_path, *(
        song(track_id=f"TR{n}", year=year) for n, year in enumerate((0, 9999, -1999, 9999, 1999, None))))))
    for _ in range(2):
        assert read(source)[0]["tracks"]["year"].to_pylist() == [None] * 4 + [1999, None]
        assert source.left_out == {"years": 3}


def test_ids_that_are_none_are_rejected(tmp_path: Path) -> None:
    path = metadata(tmp_path, song(track_id="../etc"), GOB, song(track_id=None), song(track_id=b"\xff"),
                    song(track_id="A" * 65))
    tables, rejected = read(open_database(str(path)))
    assert tables["tracks"]["track_id"].to_pylist() == [GOB[0]]
    assert [(r.reason, r.detail.partition(";")[0]) for r in rejected] == [
        ("malformed", f"track_metadata.db: row {row} of songs: no usable track_id ({said})")
        for row, said in ((1, "'../etc'"), (3, "None"), (4, r"'\ufffd'"), (5, "'" + "A" * 59))]
    assert len({r.track_id for r in rejected}) == 4
    assert all(TRACK_ID.fullmatch(r.track_id) for r in rejected)


def test_similar_artists_are_ranked_as_they_stand(tmp_path: Path) -> None:
    path = database(tmp_path / "artist_similarity.db", SIMILARITY, "similarity", [
        ("ARA", "ARX"), ("ARA", "ARA"), ("ARA", "ARY"), ("ARB", "ARA"), ("ARA", None), ("ARB", "ARX"),
        ("ARA", "ARB")])
    source = open_database(str(path))
    assert (type(source), source.rank, source.annotates) == (ArtistSimilarityDb, 0, True)
    for _ in range(2):              # a second reading counts anew
        tables, (rejected,) = read(source)
        assert [tuple(row.values()) for row in tables["artist_similars"].to_pylist()] == [
            ("ARA", "ARX", 0), ("ARA", "ARY", 1), ("ARB", "ARA", 0), ("ARB", "ARX", 1), ("ARA", "ARB", 2)]
        assert "row 5 of similarity: no usable similar_id (None)" in rejected.detail


def test_ranks_go_on_over_batches(tmp_path: Path) -> None:
    """150,000 pairs: two batches, the second of which begins within an artist's."""
    artists = artist_ids(1000, 0).to_pylist()
    path = database(tmp_path / "x.db", SIMILARITY, "similarity",
                    ((artist, f"AR{n}") for artist in artists for n in range(150)))
    table = read(open_database(str(path)))[0]["artist_similars"]
    assert table["artist_id"].to_pylist() == [artist for artist in artists for _ in range(150)]
    assert table["rank"].to_pylist() == [*range(150)] * 1000


def test_terms_of_artists(tmp_path: Path) -> None:
    path = database(tmp_path / "artist_term.db", TERMS, "artist_term", [
        ("ARA", "punk"), ("ARA", "  pop  punk"), ("ARB", ""), ("AR/B", "x")])
    source = open_database(str(path))
    assert (type(source), source.annotates) == (ArtistTermDb, True)
    tables, rejected = read(source)
    assert tables["artist_terms"].to_pylist() == [
        {"artist_id": "ARA", "name": "punk", "freq": None, "weight": None},
        {"artist_id": "ARA", "name": "pop punk", "freq": None, "weight": None}]
    assert "row 3 of artist_term: no usable name (None)" in rejected[0].detail
    assert "row 4 of artist_term: no usable artist_id ('AR/B')" in rejected[1].detail


def test_other_databases_are_named(tmp_path: Path) -> None:
    other = database(tmp_path / "x.db", ["CREATE TABLE songs (a)", "CREATE TABLE b (c)"], "b", [])
    with pytest.raises(CatalogueError, match=r"x\.db: holds songs, b; track_metadata\.db, .* was expected"):
        open_database(str(other))
    schema = [SONGS.replace("songs", "s"), "CREATE VIEW songs AS SELECT * FROM s"]
    view = database(tmp_path / "y.db", schema, "s", [GOB])
    with pytest.raises(CatalogueError, match=r"y\.db"):
        read(open_database(str(view)))
    with pytest.raises(CatalogueError, match="songs is empty"):
        read(open_database(str(metadata(tmp_path))))


# Python writes no lone surrogates into SQLite.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = (st.none() | st.integers(-2**63, 2**63 - 1) | st.integers(0, 2030) | st.floats() | TEXTS
          | st.binary(max_size=8) | st.sampled_from(["R&amp;B", " a ", "TRX"]))


@given(rows=st.lists(st.tuples(*[VALUES] * len(COLUMNS)), min_size=1, max_size=6))
@FUZZ
def test_any_values_are_rows_or_rejected(rows: list[tuple[Any, ...]], tmp_path: Path) -> None:
    """What is done to columns is what `base` does to each value."""
    path = metadata(tmp_path, *rows, schema=f"CREATE TABLE songs ({', '.join(COLUMNS)})")
    tables, rejected = read(open_database(str(path)))
    wanted = []
    for row in rows:
        # SQLite has no NaN.
        theirs = dict(zip(COLUMNS, (None if v != v else v for v in row), strict=True))
        if (track_id := text(theirs["track_id"])) and TRACK_ID.fullmatch(track_id):
            texts = (text(theirs[name]) for name in ("artist_name", "title", "release"))
            wanted.append((track_id, *texts, year_of(theirs["year"]), positive(theirs["duration"])))
    assert len(wanted) + len(rejected) == len(rows)
    result = tables["tracks"].to_pylist() if wanted else []
    names = ("track_id", "artist", "title", "release", "year", "duration_s")
    assert [tuple(row[name] for name in names) for row in result] == wanted


@pytest.fixture(scope="module")
def full_form(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("msd") / "track_metadata.db"
    write_track_metadata(path, 2000, seed=1)
    return path


def test_the_true_form_is_read_as_the_plain_way_reads_it(full_form: Path) -> None:
    tables, rejected = read(open_database(str(full_form)))
    with closing(sqlite3.connect(full_form)) as db:
        plain = db.execute("SELECT track_id, song_id, artist_id, artist_name, title, release, year, duration "
                           "FROM songs ORDER BY rowid").fetchall()
    tracks = tables["tracks"]
    assert rejected == []
    assert tracks["track_id"].to_pylist() == track_ids(2000, 1).to_pylist() == [row[0] for row in plain]
    assert [tuple(row.values())[:8] for row in tracks.to_pylist()] == [
        (*map(text, row[:6]), year_of(row[6]), row[7]) for row in plain]
    stored = conform(TABLES["tracks"], tracks.append_column("shard", pa.array([0] * 2000)))
    assert stored["track_id"].to_pylist() == sorted(row[0] for row in plain)


def test_files_cut_short_are_told(full_form: Path, tmp_path: Path) -> None:
    content, path = full_form.read_bytes(), tmp_path / "x.db"
    for size in range(0, len(content), 1024):
        path.write_bytes(content[:size])
        with pytest.raises(CatalogueError, match=r"x\.db: "):
            read(open_database(str(path)))


WRONG = st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4))


@given(wrong=st.lists(WRONG, min_size=1, max_size=4))
@FUZZ
def test_files_with_wrong_bytes_are_rows_or_told(wrong: list[tuple[float, bytes]], tmp_path: Path) -> None:
    path = metadata(tmp_path, *(song(track_id=f"TR{n}") for n in range(30)))
    content = bytearray(path.read_bytes())
    for place, damage in wrong:
        at = 16 + int(place * (len(content) - 16))
        content[at:at + len(damage)] = damage
    path.write_bytes(content[:path.stat().st_size])
    try:
        tables, _ = read(open_database(str(path)))
    except CatalogueError as error:
        assert str(path) in str(error)
        return
    for row in tables.get("tracks", pa.table({})).to_pylist():
        assert TRACK_ID.fullmatch(row["track_id"])
