"""Databases that come from the net are read as they stand, whatever they were made to do."""

from __future__ import annotations

import sqlite3
import struct
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsong.errors import CatalogueError
from simsong.sources.sqlite import Database, is_sqlite

PAGE = 512


def make(path: Path, *statements: str, page: int = PAGE) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {page}")
        for statement in statements:
            db.execute(statement)
    return path


def numbered(n: int) -> str:
    """A table t(a, b) of n rows."""
    return f"""CREATE TABLE t AS WITH RECURSIVE c(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM c WHERE a < {n})
               SELECT a, 'b' || a AS b FROM c"""


def rows(path: Path, columns: tuple[str, ...] = ("a", "b")) -> list[tuple[object, ...]]:
    database = Database(str(path), "a test's database")
    return [row for _, batch in database.rows("t", columns) for row in zip(*batch.values(), strict=True)]


def test_values_come_as_they_stand(tmp_path: Path) -> None:
    path = make(tmp_path / "x.db", "CREATE TABLE t (a, b)",
                "INSERT INTO t VALUES (1, 'é'), (2.5, x'ff00'), (NULL, CAST(x'c3' AS TEXT)), ('', -9)")
    assert rows(path) == [(1, "é".encode()), (2.5, b"\xff\x00"), (None, b"\xc3"), (b"", -9)]


def test_utf16_is_text_too(tmp_path: Path) -> None:
    path = make(tmp_path / "x.db", "PRAGMA encoding = 'UTF-16'", "CREATE TABLE t (a, b)",
                "INSERT INTO t VALUES ('東京', 'Ж')")
    assert rows(path) == [("東京".encode(), "Ж".encode())]


def test_any_file_name_will_do(tmp_path: Path) -> None:
    for name in ("what?.db", "#1.db", "100%25.db", "a b&mode=rwc.db"):
        assert rows(make(tmp_path / name, numbered(2))) == [(1, b"b1"), (2, b"b2")]


def test_columns_and_tables(tmp_path: Path) -> None:
    path = make(tmp_path / "x.db", "CREATE TABLE Songs (Track_ID text, made AS (track_id || '!'))",
                "CREATE VIEW v AS SELECT 1 AS a")
    database = Database(str(path), "")
    assert database.tables() == ["Songs"]
    assert database.columns("songs") == {"track_id"}        # what is computed is left aside
    assert database.columns("absent") == frozenset()


def test_batches_are_in_the_files_order_and_numbered(tmp_path: Path) -> None:
    # An index over all columns would be the shorter way to read, in another order.
    path = make(tmp_path / "x.db", numbered(210_000), "CREATE INDEX i ON t (b, a)", page=4096)
    batches = list(Database(str(path), "").rows("t", ("a", "b")))
    assert [(first, len(batch["a"]), batch["a"][0]) for first, batch in batches] == [
        (1, 100_000, 1), (100_001, 100_000, 100_001), (200_001, 10_000, 200_001)]


def test_batches_are_bounded_in_bytes(tmp_path: Path) -> None:
    path = make(tmp_path / "x.db", numbered(2500), "CREATE TABLE z AS SELECT zeroblob(60000) AS a FROM t",
                page=65536)
    sizes = [60_000 * len(batch["a"]) for _, batch in Database(str(path), "").rows("z", ("a",))]
    assert len(sizes) == 2
    assert max(sizes) < 2 * (64 << 20)


def test_a_row_too_long_is_an_error(tmp_path: Path) -> None:
    path = make(tmp_path / "x.db", "CREATE TABLE t (a, b)", "INSERT INTO t VALUES (1, zeroblob(100000))")
    with pytest.raises(CatalogueError, match=r"x\.db: .*too big"):
        rows(path)
    ((_, batch),) = Database(str(path), "").rows("t", ("a", "b"), row_bytes=200_000)
    assert len(batch["b"][0]) == 100_000


def test_nothing_is_written(tmp_path: Path) -> None:
    """Not even where an earlier writer left a journal to be rolled back."""
    path = make(tmp_path / "x.db", numbered(50))
    before = path.read_bytes()
    (tmp_path / "x.db-journal").write_bytes(
        bytes.fromhex("d9d505f920a163d7") + struct.pack(">5I", 1, 0, 1, PAGE, PAGE) + bytes(2 * PAGE))
    assert len(rows(path)) == 50
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.db", "x.db-journal"]


@pytest.mark.parametrize("view", [
    "SELECT 1 AS a, 2 AS b", "SELECT load_extension('x') AS a, 1 AS b",
    "WITH RECURSIVE c(a, b) AS (SELECT 1, 1 UNION ALL SELECT a + 1, 1 FROM c) SELECT * FROM c",
])
def test_views_are_not_run(view: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"x\.db"):
        rows(make(tmp_path / "x.db", f"CREATE VIEW t AS {view}"))


def _interior(page: bytearray, child: int) -> bytes:
    """An interior page of a table, all of whose pointers lead to one page."""
    assert page[0] == 5
    (cells,) = struct.unpack_from(">H", page, 3)
    struct.pack_into(">I", page, 8, child)
    for cell in struct.unpack_from(f">{cells}H", page, 12):
        struct.pack_into(">I", page, cell, child)
    return bytes(page)


def test_pages_that_multiply_their_rows_are_an_error(tmp_path: Path) -> None:
    """Each of six pages leads some forty times to the next: four billion rows in 40 kB."""
    path = make(tmp_path / "x.db", numbered(1500))
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master").fetchone()
    content = bytearray(path.read_bytes())
    page = content[(root - 1) * PAGE:root * PAGE]
    for at, child in pairwise([root, *range(root + 3, root + 9)]):
        content[(at - 1) * PAGE:at * PAGE] = _interior(page, child)
    path.write_bytes(content)
    start = time.monotonic()
    with pytest.raises(CatalogueError, match="more rows than its size allows"):
        rows(path, columns=("a",))
    assert time.monotonic() - start < 5


def test_rows_that_share_their_bytes_are_an_error(tmp_path: Path) -> None:
    """Two thousand rows of 60 kB, in 130 kB."""
    size, n = 65536, 2000
    path = make(tmp_path / "x.db", "CREATE TABLE t (a)", "INSERT INTO t VALUES (zeroblob(60000))", page=size)
    content = bytearray(path.read_bytes())
    (cell,) = struct.unpack_from(">H", content, size + 8)
    struct.pack_into(f">{n}H", content, size + 8, *[cell] * n)
    struct.pack_into(">H", content, size + 3, n)
    path.write_bytes(content)
    with pytest.raises(CatalogueError, match="share their bytes"):
        rows(path, columns=("a",))


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("CREATE TABLE t")
    assert not is_sqlite(str(tmp_path / "x.db"))
    assert not is_sqlite(str(tmp_path))
    assert not is_sqlite(str(tmp_path / "absent"))
    for name, says in (("x.db", r"not an SQLite database; songs\.db was expected"),
                       ("absent", "no such file"), (".", "not a file")):
        with pytest.raises(CatalogueError, match=says):
            Database(str(tmp_path / name), "songs.db")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = make(tmp_path_factory.mktemp("db") / "x.db", numbered(400), "CREATE INDEX i ON t (b)")
    return path.read_bytes()


def _read_or_told(content: bytes, folder: Path) -> None:
    path = folder / "x.db"
    path.write_bytes(content)
    try:
        Database(str(path), "a test's database").tables()
        rows_read = rows(path)
    except CatalogueError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
    else:
        assert all(isinstance(value, int | float | bytes | None) for row in rows_read for value in row)


def test_files_cut_short_are_told(content: bytes, tmp_path: Path) -> None:
    """SQLite alone would read a table with fewer rows from some of them."""
    path = tmp_path / "x.db"
    for size in [*range(0, len(content), 128), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(CatalogueError, match=r"x\.db: "):
            rows(path)


WRONG = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))


@given(wrong=st.lists(WRONG, min_size=1, max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_with_wrong_bytes_are_read_or_told(content: bytes, wrong: list[tuple[float, int]],
                                                 tmp_path: Path) -> None:
    damaged = bytearray(content)
    for place, byte in wrong:
        # Half of them where the headers and the schema are.
        span = PAGE if byte & 1 else len(content)
        damaged[16 + int(place * (span - 16))] = byte
    _read_or_told(bytes(damaged), tmp_path)
