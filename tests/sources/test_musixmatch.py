"""musiXmatch's word counts: the true format, its faults, and what becomes of damage."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsong.errors import CatalogueError
from simsong.records import Rows
from simsong.sources.musixmatch import counts_of, fault, open_musixmatch, parse
from simsong.sources.sqlite import BATCH_ROWS
from simsong.sources.textfile import BLOCK_BYTES
from tests.source_files import MUSIXMATCH, make_musixmatch, make_musixmatch_db, read, zipped

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "msd" / "text"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not on this machine")
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Bag = tuple[str, dict[str, int]]


def bags(path: Path) -> tuple[list[Bag], list[str]]:
    """Each line's track and words, and what is said of the others."""
    tables, rejected = read(open_musixmatch(str(path)))
    cells = zip(*(tables["words"][name].to_pylist() for name in ("track_id", "word", "count")), strict=True)
    return ([(track_id, {word: count for _, word, count in own})
             for track_id, own in groupby(cells, key=lambda cell: cell[0])], [r.detail for r in rejected])


def test_counts_by_hand(tmp_path: Path) -> None:
    path = make_musixmatch(tmp_path)
    assert bags(path) == bags(zipped(path)) == ([
        ("TRAAAAA128F0000001", {"i": 6, "the": 4, "you": 2}),
        ("TRAAAAB128F0000002", {"you": 1, "é": 10}),                # unsorted, but each once
        ("TRAAAAE128F0000005", {"the": 7})], [
        "mxm_dataset_test.txt:5: word 5, but there are 4", "mxm_dataset_test.txt:6: word 1 comes twice"])


@pytest.mark.parametrize(("line", "said"), [
    ("TR1,5", "no words"), ("TR1", "no number of musiXmatch's"), ("TR1,x,1:1", "no number of musiXmatch's"),
    ("TR1,,1:1", "no number of musiXmatch's"), ("../a,5,1:1", "'../a' is no track id"),
    (",5,1:1", "'' is no track id"), ("TR1:5,1:1", "'TR1:5' is no track id"),
    ("TR1,5,1:1,", "'' is no word:count"), ("TR1,5,1", "'1' is no word:count"),
    ("TR1,5,1:1:1", "'1:1:1' is no word:count"), ("TR1,5,1:-1", "'1:-1' is no word:count"),
    ("TR1,5,1:1.5", "'1:1.5' is no word:count"), ("TR1,5,1: 1", "'1: 1' is no word:count"),
    ("TR1,5,1:9999999999", "'1:9999999999' is no word:count"), ("TR1,5,0:1", "word 0, but there are 4"),
    ("TR1,5,5:1", "word 5, but there are 4"), ("TR1,5,1:0", "word 1 is counted 0 times"),
    ("TR1,5,1:1,2:1,1:1", "word 1 comes twice"), ("TR1,5,\u0661:1", "is no word:count"),
])
def test_a_line_with_a_fault_is_rejected_and_the_rest_read(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mxm.txt"
    path.write_text(f"%i,the,to,you\nTR0,1,1:1\n{line}\nTR2,1,4:999999999\n", "utf-8")
    texts, faults = bags(path)
    assert texts == [("TR0", {"i": 1}), ("TR2", {"you": 999_999_999})]
    assert len(faults) == 1 and faults[0].startswith("mxm.txt:3: ") and said in faults[0]


def test_what_follows_another_list_of_words_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "mxm.txt"
    path.write_text("%i,you\nTR0,1,1:1\n# once more\n%i,you\nTR1,1,2:1\n%you,i\nTR2,1,1:1\n")
    assert bags(path) == ([("TR0", {"i": 1}), ("TR1", {"you": 1})],
                          ["mxm.txt:6: a second list of words; it and what follows it is left out"])


@pytest.mark.parametrize(("content", "said"), [
    ("", "empty but for comments"), ("# x\n\n", "empty but for comments"),
    ("%i,you\n", "holds no track's words"), ("%i,you\nTR1,1,9:1\n", "holds no track's words"),
    ("# x\nTR1,1,1:1\n", ":2: no list of words comes first"),
    ("%i,i\nTR1,1,1:1\n", ":1: the list of words has"), ("%i,\nTR1,1,1:1\n", ":1: the list of words has"),
    ("%i,\udcff\nTR1,1,1:1\n", ":1: the list of words is not UTF-8"),
    ("# x\nTR1<SEP>A<SEP>B<SEP>7<SEP>A<SEP>B\n", "holds musiXmatch's matches, but no words"),
])
def test_what_is_none_is_one_line(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mxm.txt"
    path.write_text(content, "utf-8", errors="surrogateescape")
    with pytest.raises(CatalogueError, match=re.escape(said)) as error:
        list(open_musixmatch(str(path)).read())
    assert str(error.value).startswith(str(path)) and str(error.value).isprintable()


def test_many_tracks_come_in_bounded_batches_and_whole(tmp_path: Path) -> None:
    """2 MB and more: lines lie across blocks."""
    rng = np.random.default_rng(0)
    path, want = tmp_path / "mxm.txt", list[Bag]()
    with path.open("w") as file:
        file.write("%" + ",".join(f"w{i}" for i in range(1, 5001)) + "\n")
        for i in range(4000):
            words = np.unique(rng.integers(1, 5001, 100))
            counts = rng.integers(1, 2000, len(words))
            pairs = [*zip(words.tolist(), counts.tolist(), strict=True)]
            file.write(f"TR{i},{i}," + ",".join(f"{w}:{c}" for w, c in pairs) + "\n")
            want.append((f"TR{i}", {f"w{w}": c for w, c in pairs}))
    assert path.stat().st_size > 2 * BLOCK_BYTES
    assert bags(path) == (want, [])
    batches = [rows for rows in open_musixmatch(str(path)).read() if isinstance(rows, Rows)]
    sizes = [len(rows.columns["count"]) for rows in batches]
    assert len(sizes) > 2 and max(sizes) <= BLOCK_BYTES // 4


# --- the database ---

def make_db(path: Path, rows: list[tuple[Any, Any, Any]]) -> Path:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE lyrics (track_id, mxm_tid INT, word TEXT, count INT, is_test INT)")
        db.executemany("INSERT INTO lyrics VALUES (?, 1, ?, ?, 0)", rows)
    return path


def test_the_database_gives_what_the_text_gives(tmp_path: Path) -> None:
    texts, faults = bags(make_musixmatch_db(tmp_path))
    assert texts == bags(make_musixmatch(tmp_path))[0]
    assert faults == [
        "mxm_dataset.db:lyrics:6: (b'TRAAAAB128F0000002', b'', 1) counts no word of a track",
        "mxm_dataset.db:lyrics:7: (b'TRAAAAC128F0000003', b'i', 0) counts no word of a track"]


@pytest.mark.parametrize("odd", [
    ("T/1", "a", 1), (None, "a", 1), (7, "a", 1), (b"TR\xff", "a", 1), ("TR1", None, 1), ("TR1", b"\xff", 1),
    ("TR1", "a", None), ("TR1", "a", "x"), ("TR1", "a", 1.5), ("TR1", "a", -1), ("TR1", "a", 2**40),
    ("TR1", "a", float("inf"))])
def test_odd_values_in_the_database_are_rejected_alone(odd: tuple[Any, Any, Any], tmp_path: Path) -> None:
    rows = [("TR0", "a", 1), odd, ("TR2", "b", 3)]
    texts, faults = bags(make_db(tmp_path / "mxm.db", rows))
    assert texts == [("TR0", {"a": 1}), ("TR2", {"b": 3})]
    assert len(faults) == 1 and faults[0].startswith("mxm.db:lyrics:2: ") and faults[0].isprintable()


def test_a_large_database_comes_in_bounded_batches(tmp_path: Path) -> None:
    rows = [(f"TR{i // 50}", f"w{i % 50}", i % 9 + 1) for i in range(BATCH_ROWS + 77)]
    path = make_db(tmp_path / "mxm.db", rows)
    batches = [rows for rows in open_musixmatch(str(path)).read() if isinstance(rows, Rows)]
    assert [len(rows.columns["count"]) for rows in batches] == [BATCH_ROWS, 77]


@pytest.mark.parametrize("rows", [[], [("TR1", "a", 0)]])
def test_a_database_without_words_is_one_line(rows: list[Any], tmp_path: Path) -> None:
    path = make_db(tmp_path / "mxm.db", rows)
    with pytest.raises(CatalogueError, match="holds no track's words"):
        list(open_musixmatch(str(path)).read())
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TABLE lyrics")
    with pytest.raises(CatalogueError, match="has no table lyrics with track_id, word, count"):
        open_musixmatch(str(path))


VALUE = st.one_of(st.none(), st.integers(-2, 3), st.floats(), st.binary(max_size=3),
                  st.sampled_from([b"TR1", "é".encode(), b"a"]))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(VALUE, VALUE, VALUE), min_size=1, max_size=6))
def test_columns_are_judged_as_rows_are(rows: list[tuple[Any, Any, Any]]) -> None:
    """Together, where Arrow may take them whole, and one at a time, where it may not."""
    together, columns = counts_of(*zip(*rows, strict=True))
    alone = [counts_of([track_id, 5], [word, b"a"], [count, 1])[0][0] for track_id, word, count in rows]
    assert together.tolist() == alone
    assert [column.type for column in columns] == [pa.string(), pa.string(), pa.int32()]
    assert list(zip(*(column.to_pylist() for column in columns), strict=True)) == [
        (track_id.decode(), word.decode(), count) for (track_id, word, count), right in
        zip(rows, alone, strict=True) if right]


# --- the real files ---

@real_data
def test_the_real_sample() -> None:
    path = DATA / "mxm_dataset_test.txt"
    texts, faults = bags(path)
    source = open_musixmatch(str(path))
    content = path.read_text("utf-8").rstrip("\n").split("\n")
    lines = [line for line in content if line[0] not in "#%"]
    vocabulary = next(line[1:].split(",") for line in content if line[0] == "%")
    assert len(vocabulary) == 5000 and not faults and len(texts) == len(lines) == 31
    for (track_id, words), line in zip(texts, lines, strict=True):
        named, _, *cells = line.split(",")
        assert track_id == named
        assert words == {vocabulary[int(w) - 1]: int(c) for w, c in (cell.split(":") for cell in cells)}
    assert texts[0][0] == "TRAAGEC128E079252C" and texts[0][1]["i"] == 13 and texts[0][1]["the"] == 8
    assert source.annotates


@real_data
def test_the_real_matches_are_refused() -> None:
    with pytest.raises(CatalogueError, match=r"matches\.txt: holds musiXmatch's matches, but no words"):
        open_musixmatch(str(DATA / "mxm_779k_matches.txt"))


@real_data
def test_the_real_sample_cut_at_every_kilobyte(tmp_path: Path) -> None:
    content = (DATA / "mxm_dataset_test.txt").read_bytes()
    path = tmp_path / "cut.txt"
    for size in range(0, len(content), 1024):
        path.write_bytes(content[:size])
        judge(path)


# --- fuzz and truncation: rows, rejected lines or one clear error, whatever the bytes ---

def judge(path: Path) -> None:
    try:
        tables, rejected = read(open_musixmatch(str(path)))
    except CatalogueError as error:
        assert str(error).startswith(str(path)) and str(error).isprintable()
        return
    assert all(r.detail.isprintable() and r.reason == "malformed" for r in rejected)
    rows: list[dict[str, Any]] = tables["words"].to_pylist()
    assert rows and all(r["track_id"] and r["word"] and r["count"] >= 1 for r in rows)


def test_cut_anywhere(tmp_path: Path) -> None:
    path = make_musixmatch(tmp_path)
    for whole in (path, zipped(path)):
        content = whole.read_bytes()
        for size in range(len(content)):
            whole.write_bytes(content[:size])
            judge(whole)


def test_the_database_cut_at_every_kilobyte(tmp_path: Path) -> None:
    rows = [(f"TR{i // 50}", f"w{i % 50}", 1) for i in range(2000)]
    content = make_db(tmp_path / "mxm.db", rows).read_bytes()
    path = tmp_path / "cut.db"
    for size in range(0, len(content), 1024):
        path.write_bytes(content[:size])
        judge(path)


@FUZZ
@given(at=st.integers(0, 220), junk=st.binary(max_size=40))
def test_fuzzed(tmp_path: Path, at: int, junk: bytes) -> None:
    content = MUSIXMATCH.encode()
    path = tmp_path / "mxm.txt"
    path.write_bytes(content[:at] + junk + content[at + len(junk):])
    judge(path)


def one_by_one(block: bytes, words: int) -> tuple[list[tuple[str, int, int]], list[tuple[int, str]]]:
    """Cells and faults, a line at a time and in plain Python."""
    cells, faults = [], []
    for at, line in enumerate(block.split(b"\n")[:-1]):
        if line[:1] in (b"", b"#", b"%"):
            continue
        if why := fault(line, words):
            faults.append((at, why))
            continue
        track_id, _, *pairs = line.decode().split(",")
        cells += [(track_id, int(w) - 1, int(c)) for w, c in (pair.split(":") for pair in pairs)]
    return cells, faults


CELL = st.tuples(st.integers(0, 7), st.integers(0, 3)).map(lambda cell: f"{cell[0]}:{cell[1]}")
LINE = st.one_of(
    st.tuples(st.sampled_from(["TR1,7", "TR2,0", "TR2,00", "T/,7", ",7", "TR1,", "TR1,1234567890", "TR1:7"]),
              st.lists(CELL, max_size=6)).map(lambda line: ",".join([line[0], *line[1]])),
    st.text(st.sampled_from("TR1234,:#% é"), max_size=30))


@settings(max_examples=500, deadline=None)
@given(st.lists(LINE, max_size=6))
def test_blocks_give_what_lines_give(lines: list[str]) -> None:
    block = "".join(line + "\n" for line in lines).encode()
    bags = parse(block, 6)
    ids = bags.track_ids.to_pylist()
    cells = [(ids[of], word, count) for of, word, count in
             zip(bags.of.tolist(), bags.words.tolist(), bags.counts.tolist(), strict=True)]
    assert (cells, bags.faults) == one_by_one(block, 6)
