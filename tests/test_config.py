"""Configuration: layers, and one clear line for whatever is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simsong.config import Config, absolute
from simsong.config_loader import load
from simsong.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    file = folder / "simsong.toml"
    file.write_text(text)
    return file


def test_later_layers_are_stronger(tmp_path: Path) -> None:
    file = write(tmp_path, "[trim]\nmode = 'none'\nintro_s = 1\noutro_s = 2\n")
    loaded = load(file, {"trim": {"intro_s": 9, "outro_s": None}},
                  {"SIMSONG_TRIM__INTRO_S": "5", "SIMSONG_TRIM__OUTRO_S": "6"})
    assert (loaded.trim.mode, loaded.trim.intro_s, loaded.trim.outro_s) == ("none", 9, 6)


def test_nothing_given_is_the_default() -> None:
    assert load(None, {}, {}) == Config()


def test_paths_of_a_file_are_beside_it(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, "store = 'here'\n[sources]\nfolder = 'music'\n"), {}, {})
    assert loaded.store == str(tmp_path / "here")
    assert loaded.sources.folder == (str(tmp_path / "music"),)


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


def test_a_tilde_is_the_home_in_every_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells leave that of --store=~/x, of quotes and of `env NAME=~/x`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    music, more = str(tmp_path / "music"), str(tmp_path / "more")
    by_flags = load(None, {"store": "~/s", "sources": {"folder": ["~/music", "~/more"]},
                           "network": {"cookies_file": "~/c.txt"}, "lyric_model": {"name": "~/bert"},
                           "model": {"pretrained": "~/ast"}}, {})
    assert (by_flags.store, by_flags.sources.folder) == (str(tmp_path / "s"), (music, more))
    assert (by_flags.network.cookies_file, by_flags.lyric_model.name, by_flags.model.pretrained) == \
        tuple(str(tmp_path / name) for name in ("c.txt", "bert", "ast"))
    by_environ = load(None, {}, {"SIMSONG_STORE": "~/s", "SIMSONG_SOURCES__FOLDER": "~/music, ~/more"})
    assert (by_environ.store, by_environ.sources.folder) == (str(tmp_path / "s"), (music, more))
    file = write(tmp_path, "store = '~/s'\n[sources]\nfolder = '~/music'\n")
    for config in (load("~/simsong.toml", {}, {}), load(None, {}, {"SIMSONG_CONFIG": "~/simsong.toml"})):
        assert (config.store, config.sources.folder) == (str(tmp_path / "s"), (music,))
    assert str(file) == str(tmp_path / "simsong.toml")


def test_urls_are_no_paths(tmp_path: Path) -> None:
    file = write(tmp_path, "[sources]\ntable = ['https://host/~ann/songs.csv', 'own.csv']\n")
    assert load(file, {}, {}).sources.table == ("https://host/~ann/songs.csv", str(tmp_path / "own.csv"))
    assert absolute("s3://bucket/~x") == "s3://bucket/~x"
    assert load(None, {"store": "s3://bucket/~x"}, {}).store == "s3://bucket/~x"


@pytest.mark.parametrize("environ", [
    {"SIMSONG_STORE": "s", "SIMSONG_STORE__X": "1"}, {"SIMSONG_TRIM": "x", "SIMSONG_TRIM__MODE": "none"},
    {"SIMSONG_TRIM": "x"}, {"SIMSONG_TRIM__MODE__X": "1"}, {"SIMSONG_TRAINING__PRIORS": "1"},
    {"SIMSONG_NETWORK__EXTRACTOR_ARGS": "x", "SIMSONG_NETWORK__EXTRACTOR_ARGS__YOUTUBE__LANG": "de"},
])
def test_a_value_is_no_section_in_whatever_order(environ: dict[str, str]) -> None:
    for order in (list(environ), list(environ)[::-1]):
        with pytest.raises(ConfigError, match=r"environment: .*(is a section|is a value|is part of)"):
            load(None, {}, {name: environ[name] for name in order})


def test_layers_of_other_shapes_are_one_line(tmp_path: Path) -> None:
    file = write(tmp_path, "store = 's'\n")
    with pytest.raises(ConfigError, match=r"environment: store is a value, not a section"):
        load(file, {}, {"SIMSONG_STORE__X": "1"})
    with pytest.raises(ConfigError, match=r"store is a value, not a section"):
        load(write(tmp_path, "[store]\nx = 1\n"), {}, {"SIMSONG_STORE": "s"})


def test_a_file_that_is_named_is_read_or_told(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"none\.toml: there is no such file \(named by SIMSONG_CONFIG\)"):
        load(None, {}, {"SIMSONG_CONFIG": missing})
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {}, {})
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbfstore = 's'\n")
    assert load(tmp_path / "bom.toml", {}, {}).store == str(tmp_path / "s")
    (tmp_path / "utf16.toml").write_text("store = 's'\n", "utf-16")
    with pytest.raises(ConfigError, match="not readable as TOML"):
        load(tmp_path / "utf16.toml", {}, {})


@pytest.mark.parametrize(("key", "value"), [
    ("store", ""), ("sources.folder", ""), ("sources.table", ["a.csv", " "]), ("store", "a\0b"),
    ("catalogue.genres", [""]), ("catalogue.years", [2000, 1990]), ("catalogue.seed", -1),
    ("catalogue.limit", 0), ("fetch.threshold", float("nan")), ("fetch.max_duration_s", float("inf")),
    ("fetch.max_duration_s", 1), ("network.timeout_s", 1e300), ("network.sleep_s", float("nan")),
    ("network.retries", -1), ("lyrics.genius_root", "genius.com"), ("lyrics.lrclib_root", ""),
    ("trim.max_s", float("inf")), ("trim.silence_db", float("-inf")), ("segments.hop_s", float("nan")),
    ("segments.loudness_lufs", float("nan")), ("lyric_model.name", ""), ("lyric_model.batch", 0),
    ("model.pretrained", ""), ("training.losses", []), ("training.losses", ["ns", "ns"]),
    ("training.learning_rate", float("inf")), ("training.temperature", float("nan")),
    ("training.fold", "6/5"), ("training.fold", "0/5"), ("training.fold", "1/1"), ("training.fold", "a"),
    ("training.seed", -1), ("training.seed", 2**40), ("training.steps", 10**30),
    ("training.priors", {"lyrics": float("nan")}), ("training.retrain_at", float("nan")),
    ("evaluation.ks", [0]), ("evaluation.ks", []), ("evaluation.ks", [-5, 10]), ("evaluation.ks", [10**12]),
    ("evaluation.similar_at", float("nan")), ("evaluation.bootstrap", 0), ("evaluation.seed", -3),
    ("run.workers", 0), ("run.threads", 10**9), ("demo.songs", 10**12), ("demo.port", 0),
])
def test_nonsense_is_refused_in_every_section(key: str, value: object) -> None:
    section, _, name = key.rpartition(".")
    with pytest.raises(ConfigError) as raised:
        load(None, {section: {name: value}} if section else {name: value}, {})
    assert str(raised.value).startswith("option: ") and "\n" not in str(raised.value)


def test_figures_are_asked_for_in_rising_order() -> None:
    assert load(None, {"evaluation": {"ks": [50, 1, 10, 10]}}, {}).evaluation.ks == (1, 10, 50)


def test_an_empty_list_in_the_environment_is_no_path() -> None:
    assert load(None, {}, {"SIMSONG_SOURCES__FOLDER": ""}).sources.folder == ()


@pytest.mark.parametrize("own", [None, "ACTIVE"])
def test_threads_that_wait_leave_the_cores_to_others(own: str | None) -> None:
    environ = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    code = "import os, sys, simsong; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=environ | ({"OMP_WAIT_POLICY": own} if own else {}))
    assert done.stdout == f"False {own or 'PASSIVE'}\n"


def test_secrets_in_the_environment_are_no_settings() -> None:
    """A command that reads them reads the rest of the environment as before."""
    environ = {"SIMSONG_TOKEN": "planted", "SIMSONG_WEBHOOK_URL": "http://127.0.0.1/planted",
               "SIMSONG_STORE": "elsewhere"}
    config = load(None, {}, environ)
    assert config.store == "elsewhere" and "planted" not in config.model_dump_json()
