"""The notebook of docs/ runs, cell by cell, on any published store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.asked_store import write_asked_store

NOTEBOOK = Path(__file__).parents[1] / "docs" / "ASKING.ipynb"


def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_asked_store(tmp_path / "store")
    monkeypatch.setenv("SIMSONG_STORE", store.backend.url)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    cells = [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert len(cells) > 8 and names["found"].moment is not None
    assert (tmp_path / "path.m3u8").read_text().startswith("#EXTM3U")
