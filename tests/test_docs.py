"""What README.md and docs/ tell to type: commands, configuration and links are as the code has them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest

from simsong.cli import commands
from simsong.config import CatalogueSettings, Config, SourcesSettings
from simsong.config_loader import load
from simsong.errors import ConfigError
from simsong.sources.catalogue import KEYS

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
COMMANDS = {command.name: command for command in commands()}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`(simsong [^`\n]+)`")
_LINE = re.compile(r"^(?:\$ )?(simsong .+)$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def commands_of(page: str) -> Iterator[str]:
    """Command lines in fences without a language or of a shell, and in `spans`."""
    for language, text in _FENCE.findall(page):
        if language in ("", "sh", "bash", "console"):
            yield from _LINE.findall(text)
    yield from _SPAN.findall(_FENCE.sub("", page))


def tomls_of(page: str) -> list[str]:
    return [text for language, text in _FENCE.findall(page) if language == "toml"]


def parse(line: str) -> None:
    """As click does, without running it. Raises: click.UsageError."""
    _, name, *words = shlex.split(line, comments=True)
    if name.isupper():                                          # a placeholder: `simsong COMMAND --help`
        return
    if name not in COMMANDS:
        raise click.UsageError(f"{line}: there is no command {name}")
    if not words:                                               # spoken of: "`simsong sql` does not check"
        return
    with suppress(click.exceptions.Exit):                       # --help
        COMMANDS[name].make_context(name, words)


def check_toml(text: str, folder: Path) -> Config:
    file = folder / "simsong.toml"
    file.write_text(text, "utf-8")
    return load(file, {}, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_import_is_of_what_there_is(page: Path) -> None:
    blocks = [text for language, text in _FENCE.findall(page.read_text("utf-8")) if language == "python"]
    for line in re.findall(r"^from (?:simsong|storage|flows|tasks)\S* import .*$", "\n".join(blocks), re.M):
        exec(line, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page: Path) -> None:
    for line in commands_of(page.read_text("utf-8")):
        try:
            parse(line)
        except click.ClickException as error:
            pytest.fail(f"{page.name}: {line}: {error.format_message()}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configurations_load(page: Path, tmp_path: Path) -> None:
    for text in tomls_of(page.read_text("utf-8")):
        check_toml(text, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in _LINK.findall(page.read_text("utf-8")) if not (page.parent / link).exists()]
    assert not broken


def test_datasets_tells_of_every_source_filter_and_table() -> None:
    page = (ROOT / "docs" / "DATASETS.md").read_text("utf-8")
    names = [*SourcesSettings.model_fields, *CatalogueSettings.model_fields.keys() - {"shard_songs"}, *KEYS]
    assert [name for name in names if not re.search(rf"`{name}`|^{name} = ", page, re.MULTILINE)] == []


def test_what_is_found_on_a_page() -> None:
    page = ("Say `simsong status`.\n```\n$ simsong run --demo   # all\nprefect server start\n```\n"
            "```toml\nstore = 'x'\n```\n```python\nsimsong sql\n```\n")
    assert list(commands_of(page)) == ["simsong run --demo   # all", "simsong status"]
    assert tomls_of(page) == ["store = 'x'\n"]


@pytest.mark.parametrize("line", ["simsong ingets", "simsong run --folders x", "simsong run --limit ten",
                                  "simsong retry --reason timeout"])
def test_wrong_commands_are_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(line)


def test_wrong_configuration_is_found(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean catalogue\.limit"):
        check_toml("[catalogue]\nlimits = 3\n", tmp_path)
