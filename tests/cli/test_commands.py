"""A command's module is imported when it is asked for, and no other's."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"yt_dlp", "torch", "prefect", "duckdb", "requests", "simsong.sources"}


@pytest.mark.parametrize(("imports", "more"), [
    ("from simsong.cli import cli; cli(['similar', '--help'], standalone_mode=False)", {"simsong.cli.flows"}),
    ("import simsong.answers.similar, simsong.answers.library",
     {"simsong.parts.stages", "scipy.sparse.csgraph"}),
], ids=["the command", "its answers"])
def test_a_question_imports_neither_the_flows_nor_the_fetchers(imports: str, more: set[str]) -> None:
    script = f"import sys; {imports}\nprint(sorted({HEAVY | more!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
