"""What `simsong sql` prints and writes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.store import Store

ODD = ("SELECT 1 AS a, 'é' AS a, 'nan'::DOUBLE AS n, 'inf'::FLOAT AS i, '\\xff'::BLOB AS b, [1, NULL] AS l, "
       "INTERVAL 1 MONTH AS m, TIMESTAMP_NS '2020-01-01 00:00:00.123456789' AS t, {'x': 'nan'::DOUBLE} AS s, "
       "sum(2) AS h, union_value(u := 1) AS u")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("query") / "store"
    with Store.writing(str(root)):
        return root


def sql(store: Path, *words: object, code: int = 0,
        encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simsong.cli", "sql", "--store", str(store), *map(str, words)]
    environ = {"PYTHONIOENCODING": encoding, "HOME": str(store)}
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert done.returncode == code, done.stderr
    return done


def test_columns_of_one_name_and_odd_values_are_kept(store: Path, tmp_path: Path) -> None:
    names = ["a", "a_1", "n", "i", "b", "l", "m", "t", "s", "h", "u"]
    row = json.loads(sql(store, ODD, "--format", "json").stdout, parse_constant=pytest.fail)[0]
    assert list(row.values()) == [1, "é", None, None, "ff", [1, None], "P1M0DT0S",
                                  "2020-01-01 00:00:00.123456789", {"x": None}, 2, 1]
    assert list(row) == names
    assert next(csv.reader(sql(store, ODD, "--format", "csv").stdout.splitlines())) == names
    sql(store, ODD, "--format", "parquet", "--output", tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").column_names == names
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_files_are_of_the_format_that_their_suffix_says(store: Path, tmp_path: Path) -> None:
    query = "SELECT range AS n, [range / 2] AS half FROM range(3)"
    for name in ("x.csv", "x.json", "x.jsonl", "x.parquet", "x.arrow", "x.txt"):
        sql(store, query, "--output", tmp_path / name)
    rows = [{"n": n, "half": [n / 2]} for n in range(3)]
    assert json.loads((tmp_path / "x.json").read_text()) == rows
    assert [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()] == rows
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == rows
    assert pa.ipc.open_file(tmp_path / "x.arrow").read_all().to_pylist() == rows
    assert (tmp_path / "x.csv").read_text() == (tmp_path / "x.txt").read_text() == \
        'n,half\n0,[0.0]\n1,[0.5]\n2,[1.0]\n'


def test_arrow_goes_through_a_pipe(store: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "simsong.cli", "sql", "--store", str(store), "SELECT 7 AS n",
                           "--format", "arrow"], capture_output=True)
    assert pa.ipc.open_stream(done.stdout).read_all().to_pylist() == [{"n": 7}], done.stderr


@pytest.mark.parametrize("value", ["x", "it's", "1; DROP VIEW songs", "", "a=b=c", "-1", "$x", "line\nbreak"])
def test_parameters_are_values(store: Path, value: str) -> None:
    result = sql(store, "SELECT $name AS name, $n::INT + 1 AS n", "-p", f"name={value}", "-p", "n=41",
                 "--format", "json")
    assert json.loads(result.stdout) == [{"name": value, "n": 42}]


def test_a_statement_may_come_through_a_pipe(store: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "simsong.cli", "sql", "--store", str(store), "--format",
                           "csv"], input="SELECT 1 AS a", capture_output=True, text=True)
    assert done.stdout == "a\n1\n", done.stderr


def test_a_table_fits_and_wide_rows_stand_upright(store: Path) -> None:
    wide = "SELECT " + ", ".join(f"'{c * 70}' AS column_{c}" for c in "abcdefghij")
    lines = sql(store, wide).stdout.splitlines()
    assert max(map(len, lines)) <= 120 and lines[0].startswith("column_a") and "column_j" in lines[0]
    upright = sql(store, wide, "--expanded").stdout.splitlines()
    assert next(line for line in upright if "│" in line) == f"column_a │ {'a' * 70}"
    assert max(map(len, upright)) <= 120


def test_values_cannot_write_to_the_terminal(store: Path) -> None:
    hostile = "SELECT chr(27) || '[31m' || chr(10) || chr(7) || '[bold]' || chr(8238) AS x, 'run=3' AS y"
    for options in ((), ("--expanded",)):
        shown = sql(store, hostile, *options).stdout
        assert not {c for c in shown if not c.isprintable()} - {"\n"} and "[bold]" in shown
    heading = sql(store, "SELECT 1 AS \"a\x1b[31m\"").stdout
    assert "\x1b" not in heading


def test_a_terminal_of_ascii_is_no_crash(store: Path) -> None:
    for form in ("table", "csv", "json"):
        assert "9" in sql(store, "SELECT 'é', 9", "--format", form, encoding="ascii").stdout


@pytest.mark.parametrize(("words", "said"), [
    (("SELECT 1", "--format", "csv", "--output", "{tmp}/none/x"), "cannot be written"),
    (("SELECT 1", "--format", "parquet", "--output", "{tmp}/none/x"), "cannot be written"),
    (("SELECT 1", "--memory", "lots"), "sql: "),
    (("SELECT 1", "-p", "x"), "is not NAME=VALUE"),
    (("SELECT $x", "-p", "x=1", "-p", "x=2"), "given twice"),
    (("SELECT $y", "-p", "x=1"), "sql: "),
    (("SELECT 1", "--format", "parquet"), "needs --output"),
    (("SELECT 1", "--init"), "takes no QUERY"),
    (("SELECT length(repeat('x', 3000000000))", "--memory", "300MB"), "sql"),
    (("SELECT sum(levenshtein(repeat('a', 30000), repeat('b', 30000) || range::VARCHAR)) FROM range(100)",
      "--timeout", "0.5"), "longer than 0.5 s"),
])
def test_what_cannot_be_done_is_one_line(store: Path, tmp_path: Path, words: tuple[str, ...],
                                         said: str) -> None:
    result = sql(store, *(word.format(tmp=tmp_path) for word in words), code=1)
    assert said in result.stderr and result.stderr.count("\n") == 1 and result.stderr.startswith("simsong: ")
