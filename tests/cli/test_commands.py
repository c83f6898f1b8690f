"""A command's module is imported when it is asked for, and no other's."""

from __future__ import annotations

import subprocess
import sys


def test_a_question_imports_neither_the_flows_nor_the_fetchers() -> None:
    script = ("import sys; from simsong.cli import cli; cli(['similar', '--help'], standalone_mode=False)\n"
              "print(sorted({'simsong.cli.flows', 'yt_dlp', 'torch', 'prefect', 'duckdb', 'requests', "
              "'simsong.sources'} & sys.modules.keys()))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_answers_import_none_of_them_either() -> None:
    script = ("import sys; import simsong.answers.similar, simsong.answers.library\n"
              "print(sorted({'yt_dlp', 'torch', 'prefect', 'duckdb', 'requests', 'simsong.sources', "
              "'simsong.parts.stages', 'scipy.sparse.csgraph'} & sys.modules.keys()))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
