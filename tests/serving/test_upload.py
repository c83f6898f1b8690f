"""Files to search by: heard as the catalogue's songs were; nothing that comes can do harm."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from simsong.config import Config
from storage.store import Store
from tests.search.test_neighbours import published
from tests.serving.server import kind_of, served
from tests.small_world import configured, refresh, write_song


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    folder = tmp_path_factory.mktemp("upload")
    files = [write_song(folder / "music", name, lyrics=None) for name in ("one", "two", "three")]
    config = configured(
        folder / "music", folder / "store", serve={"upload_mb": 1, "upload_s": 1.5}, publish={"model": "mfcc"}
    )
    refresh(config)
    published(Store.open(config.store))
    return config, files[0]


@pytest.fixture(scope="module")
def api(world: tuple[Config, Path]) -> Iterator[httpx.Client]:
    with served(Store.open(world[0].store), config=world[0]) as client:
        yield client


def test_a_file_finds_itself(api: httpx.Client, world: tuple[Config, Path]) -> None:
    answer = api.post("/api/similar/file", params={"k": 2}, content=world[1].read_bytes()).json()
    assert answer["items"][0]["title"] == "song of one" and answer["items"][0]["score"] > 0.99
    assert answer["about"] == "your file" and str(world[1].parent) not in str(answer)
    song = api.get("/api/songs", params={"q": "one"}).json()["items"][0]
    assert api.get(f"/api/songs/{song['track_id']}/audio").content == world[1].read_bytes()


ODD = {
    "empty": b"",
    "text": b"not a sound",
    "header alone": b"RIFF\xff\xff\xff\xffWAVEfmt ",
    "flac": b"fLaC" * 100,
    "zeros": b"\0" * 100_000,
    "zip": b"PK\x03\x04" + b"x" * 1000,
    "playlist": b"#EXTM3U\nfile:///etc/passwd\n",
    "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "html": b"<script>alert(1)</script>",
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_sound_is_a_problem(api: httpx.Client, name: str) -> None:
    response = api.post("/api/similar/file", content=ODD[name])
    assert response.status_code == 422 and kind_of(response) in (
        "empty",
        "undecodable",
        "silent",
        "too-short",
    )
    assert "/tmp" not in response.text and "root:" not in response.text


def test_a_large_file_is_refused_before_it_has_come(api: httpx.Client) -> None:
    assert kind_of(api.post("/api/similar/file", content=b"x" * (2 << 20))) == "too-large"
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 1 << 30:
            sent += 1 << 16
            yield b"x" * (1 << 16)

    try:
        response = api.post("/api/similar/file", content=endless())
    except httpx.HTTPError:  # it closed while we still sent
        response = None
    assert response is None or kind_of(response) == "too-large"
    assert sent < 100 << 20


def test_a_slow_file_is_not_waited_for(api: httpx.Client) -> None:
    with socket.create_connection((api.base_url.host, api.base_url.port or 0)) as slow:
        slow.sendall(
            b"POST /api/similar/file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nRIFF"
        )
        began = time.monotonic()
        slow.settimeout(10)
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")
        assert 1 < time.monotonic() - began < 8


def test_who_leaves_in_the_middle_leaves_nothing(api: httpx.Client) -> None:
    import tempfile

    before = set(Path(tempfile.gettempdir()).glob("simsong-upload-*"))
    with socket.create_connection((api.base_url.host, api.base_url.port or 0)) as leaving:
        leaving.sendall(
            b"POST /api/similar/file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nRIFF"
        )
        time.sleep(0.3)
    for _ in range(40):
        if set(Path(tempfile.gettempdir()).glob("simsong-upload-*")) <= before:
            break
        time.sleep(0.1)
    assert set(Path(tempfile.gettempdir()).glob("simsong-upload-*")) <= before


def test_others_are_answered_while_files_come_and_only_some_may_wait(api: httpx.Client) -> None:
    slow = [socket.create_connection((api.base_url.host, api.base_url.port or 0)) for _ in range(8)]
    try:
        for one in slow:
            one.sendall(
                b"POST /api/similar/file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nRIFF"
            )
        time.sleep(0.3)
        assert api.get("/api/songs").status_code == 200
        assert kind_of(api.post("/api/similar/file", content=b"x")) == "busy"
    finally:
        for one in slow:
            one.close()
    time.sleep(0.5)
    threads = threading.active_count()
    assert kind_of(api.post("/api/similar/file", content=b"x")) != "busy" and threads < 100
