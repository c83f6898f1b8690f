"""Songs in the queue of a player: a real mpd, where there is one, and a server that speaks so much of its
protocol."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from simsong.errors import ConfigError, MachineError
from simsong.fetching.mpd import queue


def _until_gone(lines: Iterable[bytes]) -> Iterator[bytes]:
    with suppress(ConnectionError):
        yield from lines


@contextmanager
def speaking(songs: set[str], password: str = "") -> Iterator[tuple[dict[str, str], list[str]]]:
    """An MPD of these songs on loopback: the environment that names it, and the commands it was given."""
    listener, heard = socket.create_server(("127.0.0.1", 0)), list[str]()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as lines:
                lines.write(b"OK MPD 0.23.5\n")
                lines.flush()
                entered = not password
                for line in _until_gone(lines):
                    command = line.decode().strip()
                    heard.append(command)
                    name, _, rest = command.partition(" ")
                    words = rest.strip('"').split('" "')
                    if name == "password":
                        entered = words[0] == password
                        told = "OK" if entered else "ACK [3@0] {password} incorrect password"
                    elif not entered:
                        told = f'ACK [4@0] {{{name}}} you don\'t have permission for "{name}"'
                    elif name == "find":
                        told = f"file: {words[1]}\nOK" if words[1] in songs else "OK"
                    else:
                        told = "OK"
                    lines.write(f"{told}\n".encode())
                    lines.flush()

    threading.Thread(target=serve, daemon=True).start()
    host = f"{password}@127.0.0.1" if password else "127.0.0.1"
    try:
        yield {"MPD_HOST": host, "MPD_PORT": str(listener.getsockname()[1])}, heard
    finally:
        listener.close()


def test_songs_are_named_from_the_players_folder() -> None:
    with speaking({"a/one.mp3", "a/two.mp3"}) as (environ, heard):
        told = queue(["/music/of/mine/a/one.mp3", "/music/of/mine/a/two.mp3", "/music/of/mine/three.mp3",
                      None, "/x/\nclear", "http://127.0.0.1:7474/api/songs/x/audio"], environ=environ)
    assert (told.added, told.missing) == (3, (2, 3, 4))
    changes = [command for command in heard if not command.startswith("find")]
    assert changes == ["clear", 'add "a/one.mp3"', 'add "a/two.mp3"',
                       'add "http://127.0.0.1:7474/api/songs/x/audio"', 'play "0"', "close"]


def test_added_behind_nothing_is_cleared_and_nothing_where_no_song_is_there() -> None:
    with speaking({"one.mp3"}) as (environ, heard):
        assert queue(["/m/one.mp3"], add=True, environ=environ).added == 1
        assert queue(["/m/two.mp3"], environ=environ).added == 0
    assert not {"clear", 'play "0"'} & set(heard)


def test_a_password_is_given_and_never_told() -> None:
    with speaking({"one.mp3"}, "geheim") as (environ, _):
        assert queue(["/m/one.mp3"], environ=environ).added == 1
        for host in ("127.0.0.1", "geheimer@127.0.0.1"):
            with pytest.raises(ConfigError, match="MPD_HOST=password@host") as refused:
                queue(["/m/one.mp3"], environ={**environ, "MPD_HOST": host})
            assert "geheim" not in str(refused.value)


def test_where_there_is_none_it_says_so() -> None:
    with pytest.raises(MachineError, match="MPD_HOST and MPD_PORT"):
        queue([], environ={"MPD_HOST": "127.0.0.1", "MPD_PORT": "1"})
    with pytest.raises(ConfigError, match="is a number"):
        queue([], environ={"MPD_PORT": "x"})


@pytest.mark.skipif(shutil.which("mpd") is None, reason="Debian's mpd is not installed")
def test_a_real_mpd_plays(tmp_path: Path) -> None:
    (tmp_path / "music/a b").mkdir(parents=True)
    song, other = tmp_path / "music/a b/ö \"1\".wav", tmp_path / "beside.wav"
    for path in (song, other):
        soundfile.write(path, np.zeros(16_000), 16_000)
    at = tmp_path / "socket"
    (tmp_path / "conf").write_text(
        f'music_directory "{tmp_path}/music"\ndb_file "{tmp_path}/db"\nbind_to_address "{at}"\n'
        'audio_output {\n type "null"\n name "null"\n}\n', "utf-8")
    words = ["mpd", "--no-daemon", "--stderr", tmp_path / "conf"]
    player = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            if at.exists() and (tmp_path / "db").exists():
                break
            time.sleep(0.1)
        told = queue([str(song), str(other)], environ={"MPD_HOST": str(at)})
        import mpd

        client: Any = mpd.MPDClient()           # its commands are made as it is imported
        client.connect(str(at))
        files = [one["file"] for one in client.playlistinfo()]
    finally:
        player.terminate()
        player.wait()
    assert told.missing == () and files == ['a b/ö "1".wav', str(other)]
