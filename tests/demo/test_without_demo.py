"""The packages as a wheel has them: without the demo world, which is for a clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's packages, copied as its build copies them."""
    root = tmp_path_factory.mktemp("wheel")
    excluded = {str(ROOT / name) for name in WHEEL["exclude"]}
    for package in WHEEL["packages"]:
        shutil.copytree(ROOT / package, root / package, ignore=lambda folder, names: [
            name for name in names if name == "__pycache__" or str(Path(folder) / name) in excluded])
    return root


def test_the_demo_is_one_line_that_says_where_to_get_it(installed: Path) -> None:
    process = subprocess.run([sys.executable, "-m", "simsong.cli", "run", "--demo"], capture_output=True,
                             text=True, cwd=installed, env=os.environ | {"PYTHONPATH": str(installed)})
    assert process.returncode == 1 and not (installed / "simsong-demo").exists()
    assert process.stderr.count("\n") == 1 and "run `make demo` in a clone" in process.stderr


def test_nothing_else_reads_what_is_left_out(installed: Path) -> None:
    left_out = re.compile(r"simsong\.demo\b|\bsimsong\.training(\.| import .*\b)starter\b")
    readers = [path.relative_to(installed).as_posix() for path in sorted(installed.rglob("*.py"))
               if left_out.search(path.read_text("utf-8"))]
    assert readers == ["simsong/cli/flows.py"]
