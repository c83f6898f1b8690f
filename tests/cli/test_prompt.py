"""The prompt of `simsong sql`, by prompt_toolkit's own pipe in place of a keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from simsong.cli.prompt import NameCompleter, ask_for_statements
from storage.store import Store
from storage.views import connect


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with Store.writing(str(tmp_path_factory.mktemp("prompt") / "s")) as store, connect(store) as db:
        return db.names()


def typed(keys: str, names: dict[str, str]) -> list[tuple[str, bool]]:
    """The statements that were asked."""
    statements: list[tuple[str, bool]] = []
    with create_pipe_input() as keyboard:
        keyboard.send_text(keys)
        ask_for_statements(lambda statement, upright: statements.append((statement, upright)), names,
                           input=keyboard, output=DummyOutput())
    return statements


def test_statements_end_with_a_semicolon_or_an_empty_line(names: dict[str, str], tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    keys = "SELECT 1;\rSELECT\r2;\rSELECT 3\r\r\\x\rSELECT 4;\r\\d\r\\q\rSELECT 5;\r"
    assert typed(keys, names) == [("SELECT 1;", False), ("SELECT\n2;", False), ("SELECT 3\n", False),
                                  ("SELECT 4;", True)]
    history = tmp_path / "simsong" / "sql_history"
    assert "SELECT 4" in history.read_text() and history.stat().st_mode & 0o077 == 0


def test_names_are_completed(names: dict[str, str]) -> None:
    def completions(text: str) -> dict[str, str]:
        result = NameCompleter(names).get_completions(Document(text), CompleteEvent())
        return {one.text: str(one.display_meta_text) for one in result}

    assert completions("FROM simil")["similar("].startswith("The k songs nearest")
    assert "songs" in completions("FROM so") and "embedding" in completions("SELECT emb")
    assert completions("") == {} and completions("FROM zzz") == {}


def test_a_folder_that_cannot_be_written_is_no_end(names: dict[str, str], tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert typed("SELECT 1;\r\x04", names) == [("SELECT 1;", False)]
