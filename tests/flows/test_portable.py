"""Errors on their way to another process, as they are pickled where `distributed` was imported (by tblib)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tblib")
ROOT = Path(__file__).parents[2]

BEGIN = """
import pickle, sys
from simsong.errors import FetchError, PartDamaged, TaskError
from simsong.parts.compute import Done
from tasks.base import stage_task
from tasks.portable import portable

class Odd(Exception):               # takes what it does not pass on, as many libraries' do
    def __init__(self, file, line):
        super().__init__(f"line {line}")
        self.file = file

def work(what):
    with open("/dev/null", "rb") as file:
        try:
            raise Odd(file, 7)
        except Odd as odd:
            if what == "alone":
                raise
            if what == "context":
                raise FetchError("Ann - Sun", "the answer was cut short", "truncated") from None
            raise PartDamaged("tables/x", "no seal") from odd

import tblib.pickling_support
tblib.pickling_support.install()

def raised(what):
    try:
        stage_task("trim")(work).fn(what)
    except Exception as error:
        return error

for what in ("context", "cause", "alone"):
    error = raised(what)
    back = pickle.loads(pickle.dumps(error))
    print(type(back).__name__, "|", back, "|", " ".join(getattr(back, "__notes__", [])))
"""


def told(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_a_task_raises_is_sent_as_itself_whatever_it_was_raised_from() -> None:
    assert told(BEGIN) == [
        "FetchError | Ann - Sun: the answer was cut short | ",
        "PartDamaged | tables/x: damaged (no seal); `simsong verify --mend` computes it again"
        " | raised from Odd: line 7",
        "TaskError | Odd: line 7 | "]


def test_the_same_errors_are_not_sent_untreated() -> None:
    """What makes the test above one that can fail."""
    untreated = BEGIN.replace(".fn(what)", ".fn.__wrapped__(what)").replace("    back = ", """
    try: pickle.dumps(error)
    except TypeError:
        print(what)
        continue
    back = """)
    assert told(untreated) == ["context", "cause", "alone"]


def test_an_error_that_pickles_keeps_what_it_was_raised_from() -> None:
    from tasks.portable import portable

    try:
        try:
            raise KeyError("a")
        except KeyError as error:
            raise ValueError("b") from error
    except ValueError as error:
        assert portable(error) is error and isinstance(error.__cause__, KeyError)
        assert not hasattr(error, "__notes__")


def test_no_password_is_in_a_note() -> None:
    from tasks.portable import portable

    class Local(Exception):         # of no module: does not pickle
        pass

    assert "hush" not in str(portable(Local("https://ann:hush@example.org/x")))
