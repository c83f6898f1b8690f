"""What is no bug ends in one line, a bug in its traceback; and any text can be printed."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import obstore
import pytest
from obstore.store import LocalStore

from simsong.cli.failures import as_simsong_error
from simsong.errors import MachineError, PrefectError

ROOT = Path(__file__).parents[2]


def line(error: BaseException, place: str | None = "the-store") -> str:
    failure = as_simsong_error(error, place)
    assert failure is not None and "\n" not in str(failure)
    return str(failure)


def raised(work: str, *arguments: object) -> BaseException:
    """What a call really raises."""
    try:
        exec(work, {"a": arguments, "sqlite3": sqlite3, "httpx": httpx, "obstore": obstore,
                    "LocalStore": LocalStore, "Path": Path})
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(("number", "said"), [
    (errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system"),
    (errno.EACCES, "Permission denied"), (errno.EDQUOT, "isk quota exceeded"),
    (errno.EIO, "nput/output error")])
def test_what_the_system_refuses_names_the_path(number: int, said: str) -> None:
    with_path = line(OSError(number, os.strerror(number), "tables/x.parquet"))
    assert with_path.startswith("tables/x.parquet: ") and said in with_path
    without = line(OSError(number, os.strerror(number)))
    assert "the-store" in without and (said in without or number == errno.EDQUOT)


def test_libraries_errors_are_told_by_what_they_really_raise(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("this is no database, though it is long enough to be taken for one " * 40)
    assert "not a database" in line(raised("sqlite3.connect(a[0]).execute('SELECT * FROM x')",
                                           tmp_path / "no.db"))
    assert "refused" in line(raised("httpx.get('http://127.0.0.1:9/')"))
    assert "none" in line(raised("obstore.get(LocalStore(a[0]), 'none')", tmp_path))
    assert "ascii" in line(raised("'\\xe9'.encode('ascii')"))
    assert "Not a directory" in line(raised("(Path(a[0]) / 'x').read_text()", tmp_path / "no.db"))
    assert line(MemoryError()) == "MemoryError"


def test_causes_are_looked_through_and_bugs_are_left() -> None:
    outer = RuntimeError("Failed to reach API")
    outer.__cause__ = PrefectError("it is gone")
    assert line(outer) == "it is gone"
    for bug in (RuntimeError("x"), TypeError("x"), KeyError("x"), AssertionError(), ValueError("x")):
        assert as_simsong_error(bug) is None
    assert isinstance(as_simsong_error(OSError(5, "x")), MachineError)


def ended(body: str, encoding: str = "utf-8", redirect: str = "") -> subprocess.CompletedProcess[str]:
    """A command of that body, run as `simsong` runs its own, in a process; `redirect` as in a shell."""
    code = f"from simsong.cli import run, settle_output\nsettle_output()\ndef command():\n    {body}\n" \
        "run(command)"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    return subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, code], check=False,
                          env=environ, capture_output=True, encoding=encoding)


def test_a_command_ends_with_a_line_and_a_code() -> None:
    done = ended("open('/no/such/file')")
    assert (done.returncode, done.stderr) == (1, "simsong: /no/such/file: No such file or directory\n")
    done = ended("raise KeyboardInterrupt")
    assert (done.returncode, done.stderr) == (130, "simsong: interrupted\n")
    done = ended("raise TypeError('a bug')")
    assert done.returncode == 1 and "Traceback" in done.stderr and "TypeError: a bug" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_without_room_or_reader_is_told_once() -> None:
    done = ended("print('x')", redirect=">/dev/full")
    assert done.returncode == 1 and "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1
    done = ended("print('x' * 10**6)", redirect=">&-")
    assert (done.returncode, done.stderr) == (0, "")


def test_any_text_can_be_printed_in_any_encoding() -> None:
    body = "from simsong.cli.options import print_json, print_table; import sys\n" \
        "    print_json({'a': 'Ärtist \\udcff'}, line=True); print_table(('Ä',), [('Sông',)]); print('Ä')"
    for encoding in ("ascii", "latin-1", "utf-8"):
        done = ended(body, encoding)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout.splitlines()[0]) == {"a": "Ärtist \udcff"}
