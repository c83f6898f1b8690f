"""The prompt of `simsong sql`: history over sessions, names completed, statements over several lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from simsong.grid import grid, printable

HELP = r"""A statement ends with ; or at an empty line. \d lists views and macros, \x puts a row's values
below each other, \q or Ctrl-D leaves. Tab completes names."""
_WORDS = ("SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "LIMIT", "JOIN", "USING", "HAVING", "WITH",
          "DISTINCT", "DESCRIBE", "SUMMARIZE", "EXPLAIN", "count(*)", "DESC", "ALL", "QUALIFY")


class NameCompleter(Completer):
    """Views, columns and macros, with what they say of themselves; SQL's commonest words."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(sorted(names.items())) | dict.fromkeys(_WORDS, "")

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        word = document.get_word_before_cursor(WORD=False)
        if not word.strip():
            return
        for name, about in self._names.items():
            if name.lower().startswith(word.lower()):
                text = name.partition("(")[0] + "(" if "(" in name and name not in _WORDS else name
                yield Completion(text, -len(word), display=name, display_meta=printable(about))


def ask_for_statements(answer: Callable[[str, bool], None], names: Mapping[str, str],
                       **session: Any) -> None:
    """Until the end of the input. `answer` takes a statement and whether rows stand upright; `session` goes
    to prompt_toolkit."""
    ask: PromptSession[str] = PromptSession(history=_history(), completer=NameCompleter(names),
                                            complete_while_typing=False, **session)
    click.echo(HELP)
    upright, lines = False, list[str]()
    while True:
        try:
            line = ask.prompt("…> " if lines else "sql> ")
        except KeyboardInterrupt:
            lines = []
            continue
        except EOFError:
            return
        command = line.strip().rstrip(";").lower() if not lines else ""
        if command in ("\\q", "exit", "quit"):
            return
        if command == "\\x":
            upright = not upright
        elif command.startswith("\\d"):
            rows = [pair for pair in sorted(names.items()) if not pair[1].startswith("column of ")]
            click.echo(grid(("name", "is"), rows, 110))
        elif command.startswith("\\"):
            click.echo(HELP)
        elif line.strip() or lines:
            lines.append(line)
            if line.rstrip().endswith(";") or not line.strip():
                statement, lines = "\n".join(lines), []
                answer(statement, upright)


def _history() -> History:
    """In the user's state folder, readable by that user alone; of this session only where that cannot be."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    file = Path(base) / "simsong" / "sql_history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except (OSError, RuntimeError):
        return InMemoryHistory()
    return FileHistory(str(file))
