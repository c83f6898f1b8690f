"""What `doctor` finds here, and `doctor --live` on a demo world's sites: by configuration alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simsong.audio.fetch import AudioFetcher
from simsong.cli.doctor import Check, checks
from simsong.cli.live import KNOWN, live_checks, song_to_ask_for
from simsong.config import Config
from simsong.config_loader import load
from simsong.demo.plan import KINDS
from simsong.demo.server import DROP, DemoServer, serve
from simsong.demo.world import Track, World, build_world
from simsong.errors import ConfigError
from simsong.records import Wanted
from storage.store import Store
from tests.cli.test_cli import simsong

TOKEN = "planted-token-5d1e"
COOKIES = "# Netscape HTTP Cookie File\n{host}\tFALSE\t/\tFALSE\t{expires}\tsid\tplanted-cookie-77aa\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("demo") / "world", 8, duration_s=(12.0, 14.0), workers=1,
                       kinds=dict.fromkeys(KINDS, 0) | {"private": 1})


@pytest.fixture
def site(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoServer]:
    monkeypatch.setenv("GENIUS_ACCESS_TOKEN", TOKEN)
    with serve(world, 0, TOKEN) as server:
        yield server


def of(folder: Path, site: DemoServer | None = None, **more: dict[str, Any]) -> Config:
    base: dict[str, dict[str, Any]] = {} if site is None else {
        "fetch": {"search": site.search}, "lyrics": {"provider": "genius", "genius_root": site.genius_root}}
    merged = {name: {**base.get(name, {}), **more.get(name, {})} for name in {*base, *more}}
    return load(None, {"store": str(folder / "store"), **merged}, {})


def song(world: World, kind: str | None = None) -> Track:
    return next(track for track in world.tracks if track.kind == kind)


def live(config: Config, track: Track) -> dict[str, Check]:
    wanted = Wanted("t", track.artist, track.title, track.catalogue_duration_s)
    return {check.name: check for check in live_checks(config, wanted)}


def found(config: Config) -> dict[str, Check]:
    return {check.name: check for check in checks(config)}


# --- what is here

def test_the_javascript_runtime_is_the_one_that_yt_dlp_uses(tmp_path: Path) -> None:
    check = found(of(tmp_path))["javascript"]
    assert check.state == "ok" and re.match(r"deno [\d.]+ at .*deno", check.detail)


def test_another_runtime_is_no_help(tmp_path: Path) -> None:
    """In a virtual environment without deno, and a `node` on the path."""
    shutil.copytree(Path(sys.executable).parent, tmp_path / "bin", symlinks=True)
    (tmp_path / "bin/deno").unlink()
    config = (Path(sys.prefix) / "pyvenv.cfg").read_text()
    (tmp_path / "pyvenv.cfg").write_text(config)
    (tmp_path / "lib").symlink_to(Path(sys.prefix) / "lib")
    node = tmp_path / "tools/node"
    node.parent.mkdir()
    node.write_text("#!/bin/sh\necho v22.1.0\n")
    node.chmod(0o755)
    done = subprocess.run([tmp_path / "bin/python", "-c", "from simsong.cli import main; main()", "doctor",
                           "--json", "--store", tmp_path / "none"], text=True, capture_output=True,
                          cwd=Path(__file__).parents[2], check=False, timeout=120,
                          env={"PATH": f"{node.parent}:/usr/bin:/bin", "HOME": str(tmp_path)})
    check = {row["name"]: row for row in json.loads(done.stdout)}["javascript"]
    assert check["state"] == "missing" and done.returncode == 1
    assert check["detail"] == "no deno, which YouTube needs; node, which yt-dlp does not use by itself"
    assert check["mend"] == "pip install --upgrade deno"


def test_cookies_are_read_but_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "cookies.txt"
    config = of(tmp_path, network={"cookies_file": str(file)})
    assert found(config)["cookies"].state == "missing"
    file.write_text("planted-cookie-77aa is no cookie\n")
    assert "not a readable cookies.txt" in found(config)["cookies"].detail
    file.write_text(COOKIES.format(host="youtube.com", expires=4102444800))
    assert found(config)["cookies"] == Check("cookies", "ok", f"{file}: 1 cookies")
    file.write_text(COOKIES.format(host="youtube.com", expires=1000000000))
    check = found(config)["cookies"]
    assert (check.state, check.detail) == ("note", f"{file}: 1 cookies, 1 of them expired")
    assert "planted" not in str(found(config))


@pytest.mark.parametrize(("proxy", "state", "detail"), [
    ("http://ann:planted-word@proxy.example:3128", "ok", "http://proxy.example:3128"),
    ("proxy.example:3128", "missing", "network.proxy is no URL of a proxy"),
    ("ftp://ann:planted-word@proxy.example", "missing", "network.proxy is no URL of a proxy"),
    ("http://ann:planted-word@proxy.example:port", "missing", "network.proxy is no URL"),
    ("http://", "missing", "network.proxy is no URL of a proxy"),
])
def test_a_proxy_is_told_without_its_password(tmp_path: Path, proxy: str, state: str, detail: str) -> None:
    check = found(of(tmp_path, network={"proxy": proxy}))["proxy"]
    assert (check.state, check.detail.startswith(detail)) == (state, True)
    assert "planted" not in str(check)


def test_the_disk_is_held_against_the_plan(tmp_path: Path) -> None:
    from tests.small_world import configured, refresh, write_song

    assert "a song takes about" in found(of(tmp_path))["disk"].detail
    write_song(tmp_path / "music", "ann")
    config = configured(tmp_path / "music", tmp_path / "store")
    refresh(config)
    assert found(config)["disk"].detail.endswith("what is still to fetch takes about 0.0 GB")


def test_extractors_are_given_their_arguments(tmp_path: Path) -> None:
    config = of(tmp_path, network={"extractor_args": {"YouTube": {"player_client": "tv", "lang": ["de"]}}})
    with AudioFetcher(config.fetch, config.network, tmp_path)._downloads.one() as site:
        youtube: Any = site.get_info_extractor("Youtube")
        assert youtube._configuration_arg("player_client") == ["tv"]
        assert youtube._configuration_arg("lang") == ["de"]
    with pytest.raises(ConfigError, match=r"network\.extractor_args\.youtube = 'tv'"):
        of(tmp_path, network={"extractor_args": {"youtube": "tv"}})


# --- the sites

def test_live_asks_each_site_once(site: DemoServer, world: World, tmp_path: Path) -> None:
    track = song(world)
    checks = live(of(tmp_path, site), track)
    assert {name: check.state for name, check in checks.items()} == \
        {"live search": "ok", "live download": "ok", "live genius": "ok"}
    size = (world.audio / str(world.page[str(track.page)].file)).stat().st_size
    assert re.fullmatch(rf"\d+\.\d s; {size:,} bytes of \w+, 1[234] s", checks["live download"].detail)
    assert re.search(r"results for .*, the best: .* \(score \d+ of 100\)", checks["live search"].detail)
    assert re.search(r"; \d+ words in en \(score 100 of 100\)", checks["live genius"].detail)
    paths = [path.split("?")[0] for _, path in site.requests]
    assert paths.count("/search") == 1 and paths.count(f"/watch/{track.page}") == 1
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(("fault", "status", "name", "said", "mend"), [
    ("/search", 429, "live search", "rate_limited: ", "wait; then network.requests_per_minute"),
    ("/search", DROP, "live search", "connection: ", "network.proxy"),
    ("/watch", 403, "live download", "private: ", "another song"),
    ("/audio", 503, "live download", "server_error: ", "pip install --upgrade"),
    ("/genius", 403, "live genius", "blocked: ", "network.cookies_file"),
])
def test_each_failure_is_classified_in_a_line(site: DemoServer, world: World, tmp_path: Path, fault: str,
                                              status: int, name: str, said: str, mend: str) -> None:
    site.faults[fault] = status
    checks = live(of(tmp_path, site), song(world))
    check = checks[name]
    assert check.state == "missing" and said in check.detail and mend in check.mend
    assert "\n" not in check.detail and TOKEN not in str(checks)
    others = {other.state for other in checks.values() if other.name != name}
    assert others == {"ok"}


def test_a_refused_token_and_a_song_that_is_not_there(site: DemoServer, world: World, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENIUS_ACCESS_TOKEN", "planted-but-wrong")
    checks = live(of(tmp_path, site), song(world, "private"))
    assert "private: " in checks["live download"].detail
    assert "Genius refuses this token" in checks["live genius"].detail and "planted" not in str(checks)
    wanted = Wanted("t", "Nobody", "Nothing At All")
    search = next(live_checks(of(tmp_path, site), wanted))
    assert re.search(r"; no_match: Nobody - Nothing At All: none of \d+ results", search.detail)


def test_the_song_asked_for(tmp_path: Path) -> None:
    config = of(tmp_path)
    assert song_to_ask_for(config, None) == KNOWN
    named = song_to_ask_for(config, "Ann & Co - Road - Part 2")
    assert (named.artist, named.title, named.duration_s) == ("Ann & Co", "Road - Part 2", None)
    with pytest.raises(ConfigError, match="name it as"):
        song_to_ask_for(config, "Road")
    with Store.writing(config.store) as store:
        store.write("tracks", [[
            {"track_id": "A", "artist": "Ann", "title": "Local", "url": "file:///a.mp3", "source": "folder",
             "shard": 0},
            {"track_id": "B", "artist": "Bob", "title": "Road", "duration_s": 90.0, "source": "table",
             "shard": 0}]], "id")
    assert song_to_ask_for(config, None) == Wanted("B", "Bob", "Road", 90.0)


def test_the_command_prints_as_it_goes_and_fails_where_something_is_missing(
        site: DemoServer, world: World, tmp_path: Path) -> None:
    track = song(world)
    (tmp_path / "simsong.toml").write_text(
        f'[fetch]\nsearch = "{site.search}"\n[lyrics]\nprovider = "genius"\n'
        f'genius_root = "{site.genius_root}"\n')
    words = ("doctor", "--live", "--song", f"{track.artist} - {track.title}")
    out = simsong(*words, cwd=tmp_path, PYTHONPATH=str(Path(__file__).parents[2])).stdout
    assert re.search(r"^ok      live download  \d+\.\d s; [\d,]+ bytes of", out, re.MULTILINE)
    site.faults["/search"] = 500
    out = simsong(*words, cwd=tmp_path, code=1, PYTHONPATH=str(Path(__file__).parents[2])).stdout
    assert re.search(r"^MISSING live search    \d+\.\d s; server_error: ", out, re.MULTILINE)
