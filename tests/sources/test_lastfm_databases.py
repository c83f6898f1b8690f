"""lastfm_similars.db and lastfm_tags.db: what is read, what is left out, and what becomes of damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsong.errors import CatalogueError
from simsong.records import Rows
from simsong.sources import SOURCES
from simsong.sources.base import TRACK_ID
from simsong.sources.lastfm.databases import Similars, TagsDatabase
from simsong.sources.lastfm.pairs import FEW, careful_texts, pairs_of_texts
from simsong.sources.lastfm.tags import clean_tag
from tests.source_files import read

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
A, B, C, D = (f"TR{letter * 5}128F0000001" for letter in "ABCD")

Table = tuple[str, Sequence[Sequence[Any]]]        # its columns, and rows


def database(path: Path, encoding: str = "UTF-8", **tables: Table) -> Path:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA encoding = '{encoding}'")
        for name, (columns, rows) in tables.items():
            db.execute(f"CREATE TABLE {name} ({columns})")
            for row in rows:
                db.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", row)
        db.commit()
    return path


def similars_db(path: Path, src: Sequence[Sequence[Any]] = (), dest: Sequence[Sequence[Any]] = (),
                encoding: str = "UTF-8") -> Path:
    return database(path, encoding, similars_src=("tid TEXT, target TEXT", src),
                    similars_dest=("tid TEXT, target TEXT", dest))


def tags_db(path: Path, tids: Iterable[Any], tags: Iterable[Any], pairs: Sequence[Sequence[Any]]) -> Path:
    return database(path, tids=("tid TEXT", [[tid] for tid in tids]),
                    tags=("tag TEXT", [[tag] for tag in tags]), tid_tag=("tid INT, tag INT, val REAL", pairs))


def pairs_of(path: Path) -> list[tuple[str, str, float]]:
    tables, _ = read(SOURCES["lastfm"](str(path)))
    return [(row["track_id"], row["similar_id"], row["score"]) for row in tables["similars"].to_pylist()]


def tags_of(path: Path) -> list[tuple[str, str, float]]:
    tables, _ = read(SOURCES["lastfm"](str(path)))
    return [(row["track_id"], row["name"], round(row["weight"], 4)) for row in tables["tags"].to_pylist()]


# --- similars ---

def test_lists_become_pairs(tmp_path: Path) -> None:
    lists = [(A, f"{B},1,{C},0.5"), (B, f"{A},0.25"), (C, f"{A},5e-05,{D},1e0")]
    path = similars_db(tmp_path / "x.db", lists)
    source = SOURCES["lastfm"](str(path))
    assert isinstance(source, Similars)
    assert source.annotates
    tables, rejected = read(source)
    assert rejected == []
    assert set(tables) == {"similars"}
    rows = [tuple(row.values()) for row in tables["similars"].to_pylist()]
    assert rows == [(A, B, 1.0), (A, C, 0.5), (B, A, 0.25), (C, A, pytest.approx(5e-5)), (C, D, 1.0)]
    assert source.left_out == {"pairs": 0}


def test_destinations_are_turned_round(tmp_path: Path) -> None:
    """(A, 1) in the list of B there says that B is in the list of A."""
    dest = [(B, f"{A},1"), (C, f"{A},0.5,{B},0.25")]
    turned = [(A, B, 1.0), (A, C, 0.5), (B, C, 0.25)]
    assert pairs_of(similars_db(tmp_path / "empty.db", [], dest)) == turned
    alone = database(tmp_path / "alone.db", similars_dest=("tid TEXT, target TEXT", dest))
    assert pairs_of(alone) == turned
    assert pairs_of(similars_db(tmp_path / "both.db", [(A, f"{B},1")], dest)) == [(A, B, 1.0)]


@pytest.mark.parametrize(("target", "good", "left_out"), [
    (f"{B},1,{C}", [(B, 1.0)], 1), (f"{B},1,{C},", [(B, 1.0)], 1), (f",,{B},1", [(B, 1.0)], 1),
    (f"{A},1,{B},0.5", [(B, 0.5)], 1), (f"{B},1,{B},0.5,{C},0", [(B, 1.0), (C, 0.0)], 1),
    (f"{B},1.5,{C},-0.1,{D},1", [(D, 1.0)], 2), (f"{B},nan,{C},inf,{D},0.125", [(D, 0.125)], 2),
    (f"{B},x,{C},0.25", [(C, 0.25)], 1), (f"{B},,{C},0.25", [(C, 0.25)], 1),
    (f"../../etc/passwd,1,{B},1", [(B, 1.0)], 1), (f"+RAAAAA128F0000009,1,{B},1", [(B, 1.0)], 1),
    (f"TR\xe9AAAA128F0000009,1,{B},1".encode("latin-1"), [(B, 1.0)], 1),
    (f"TRSHORT,0.5,{B},0.25", [("TRSHORT", 0.5), (B, 0.25)], 0), (f"{B}, 0.5", [(B, 0.5)], 0),
    (f"{B},0.12345678901234567890", [(B, pytest.approx(0.12345679))], 0),
    (f"{B},1.0000000001,{C},1", [(C, 1.0)], 1), (f"{B},1\0,{C},1", [(C, 1.0)], 1), (f"{B},1;{C},0.5", [], 2),
])
def test_good_pairs_of_a_list_are_kept(target: str | bytes, good: list[Any], left_out: int,
                                       tmp_path: Path) -> None:
    """Alone, and as one of many lists that are in order."""
    many = [(f"TRMANYS128F{n:07X}", f"{A},1") for n in range(3 * FEW)]
    source = Similars(str(similars_db(tmp_path / "x.db", [*many[:20], (A, target), *many[20:]])))
    tables, rejected = read(source)
    pairs = [tuple(row.values()) for row in tables["similars"].to_pylist()]
    assert [row for row in pairs if row[0] != A] == [(tid, A, 1.0) for tid, _ in many]
    assert [row[1:] for row in pairs if row[0] == A] == good
    assert source.left_out == {"pairs": left_out}
    assert [(r.track_id, r.reason) for r in rejected] == ([] if good else [(A, "malformed")])


@pytest.mark.parametrize("target", [
    None, 7, 0.5, "", "nothing", f"{A},1", f"{B},2", b"\xff\xfe", ",", "," * 99])
def test_a_row_without_a_usable_pair_is_rejected(target: Any, tmp_path: Path) -> None:
    path = similars_db(tmp_path / "x.db", [(B, f"{C},1"), (A, target)])
    tables, (rejected,) = read(SOURCES["lastfm"](str(path)))
    assert [tuple(row.values()) for row in tables["similars"].to_pylist()] == [(B, C, 1.0)]
    assert (rejected.track_id, rejected.reason) == (A, "malformed")
    assert rejected.detail.startswith("x.db:similars_src:2: ")


@pytest.mark.parametrize("tid", [None, "", "../x", "a b", b"TR\xff", "x" * 65])
def test_a_row_without_an_id_is_rejected(tid: Any, tmp_path: Path) -> None:
    path = similars_db(tmp_path / "x.db", [(tid, f"{C},1"), (A, f"{B},1")])
    _, (rejected,) = read(SOURCES["lastfm"](str(path)))
    assert TRACK_ID.fullmatch(rejected.track_id)
    assert "x.db:similars_src:1: no track id" in rejected.detail
    assert rejected.detail.isprintable()


def test_other_encodings_and_names(tmp_path: Path) -> None:
    path = similars_db(tmp_path / "50% of? #1 é.db", [(A, f"{B},1")], encoding="UTF-16le")
    assert pairs_of(path) == [(A, B, 1.0)]


def test_blobs_are_read_as_text(tmp_path: Path) -> None:
    assert pairs_of(similars_db(tmp_path / "x.db", [(A.encode(), f"{B},1".encode())])) == [(A, B, 1.0)]


def test_many_lists_in_several_batches(tmp_path: Path) -> None:
    """6 MB of lists: batches hold 4 MB."""
    target = ",".join(f"TR{i:011d}AAAAA,0.5" for i in range(5000))
    rows = [(f"TRMANYS128F{n:07X}", target) for n in range(60)]
    items = list(Similars(str(similars_db(tmp_path / "x.db", rows))).read())
    sizes = [len(item.columns["score"]) for item in items if isinstance(item, Rows)]
    assert sum(sizes) == 60 * 5000
    assert max(sizes) <= 4 * 2**20 // len(target) * 5000 + 5000
    assert len(sizes) > 1


IDS = st.sampled_from([A, B, C, "TRX", "", "x y", "-RAAAAA128F0000003", "TRÅNGSS128F0000000",
                       "TRAAAAA128F000000"])
SCORES = st.text(max_size=3) | st.sampled_from([
    "1", "0", "0.5", "0.0123456", "5e-05", "1e-7", "nan", "inf", "-0", "+1", ".5", "1.", "", "0x1", "1_0",
    " 1", "1.0000001", "0.3333333333333333", "9" * 20])
TARGETS = (st.lists(st.tuples(IDS, SCORES), max_size=5).map(lambda pairs: ",".join(map(",".join, pairs)))
           | st.text(alphabet=",.1TR" + "A", max_size=60))


@given(lists=st.lists(st.tuples(st.sampled_from([A, B, "TRX"]), TARGETS), max_size=40))
@settings(FUZZ, max_examples=200)
def test_the_quick_way_gives_what_the_careful_one_does(lists: list[tuple[str, str]]) -> None:
    owners, texts = [owner for owner, _ in lists], [text.encode("utf-8", "replace") for _, text in lists]
    parts = list(pairs_of_texts(owners, texts))
    careful = [careful_texts(owner, text) for owner, text in zip(owners, texts, strict=True)]
    others = [other for others_read, _ in careful for other in others_read]
    assert [other for pairs in parts for other in pairs.others.to_pylist()] == others
    scores = [score for others_read, _ in careful for score in others_read.values()]
    assert [s for pairs in parts for s in pairs.scores.to_pylist()] == pytest.approx(scores)
    assert [c for pairs in parts for c in pairs.counts.tolist()] == [len(others_read) for others_read,
                                                                     _ in careful]
    assert sum(p.left_out for p in parts) == sum(given - len(others_read) for others_read, given in careful)


# --- tags ---

def test_tags_are_joined_cleaned_and_scaled(tmp_path: Path) -> None:
    path = tags_db(tmp_path / "x.db", [A, B], ["Rock", "seen live", "hip-hop", "hiphop", "zero"],
                   [(1, 1, 100.0), (1, 2, 50), (1, 4, 10), (1, 3, 20), (1, 5, 0), (2, 1, 7.5), (2, 3, 30.0)])
    source = SOURCES["lastfm"](str(path))
    assert isinstance(source, TagsDatabase)
    assert source.annotates
    assert tags_of(path) == [(A, "rock", 1.0), (A, "hip hop", 0.2), (A, "zero", 0.0), (B, "rock", 0.075),
                             (B, "hip hop", 0.3)]
    list(source.read())
    assert source.left_out == {"tags": 1}


def test_rows_are_joined_by_their_numbers(tmp_path: Path) -> None:
    """Which need not begin at 1, nor follow each other."""
    path = tags_db(tmp_path / "x.db", [A, B, C], ["rock", "pop", "jazz"],
                   [(3, 3, 100), (3, 1, 50), (1, 2, 25), (2, 2, 25), (9, 1, 1), (1, 9, 1), (-1, 0, 1)])
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM tids WHERE rowid = 2")
        db.execute("UPDATE tags SET rowid = 1000000 WHERE rowid = 3")
        db.execute("UPDATE tid_tag SET tag = 1000000 WHERE tag = 3")
        db.commit()
    source = SOURCES["lastfm"](str(path))
    assert isinstance(source, TagsDatabase)
    assert tags_of(path) == [(C, "jazz", 1.0), (C, "rock", 0.5), (A, "pop", 0.25)]
    list(source.read())
    assert source.left_out == {"tags": 4}


def test_anything_may_stand_in_a_tags_row(tmp_path: Path) -> None:
    odd = [(1, 1, "nan"), (1, 1, None), (1, 1, 101), (1, 1, -1), (1, 1, float("inf")), (1, 1, b"\xff"),
           ("x", 1, 5), (None, 1, 5), (1, "rock", 5), (1.5, 1, 5), (2**63 - 1, -2**63, 5)]
    path = tags_db(tmp_path / "x.db", [A], ["rock", None, b"\xff\xfe", 7, "x" * 1000], [*odd, (1, 1, "60")])
    assert tags_of(path) == [(A, "rock", 0.6)]


def test_a_song_without_an_id_is_rejected(tmp_path: Path) -> None:
    path = tags_db(tmp_path / "x.db", ["../x", A], ["rock"], [(1, 1, 1), (2, 1, 100)])
    tables, (rejected,) = read(SOURCES["lastfm"](str(path)))
    assert tables["tags"]["track_id"].to_pylist() == [A]
    assert rejected.detail == "x.db:tids:1: no track id (b'../x')"


def test_a_song_keeps_its_largest_weight_across_batches(tmp_path: Path) -> None:
    """150,000 rows, of which the song in the middle has the 100,000th: batches hold 100,000."""
    pairs = [(1, 3, 1.0)] * 99_998 + [(2, 1, 10.0), (2, 3, 5.0), (2, 2, 90.0)] + [(3, 3, 1.0)] * 50_000
    path = tags_db(tmp_path / "x.db", [A, B, C], ["hip-hop", "hiphop", "rock"], [])
    with closing(sqlite3.connect(path)) as db:
        db.executemany("INSERT INTO tid_tag VALUES (?, ?, ?)", pairs)
        db.commit()
    assert tags_of(path) == [(A, "rock", 0.01), (B, "rock", 0.05), (B, "hip hop", 0.9), (C, "rock", 0.01)]


VALUES = st.none() | st.integers(-2, 4) | st.floats() | st.text(max_size=3) | st.binary(max_size=3)


@given(tids=st.lists(VALUES | st.sampled_from([A, B]), max_size=4),
       tags=st.lists(VALUES | st.sampled_from(["rock", "Hip-Hop", "hiphop"]), max_size=4),
       pairs=st.lists(st.tuples(VALUES, VALUES, VALUES | st.sampled_from([1.0, "50"])), min_size=1))
@settings(FUZZ, max_examples=40)
def test_any_rows_give_usable_tags(tmp_path: Path, tids: list[Any], tags: list[Any],
                                   pairs: list[Any]) -> None:
    tables, rejected = read(SOURCES["lastfm"](str(tags_db(tmp_path / "x.db", tids, tags, pairs))))
    for row in tables["tags"].to_pylist() if tables else []:
        assert TRACK_ID.fullmatch(row["track_id"])
        assert clean_tag(row["name"]) == row["name"]
        assert 0 <= row["weight"] <= 1
    assert all(TRACK_ID.fullmatch(r.track_id) for r in rejected)


# --- files ---

@pytest.mark.parametrize("tables", [
    {"songs": ("track_id TEXT", [])}, {"similars_src": ("id TEXT", [])}, {"tids": ("tid TEXT", [])},
])
def test_other_databases_are_refused(tables: dict[str, Table], tmp_path: Path) -> None:
    path = database(tmp_path / "x.db", "UTF-8", **tables)
    with pytest.raises(CatalogueError, match=r"x\.db: .*lastfm_similars\.db or lastfm_tags\.db was expected"):
        SOURCES["lastfm"](str(path))


def test_empty_databases_are_refused(tmp_path: Path) -> None:
    for path in (similars_db(tmp_path / "s.db"), tags_db(tmp_path / "t.db", [A], ["rock"], [])):
        with pytest.raises(CatalogueError, match=rf"{path.name}: .* empty"):
            list(SOURCES["lastfm"](str(path)).read())


def test_a_view_is_no_table(tmp_path: Path) -> None:
    """It could count to infinity."""
    path = database(tmp_path / "x.db", other=("x", []))
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE VIEW similars_src (tid, target) AS WITH RECURSIVE n (i) AS "
                   "(SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, i FROM n")
        db.commit()
    with pytest.raises(CatalogueError, match="was expected"):
        SOURCES["lastfm"](str(path))


def test_tables_without_row_numbers_are_told(tmp_path: Path) -> None:
    path = tags_db(tmp_path / "x.db", [], ["rock"], [(1, 1, 1)])
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE tids")
        db.execute("CREATE TABLE tids (tid TEXT PRIMARY KEY) WITHOUT ROWID")
        db.execute("INSERT INTO tids VALUES (?)", (A,))
        db.commit()
    with pytest.raises(CatalogueError, match=r"x\.db: .*rowid"):
        list(SOURCES["lastfm"](str(path)).read())


def usable(path: Path) -> int:
    """How many rows and rejections a file gives; every row is checked."""
    tables, rejected = read(SOURCES["lastfm"](str(path)))
    ids = [track_id for table in tables.values() for track_id in table["track_id"].to_pylist()]
    assert all(r.detail.isprintable() for r in rejected)
    assert all(TRACK_ID.fullmatch(track_id) for track_id in [*ids, *(r.track_id for r in rejected)])
    return len(ids) + len(rejected)


def small_databases(folder: Path) -> list[Path]:
    target = ",".join(f"TR{i:011d}AAAAA,0.{i:03d}" for i in range(1, 150))
    src = [(f"TRMANYS128F{n:07X}", target) for n in range(12)]
    tids = [f"TRMANYS128F{n:07X}" for n in range(200)]
    names = [f"tag number {n}" for n in range(200)]
    return [similars_db(folder / "s.db", src),
            tags_db(folder / "t.db", tids, names, [(n, m, 50.0) for n in range(1, 200) for m in range(1, 4)])]


def test_a_database_cut_at_every_kilobyte_ends_in_one_error(tmp_path: Path) -> None:
    for path in small_databases(tmp_path):
        whole = path.read_bytes()
        assert usable(path) > 500
        for length in range(0, len(whole), 1024):
            path.write_bytes(whole[:length])
            with pytest.raises(CatalogueError, match=path.name):
                usable(path)


@given(data=st.data())
@settings(FUZZ, max_examples=40)
def test_damaged_bytes_end_in_rows_or_one_error(tmp_path: Path, data: st.DataObject) -> None:
    for path in (tmp_path / "s.db", tmp_path / "t.db"):
        if not (whole := path.with_suffix(".whole")).exists():
            small_databases(tmp_path)
            whole.write_bytes(path.read_bytes())
        content = bytearray(whole.read_bytes())
        for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
            content[at] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        try:
            usable(path)
        except CatalogueError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
