"""docs/COOKBOOK.md: each question gives the answer shown there, by `simsong sql` and by DuckDB alone.

`python -m tests.storage.test_cookbook` writes the answers anew.
"""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.script import script
from storage.store import Store
from storage.views import connect
from tests.asked_store import write_asked_store

PAGE = Path(__file__).parents[2] / "docs/COOKBOOK.md"
_ENTRY = re.compile(r"^## (\d+)\. (.+?)\n\n```sql\n(.*?)```\n\n```text\n(.*?)```", re.MULTILINE | re.DOTALL)
WIDTH = 100


def entries() -> list[tuple[str, str, str]]:
    """Number, statement, answer."""
    return [(number, sql, text) for number, _, sql, text in _ENTRY.findall(PAGE.read_text(encoding="utf-8"))]


def by_command(store: Store, sql: str) -> str:
    environ = {**os.environ, "COLUMNS": str(WIDTH), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-m", "simsong.cli", "sql", "--store", store.backend.url, sql],
                          capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def duckdb_program() -> Path:
    import duckdb_cli

    package = Path(duckdb_cli.__file__).parent
    return next(path for path in (*package.rglob("duckdb"), *package.parents[3].glob("bin/duckdb"))
                if path.is_file() and os.access(path, os.X_OK))


def by_duckdb(folder: Path, init: Path, sql: str) -> str:
    """As CSV, by DuckDB's own program."""
    done = subprocess.run([duckdb_program(), "-init", init, "-csv", "-c", sql], capture_output=True,
                          text=True, cwd=folder, env={"HOME": str(folder), "TZ": "UTC"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_asked_store(tmp_path_factory.mktemp("cookbook") / "it's a [store]", song_map="umap")


@pytest.fixture(scope="module")
def init(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("init") / "simsong.sql"
    file.write_text(script(store), encoding="utf-8")
    return file


def test_there_are_25_questions() -> None:
    assert [number for number, _, _ in entries()] == [str(n) for n in range(1, len(entries()) + 1)]
    assert len(entries()) >= 25


@pytest.mark.parametrize(("sql", "answer"), [entry[1:] for entry in entries()],
                         ids=[entry[0] for entry in entries()])
def test_the_answer_is_the_one_shown(store: Store, init: Path, tmp_path: Path, sql: str,
                                     answer: str) -> None:
    assert by_command(store, sql) == answer
    plain = list(csv.reader(io.StringIO(by_duckdb(tmp_path, init, sql))))
    with connect(store) as db:
        rows = db.execute(sql)
        ours = [rows.columns, *([str(value) for value in row] for row in rows.fetchall())]
    assert [_values(row) for row in plain] == [_values(row) for row in ours]


def _values(row: list[str]) -> list[object]:
    """Numbers to six digits: the two write them differently."""
    def number(text: str) -> object:
        try:
            return f"{float(text):.6g}"
        except ValueError:
            return "" if text in ("NULL", "None") else text
    return [number(text) for text in row]


def rewritten(page: str, answer: Callable[[str], str]) -> str:
    def entry(match: re.Match[str]) -> str:
        number, question, sql, _ = match.groups()
        return f"## {number}. {question}\n\n```sql\n{sql}```\n\n```text\n{answer(sql)}```"
    return _ENTRY.sub(entry, page)


def _rewrite() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = write_asked_store(Path(folder) / "store", song_map="umap")
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(rewritten(page, lambda sql: by_command(store, sql)), encoding="utf-8")


if __name__ == "__main__":
    _rewrite()
