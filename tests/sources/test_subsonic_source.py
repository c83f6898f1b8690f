"""A music server as the catalogue: a real one (Supysonic) on loopback, and one that answers nonsense."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import mutagen
import pytest

from simsong.answers.library import Library
from simsong.answers.playlists import PlaylistRules, playlist, send
from simsong.errors import CatalogueError, ConfigError, QueryError
from simsong.fetching.subsonic import PASSWORD, USER, SubsonicServer, is_subsonic, stream_of
from simsong.search.song_query import SongQuery
from simsong.sources import SOURCES
from simsong.sources.base import COLUMNS, TRACK_ID
from storage.store import Store
from tests.search.test_neighbours import published
from tests.small_world import configured, refresh, write_song
from tests.source_files import read

SECRET = "open-sesame-of-the-tests"
RUN = """
import sys
from werkzeug.serving import run_simple
from supysonic.config import IniConfig
from supysonic.web import create_application
run_simple("127.0.0.1", int(sys.argv[1]), create_application(IniConfig(["supysonic.conf"])), threaded=True)
"""


class Music:
    """Attributes: address; folder: of its music; `scan` after a change there."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "music"
        (root / "supysonic.conf").write_text(
            f"[base]\ndatabase_uri = sqlite:///{root}/db\n[webapp]\ncache_dir = {root}/cache\n"
            "mount_webui = false\n"
            f"[daemon]\nrun_watcher = false\nsocket = {root}/daemon.sock\n"
        )
        for number, name in enumerate(("one", "two", "three")):
            self.add(name, number)
        self.cli("user", "add", "me", "-p", SECRET)
        self.cli("folder", "add", "Music", str(self.folder))
        self.scan()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.server = subprocess.Popen(
            [sys.executable, "-c", RUN, str(port)], cwd=root, stderr=subprocess.DEVNULL
        )
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)

    def add(self, name: str, number: int = 9) -> None:
        wav = write_song(self.folder, name, lyrics=None)
        file = wav.with_suffix(".flac")
        import soundfile

        samples, rate = soundfile.read(wav)
        soundfile.write(file, samples, rate)
        wav.unlink()
        tags = mutagen.File(file)  # pyright: ignore[reportPrivateImportUsage]
        assert tags is not None
        tags.update(
            {
                "artist": f"Artist {name}",
                "title": f"Title {name}",
                "album": f"Album {number % 2}",
                "genre": "Jazz",
                "date": "1999",
            }
        )
        tags.save()

    def scan(self) -> None:
        self.cli("folder", "scan", "Music")

    def cli(self, *words: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "supysonic.cli", *words], cwd=self.root, check=True, capture_output=True
        )


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Music]:
    pytest.importorskip("supysonic")
    music = Music(tmp_path_factory.mktemp("supysonic"))
    yield music
    music.server.terminate()
    music.server.wait()


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(USER, "me")
    monkeypatch.setenv(PASSWORD, SECRET)


def test_its_songs_are_the_catalogue_under_its_ids(music: Music) -> None:
    source = SOURCES["subsonic"](music.address)
    tables, rejected = read(source)
    tracks = tables["tracks"].to_pylist()
    assert not rejected and {row["title"] for row in tracks} == {"Title one", "Title two", "Title three"}
    theirs = {song["id"]: song["title"] for song in SubsonicServer(music.address).songs()}
    assert {row["track_id"]: row["title"] for row in tracks} == theirs
    assert all(TRACK_ID.fullmatch(row["track_id"]) and is_subsonic(row["url"]) for row in tracks)
    assert {row["year"] for row in tracks} == {1999} and {row["source"] for row in tracks} == {"subsonic"}
    assert set(tables["genres"]["name"].to_pylist()) == {"Jazz"}
    assert all(tuple(table.column_names) == COLUMNS[name] for name, table in tables.items())
    assert SECRET not in str(tables) and "t=" not in str([row["url"] for row in tracks])


def test_a_fingerprint_changes_with_the_library(music: Music) -> None:
    source = SOURCES["subsonic"](music.address)
    before = source.fingerprint()
    assert before == SOURCES["subsonic"](music.address).fingerprint()
    server = SubsonicServer(music.address)
    ids = [song["id"] for song in server.songs()]
    server.write_playlist("Mine", ids[:2])
    assert source.fingerprint() != before
    tags = read(source)[0]["tags"].to_pylist()
    assert {row["track_id"] for row in tags if row["name"] == "playlist Mine"} == set(ids[:2])
    server.write_playlist("Mine", ids[1:])
    assert [one["name"] for one in server.playlists()] == ["Mine"], "in its place"
    assert {song["id"] for song in server.playlist(server.playlists()[0]["id"])} == set(ids[1:])


def test_a_library_is_heard_and_a_playlist_goes_back(
    music: Music, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = configured(
        music.folder,
        tmp_path / "store",
        publish={"model": "mfcc"},
        sources={"folder": [], "subsonic": music.address},
    )
    config = config.model_copy(
        update={"sources": config.sources.model_copy(update={"folder": (), "subsonic": (music.address,)})}
    )
    refresh(config)
    store = Store.open(config.store)
    heard = store.read("audio").to_pylist()
    assert len(heard) == 3 and all(
        is_subsonic(row["url"]) and row["file"].startswith("audio/") for row in heard
    )
    published(store)
    library = Library(store, config)
    seed = library.ids[0].as_py()
    made = playlist(library, SongQuery(like=(seed,)), PlaylistRules(songs=3))
    assert (
        send(library, made, "Like it", dry_run=True) == send(library, made, "Like it") == [(music.address, 3)]
    )
    server = SubsonicServer(music.address)
    own = next(one for one in server.playlists() if one["name"] == "Like it")
    assert [song["id"] for song in server.playlist(own["id"])] == [entry.track_id for entry in made.entries]
    login = SECRET.encode().hex()  # as Supysonic, which knows no digests, is told it
    assert login in stream_of(heard[0]["url"])
    written = capfd.readouterr()
    for path in Path(config.store).rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes() and login.encode() not in path.read_bytes(), path
    assert SECRET not in written.out + written.err and login not in written.out + written.err


def test_what_is_wrong_is_one_line(music: Music, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for address in ("nowhere", "ftp://x", "http://", "http://me:pw@host", str(tmp_path)):
        with pytest.raises(CatalogueError, match="no such"):
            SOURCES["subsonic"](address)
    with pytest.raises(CatalogueError, match="does not answer"):
        list(SOURCES["subsonic"]("http://127.0.0.1:9").read())
    monkeypatch.setenv(PASSWORD, "wrong")
    with pytest.raises(CatalogueError, match=PASSWORD) as error:
        list(SOURCES["subsonic"](music.address).read())
    assert "wrong" not in str(error.value) and "\n" not in str(error.value)
    monkeypatch.delenv(PASSWORD)
    with pytest.raises(ConfigError, match=USER):
        SOURCES["subsonic"](music.address)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"subsonic-response": 3}',
        b'{"subsonic-response": {"status": "ok"}}',
        b'{"subsonic-response": {"status": "ok", "album": {"song": 5},'
        b' "albumList2": {"album": [1, {}, {"id": 2}]}}}',
        b'{"subsonic-response": {"status": "failed", "error": {"message": "a\\nb\\u001b[31m"}}}',
        b"\xff\xfe" * 99,
    ],
)
def test_a_server_that_answers_nonsense_is_one_line(answer: bytes) -> None:
    class Nonsense(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nonsense) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(CatalogueError) as error:
                list(SOURCES["subsonic"](f"http://127.0.0.1:{server.server_port}").read())
            assert str(error.value).isprintable()
        finally:
            server.shutdown()


def test_hostile_songs_are_rows_or_rejected(music: Music) -> None:
    songs = [
        {"id": "../../x", "title": "a\u0000b", "artist": "<script>"},
        {"id": "1", "title": None},
        {"id": "1", "title": "again"},
        {"id": None},
        {"id": "3" * 100, "title": "long", "year": 10**9, "duration": "nan", "playCount": -5},
    ]

    class Odd(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = self.path.rpartition("/")[2]
            answer = {
                "getAlbumList2.view": {"albumList2": {"album": [{"id": "a"}]}},
                "getAlbum.view": {"album": {"song": songs}},
            }.get(name, {})
            body = json.dumps({"subsonic-response": {"status": "ok", **answer}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tables, rejected = read(SOURCES["subsonic"](f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()
    rows = tables["tracks"].to_pylist()
    assert len(rows) == 2 and [one.reason for one in rejected] == ["no_title"]
    assert all(TRACK_ID.fullmatch(row["track_id"]) for row in rows)
    assert {row["title"] for row in rows} == {"a b", "long"} and {row["duration_s"] for row in rows} == {None}


def test_a_playlist_without_songs_of_a_server_is_refused(tmp_path: Path) -> None:
    from tests.asked_store import write_asked_store

    store = write_asked_store(tmp_path / "store")
    config = configured(tmp_path, tmp_path / "store", publish={"model": "mfcc"})
    library = Library(store, config)
    made = playlist(library, SongQuery(like=("TR000",)), PlaylistRules(songs=3))
    with pytest.raises(QueryError, match="music server"):
        send(library, made, "x")
    assert os.environ[PASSWORD] == SECRET
