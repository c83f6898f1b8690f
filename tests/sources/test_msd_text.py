"""The Million Song Dataset's lists: what a line gives, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.sources.catalogue_files import write_track_metadata, write_unique_tracks
from simsong.errors import REASONS, CatalogueError
from simsong.records import Rejected
from simsong.sources.base import COLUMNS, TRACK_ID, Source, text
from simsong.sources.msd.metadata import open_database
from simsong.sources.msd.text import (
    ArtistSimilarity,
    ArtistTerms,
    Mismatches,
    TracksPerYear,
    UniqueTracks,
    is_list,
    open_text,
)
from tests.source_files import read

TEXT = Path(__file__).parents[2].parent / "shared" / "data" / "msd" / "text"
real_data = pytest.mark.skipif(not TEXT.is_dir(), reason="the real data is not on this machine")
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

UNIQUE = ("TRMMMYQ128F932D901<SEP>SOQMMHC12AB0180CB8<SEP>Faster Pussy cat<SEP>Silent Night\n"
          "TRMMMKD128F425225D<SEP>SOVFVAK12A8C1350D9<SEP>Karkkiautomaatti<SEP>Tanssi vaan\n")
YEARS = ("1922<SEP>TRSGHLU128F421DF83<SEP>Alberta Hunter<SEP>Don't Pan Me\n"
         "1922<SEP>TRMYDFV128F42511FC<SEP>Barrington Levy<SEP>Warm And Sunny Day\n")
WRONG = ("ERROR: <SOUMNSI12AB0182807 TRMMGKQ128F9325E10> Digital Underground  -  The Way We Swing  !=  "
         "Linkwood  -  Whats up with the Underground\n"
         "ERROR: <SOCMRBE12AB018C546 TRMMREB12903CEB1B1> Jimmy Reed  -  The Sun Is Shining (Digitally "
         "Remastered)  !=  Slim Harpo  -  I Got Love If You Want It\n")
SIMILAR = ("AR009211187B989185,ARHINI31187B995C1D\nAR009211187B989185,ARI0PUX1187FB3F215\n"
           "ARHINI31187B995C1D,AR009211187B989185\n")
TERMS = 'AR009211187B989185,"lovers rock"\nAR009211187B989185,reggae\nARHINI31187B995C1D,"12"" mix, dub"\n'


def listed(path: Path, content: str | bytes) -> Source:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_text(str(path))


def known(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def test_unique_tracks(tmp_path: Path) -> None:
    source = listed(tmp_path / "unique_tracks.txt", UNIQUE)
    assert (type(source), source.name, source.rank, source.annotates) == (UniqueTracks, "msd", 4, False)
    tables, rejected = read(source)
    assert rejected == []
    assert [*map(known, tables["tracks"].to_pylist())] == [
        {"track_id": "TRMMMYQ128F932D901", "song_id": "SOQMMHC12AB0180CB8", "artist": "Faster Pussy cat",
         "title": "Silent Night", "source": "msd"},
        {"track_id": "TRMMMKD128F425225D", "song_id": "SOVFVAK12A8C1350D9", "artist": "Karkkiautomaatti",
         "title": "Tanssi vaan", "source": "msd"}]


@pytest.mark.parametrize(("separator", "title"), [("<SEP>", "One <SEP> 2; 3"), (";", "One; <SEP> 2;")])
def test_a_title_may_hold_what_is_between_fields(separator: str, title: str, tmp_path: Path) -> None:
    fields = ("TRMMMYQ128F932D901", "SOQMMHC12AB0180CB8", "Gob", title)
    tables, rejected = read(listed(tmp_path / "x", separator.join(fields) + "\r\n"))
    assert rejected == []
    assert tables["tracks"]["title"].to_pylist() == [title]


def test_text_is_mended(tmp_path: Path) -> None:
    line = b"TRMMMYQ128F932D901<SEP>SOQMMHC12AB0180CB8<SEP>Caf\xc3\xa9 \xff<SEP> I Don\x19t \x13 R&amp;B"
    (row,) = read(listed(tmp_path / "x", line))[0]["tracks"].to_pylist()
    assert (row["artist"], row["title"]) == ("Café \ufffd", "I Don’t – R&B")


def test_tracks_per_year(tmp_path: Path) -> None:
    source = listed(tmp_path / "tracks_per_year.txt", YEARS + "0<SEP>TRMYDFV128F42511FA<SEP>A<SEP>B\n")
    assert (type(source), source.rank, source.annotates) == (TracksPerYear, 5, True)
    tables, (rejected,) = read(source)
    assert [*map(known, tables["tracks"].to_pylist())] == [
        {"track_id": "TRSGHLU128F421DF83", "artist": "Alberta Hunter", "title": "Don't Pan Me", "year": 1922,
         "source": "msd"},
        {"track_id": "TRMYDFV128F42511FC", "artist": "Barrington Levy", "title": "Warm And Sunny Day",
         "year": 1922, "source": "msd"}]
    assert rejected == Rejected("TRMYDFV128F42511FA", "malformed", "tracks_per_year.txt:3: no usable year "
                                "(None); year<SEP>track<SEP>artist<SEP>title was expected")


def test_mismatches(tmp_path: Path) -> None:
    source = listed(tmp_path / "sid_mismatches.txt", "# a comment\n" + WRONG + "WARNING: <SOX TRX>\n")
    assert (type(source), source.rank, source.annotates) == (Mismatches, 0, True)
    tables, (rejected,) = read(source)
    assert tables["mismatches"].to_pylist() == [
        {"track_id": "TRMMGKQ128F9325E10", "song_id": "SOUMNSI12AB0182807"},
        {"track_id": "TRMMREB12903CEB1B1", "song_id": "SOCMRBE12AB018C546"}]
    assert rejected.detail.startswith("sid_mismatches.txt:4: no usable track_id (None); ERROR: <song track>")


def test_matches_that_were_accepted_are_no_mismatches(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError):
        listed(tmp_path / "x", "".join("< " + line + "\n" for line in WRONG.splitlines()))


def test_similar_artists_are_ranked_as_they_stand(tmp_path: Path) -> None:
    source = listed(tmp_path / "x.csv", SIMILAR + '"AR009211187B989185","ARX"\nARX,ARX\nARX\nARX,"AR\n')
    assert (type(source), source.rank, source.annotates) == (ArtistSimilarity, 0, True)
    tables, rejected = read(source)
    assert [tuple(row.values()) for row in tables["artist_similars"].to_pylist()] == [
        ("AR009211187B989185", "ARHINI31187B995C1D", 0), ("AR009211187B989185", "ARI0PUX1187FB3F215", 1),
        ("ARHINI31187B995C1D", "AR009211187B989185", 0), ("AR009211187B989185", "ARX", 2)]
    assert [r.detail.partition(" ")[0] for r in rejected] == ["x.csv:6:", "x.csv:7:"]


def test_terms_of_artists(tmp_path: Path) -> None:
    source = listed(tmp_path / "x.csv", TERMS + 'ARX,"open\nARX,a,b\nARX,\nARX,""\n')
    assert (type(source), source.annotates) == (ArtistTerms, True)
    tables, rejected = read(source)
    assert [tuple(row.values()) for row in tables["artist_terms"].to_pylist()] == [
        ("AR009211187B989185", "lovers rock", None, None), ("AR009211187B989185", "reggae", None, None),
        ("ARHINI31187B995C1D", '12" mix, dub', None, None)]
    assert [r.detail.partition(" ")[0] for r in rejected] == [f"x.csv:{line}:" for line in (4, 5, 6, 7)]


def test_lines_that_say_nothing_are_skipped(tmp_path: Path) -> None:
    first, second = UNIQUE.splitlines()
    source = listed(tmp_path / "x", f"# comment\n\n{first}\n  \n# {second}\n#\n # {first}\nTRX\n{second}")
    tables, rejected = read(source)
    assert tables["tracks"]["title"].to_pylist() == ["Silent Night", "Tanssi vaan"]
    assert [r.detail.partition(" ")[0] for r in rejected] == ["x:8:"]


def test_lines_that_are_too_long_are_rejected(tmp_path: Path) -> None:
    fields = UNIQUE.splitlines()[0] + "x" * 20_000
    tables, (rejected,) = read(listed(tmp_path / "x", f"{fields}\n{UNIQUE}"))
    assert tables["tracks"].num_rows == 2
    assert rejected.detail.startswith("x:1: no usable track_id (None)")


def test_an_endless_line_is_told(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="x"):
        listed(tmp_path / "x", b"T" * (3 << 20))
    source = listed(tmp_path / "x", UNIQUE.encode() + b"T" * (3 << 20))
    with pytest.raises(CatalogueError, match=r"x:3: a line of over"):
        read(source)


def test_lines_are_numbered_through_all_blocks(tmp_path: Path) -> None:
    lines = [f"TRAAAAA{n:011X}<SEP>SOAAAAA{n:011X}<SEP>Artist<SEP>Title {n}" for n in range(40_000)]
    lines[33_333] = "damaged"
    source = listed(tmp_path / "x", "\n".join(lines))
    batches = list(source.read())
    assert len(batches) > 3
    (rejected,) = (item for item in batches if isinstance(item, Rejected))
    assert rejected.detail.startswith("x:33334: ")
    assert read(source)[0]["tracks"]["title"].to_pylist() == [
        f"Title {n}" for n in range(40_000) if n != 33_333]


@pytest.mark.parametrize("content", [
    b"", b"\n\n", b"# only\n", b"artist,title\na,b\n", b"\x89HDF\r\n\x1a\n", b"SQLite format 3\0",
    b"TRMMMYQ128F932D901\trock\n", b"TRMMMYQ128F932D901,12345,1:2,3:4\n",
    b"TRMMMYQ128F932D901<SEP>Fergie<SEP>London Bridge<SEP>7299303<SEP>Fergie<SEP>London Bridge\n",
])
def test_what_is_no_list(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    assert not is_list(str(tmp_path / "x"))
    with pytest.raises(CatalogueError, match=r"unique_tracks\.txt, .* was expected"):
        open_text(str(tmp_path / "x"))
    assert not is_list(str(tmp_path))
    assert not is_list(str(tmp_path / "absent"))


def test_the_true_form_says_what_the_database_says(tmp_path: Path) -> None:
    write_unique_tracks(tmp_path / "x.txt", 2000, seed=3)
    write_track_metadata(tmp_path / "x.db", 2000, seed=3)
    lists, databases = (read(source)[0]["tracks"] for source in (
        open_text(str(tmp_path / "x.txt")), open_database(str(tmp_path / "x.db"))))
    same = ["track_id", "song_id", "artist", "title"]
    assert lists.select(same).to_pylist() == databases.select(same).to_pylist()


def checked(source: Source) -> None:
    keys = {"track_id", "artist_id", "similar_id"}
    tables, rejected = read(source)
    for name, table in tables.items():
        assert tuple(table.column_names) == COLUMNS[name]
        for row in table.to_pylist():
            assert all(TRACK_ID.fullmatch(row[key]) for key in keys & row.keys() if row[key])
            assert all(value == text(value) for value in row.values() if isinstance(value, str))
    assert all(r.reason in REASONS and r.detail.isprintable() for r in rejected)
    assert all(TRACK_ID.fullmatch(r.track_id) for r in rejected)


CONTENTS = {"unique": UNIQUE, "semicolon": UNIQUE.replace("<SEP>", ";"), "years": YEARS, "mismatches": WRONG,
            "similar": SIMILAR, "terms": TERMS}
each = pytest.mark.parametrize("content", CONTENTS.values(), ids=list(CONTENTS))
PIECES = st.sampled_from(["<SEP>", ";", ",", '"', '""', "\n", "\r", "\x13", "#", " ", "1999", "ERROR: <", ">",
                          "TRMMMYQ128F932D901", "ARHINI31187B995C1D"])


@each
@given(rest=st.binary(max_size=60) | st.lists(PIECES | st.text(max_size=3), max_size=15).map(
    lambda pieces: "".join(pieces).encode("utf-8", "surrogatepass")))
@FUZZ
def test_any_bytes_are_rows_or_rejected(content: str, rest: bytes, tmp_path: Path) -> None:
    checked(listed(tmp_path / "x", content.encode() + rest))


@each
def test_files_cut_short_are_rows_or_told(content: str, tmp_path: Path) -> None:
    raw = content.encode()
    for size in range(len(raw)):
        try:
            checked(listed(tmp_path / "x", raw[:size]))
        except CatalogueError as error:
            assert "was expected" in str(error)
            assert size < raw.index(b"\n")


@real_data
@pytest.mark.parametrize(("file", "form", "rows"), [
    ("unique_tracks.txt", UniqueTracks, 5000), ("subset_unique_tracks_semicolon.txt", UniqueTracks, 2000),
    ("artist_similarity.csv", ArtistSimilarity, 8000), ("artist_term.csv", ArtistTerms, 8000)])
def test_real_lists(file: str, form: Callable[..., Source], rows: int, tmp_path: Path) -> None:
    source = open_text(str(TEXT / file))
    assert type(source) is form
    tables, rejected = read(source)
    assert [table.num_rows for table in tables.values()] == [rows]
    assert rejected == []
    content = (TEXT / file).read_bytes()
    for size in range(1024, len(content), 16 * 1024):
        checked(listed(tmp_path / "x", content[:size]))


@real_data
def test_real_unique_tracks_by_a_plain_loop() -> None:
    tracks = read(open_text(str(TEXT / "unique_tracks.txt")))[0]["tracks"].to_pylist()
    lines = (TEXT / "unique_tracks.txt").read_bytes().removesuffix(b"\n").split(b"\n")
    assert [[t["track_id"], t["song_id"], t["artist"], t["title"]] for t in tracks] == [
        [text(field) for field in line.split(b"<SEP>")] for line in lines]


@real_data
def test_real_terms_and_similar_artists() -> None:
    terms = read(open_text(str(TEXT / "artist_term.csv")))[0]["artist_terms"].to_pylist()
    assert [row["name"] for row in terms[:4]] == ["lovers rock", "reggae", "roots reggae", "uk garage"]
    similar = read(open_text(str(TEXT / "artist_similarity.csv")))[0]["artist_similars"].to_pylist()
    assert [tuple(row.values()) for row in similar[:2]] == [
        ("AR009211187B989185", "ARHINI31187B995C1D", 0), ("AR009211187B989185", "ARI0PUX1187FB3F215", 1)]
    assert max(row["rank"] for row in similar) == 38
