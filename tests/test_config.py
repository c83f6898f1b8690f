"""Configuration: layers, and one clear line for whatever is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from simsong.config import Config, load
from simsong.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    file = folder / "simsong.toml"
    file.write_text(text)
    return file


def test_later_layers_are_stronger(tmp_path: Path) -> None:
    file = write(tmp_path, "[trim]\nmode = 'none'\nintro_s = 1\noutro_s = 2\n")
    found = load(file, {"trim": {"intro_s": 9, "outro_s": None}},
                 {"SIMSONG_TRIM__INTRO_S": "5", "SIMSONG_TRIM__OUTRO_S": "6"})
    assert (found.trim.mode, found.trim.intro_s, found.trim.outro_s) == ("none", 9, 6)


def test_nothing_given_is_the_default() -> None:
    assert load(None, {}, {}) == Config()


def test_paths_of_a_file_are_beside_it(tmp_path: Path) -> None:
    found = load(write(tmp_path, "store = 'here'\n[sources]\nfolder = 'music'\n"), {}, {})
    assert found.store == str(tmp_path / "here")
    assert found.sources.folder == (str(tmp_path / "music"),)


def test_object_stores_are_not_paths(tmp_path: Path) -> None:
    assert load(write(tmp_path, "store = 's3://bucket/songs'\n"), {}, {}).store == "s3://bucket/songs"


def test_lists_from_the_environment() -> None:
    assert load(None, {}, {"SIMSONG_TRAINING__LOSSES": "ns"}).training.losses == ("ns",)


@pytest.mark.parametrize(("flags", "environ", "said"), [
    ({"trim": {"mod": "none"}}, {}, ["unknown key trim.mod", "did you mean trim.mode?"]),
    ({"segmnts": {"hop_s": 3}}, {}, ["unknown key segmnts", "did you mean segments?"]),
    ({}, {"SIMSONG_TRIM__MODI": "none"}, ["environment", "did you mean trim.mode?"]),
    ({"trim": {"mode": "sometimes"}}, {}, ["option: trim.mode = 'sometimes'", "'structure'"]),
    ({}, {"SIMSONG_TRAINING__STEPS": "many"}, ["environment: training.steps = 'many'", "integer"]),
    ({"training": {"alpha": 2}}, {}, ["alpha (2.0) must be below beta (1.0)"]),
    ({"catalogue": {"limit": 0}}, {}, ["catalogue.limit = 0", "greater than or equal to 1"]),
    ({"trim": 3}, {}, ["trim is a section"]),
])
def test_mistakes_are_one_clear_line(flags: dict[str, object], environ: dict[str, str],
                                     said: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        load(None, flags, environ)
    assert "\n" not in str(raised.value)
    for part in said:
        assert part in str(raised.value)


def test_a_broken_file_names_itself(tmp_path: Path) -> None:
    file = write(tmp_path, "[trim\n")
    with pytest.raises(ConfigError, match=r"simsong.toml: not readable as TOML"):
        load(file, {}, {})
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "other.toml", {}, {})
