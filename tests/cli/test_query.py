"""What `simsong sql` prints and writes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

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


def test_a_terminal_of_ascii_is_no_crash(store: Path) -> None:
    for form in ("table", "csv", "json"):
        assert "9" in sql(store, "SELECT 'é', 9", "--format", form, encoding="ascii").stdout


@pytest.mark.parametrize(("words", "said"), [
    (("SELECT 1", "--format", "csv", "--output", "{tmp}/none/x"), "cannot be written"),
    (("SELECT 1", "--format", "parquet", "--output", "{tmp}/none/x"), "cannot be written"),
    (("SELECT 1", "--memory", "lots"), "sql: "),
    (("SELECT length(repeat('x', 3000000000))", "--memory", "300MB"), "sql"),
    (("SELECT sum(levenshtein(repeat('a', 30000), repeat('b', 30000) || range::VARCHAR)) FROM range(100)",
      "--timeout", "0.5"), "longer than 0.5 s"),
])
def test_what_cannot_be_done_is_one_line(store: Path, tmp_path: Path, words: tuple[str, ...],
                                         said: str) -> None:
    found = sql(store, *(word.format(tmp=tmp_path) for word in words), code=1)
    assert said in found.stderr and found.stderr.count("\n") == 1 and found.stderr.startswith("simsong: ")
