"""The Music Player Daemon, told what to play. Where it is, MPD_HOST and MPD_PORT say, as for all its clients:
a host, `password@host`, or the path of its socket."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from simsong.errors import ConfigError, MachineError

SOCKETS = ("$XDG_RUNTIME_DIR/mpd/socket", "/run/mpd/socket")   # looked for where MPD_HOST is not set
PORT, TIMEOUT_S = 6600, 20.0


@dataclass(frozen=True)
class Queued:
    """Attributes: address: of the MPD; added: how many songs; missing: which of those given it has not."""

    address: str
    added: int
    missing: tuple[int, ...]


def queue(locations: Sequence[str | None], *, add: bool = False,
          environ: Mapping[str, str] | None = None) -> Queued:
    """Put songs into MPD's queue, and play.

    A song is added by its path below MPD's music folder, or, over MPD's socket, wherever it lies on this
    machine; an address (http) as it is.

    Args:
        locations: local paths, or addresses; None where a song has neither.
        add: behind what is there, without playing.
    Raises: MachineError where MPD does not answer;
        ConfigError where it wants another password.
    """
    with _connected(os.environ if environ is None else environ) as (client, address, is_socket):
        songs = _Songs(client, is_socket)
        places = [songs.place(location) for location in locations]
        there = [place for place in places if place is not None]
        if there and not add:
            client.clear()
        for place in there:
            client.add(place)
        if there and not add:
            client.play(0)
        missing = tuple(number for number, place in enumerate(places) if place is None)
        return Queued(address, len(there), missing)


class _Songs:
    """What MPD calls songs."""

    def __init__(self, client: Any, is_socket: bool) -> None:
        self._client, self._is_socket, self._above = client, is_socket, 0

    def place(self, location: str | None) -> str | None:
        """None where MPD has it not."""
        if location is None or not location.isprintable():
            return None
        if location.startswith(("http://", "https://")):
            return location
        path = PurePosixPath(Path(location).absolute().as_posix())
        parts = path.parts[1:]
        # Songs mostly lie below one folder: it is tried first where the one before was.
        for above in sorted(range(len(parts)), key=lambda count: (count != self._above, count)):
            name = "/".join(parts[above:])
            if self._client.find("file", name):
                self._above = above
                return name
        return str(path) if self._is_socket else None


@contextmanager
def _connected(environ: Mapping[str, str]) -> Iterator[tuple[Any, str, bool]]:
    """The client, its address without the password, and whether that is a socket's."""
    import mpd

    told = environ.get("MPD_HOST", "")
    password, _, host = told.rpartition("@") if not told.startswith("@") else ("", "", told)
    if not host:
        found = (os.path.expandvars(path) for path in SOCKETS)
        host = next((path for path in found if Path(path).is_socket()), "localhost")
    is_socket = host.startswith(("/", "@"))
    try:
        port = int(environ.get("MPD_PORT") or PORT)
    except ValueError:
        raise ConfigError("MPD_PORT is a number") from None
    address = host if is_socket else f"{host}:{port}"
    client: Any = mpd.MPDClient()
    client.timeout = TIMEOUT_S
    try:
        client.connect(host, None if is_socket else port)
        if password:
            client.password(password)
        yield client, address, is_socket
    except mpd.CommandError as error:
        text = str(error).replace(password, "…") if password else str(error)
        raise ConfigError(f"MPD at {address} refuses ({text}); MPD_HOST=password@host lets in") from None
    except (OSError, mpd.MPDError) as error:
        raise MachineError(f"MPD at {address} does not answer ({getattr(error, 'strerror', None) or error}); "
                           "MPD_HOST and MPD_PORT say where it is") from None
    finally:
        try:
            client.close()
            client.disconnect()
        except (OSError, mpd.MPDError):
            pass
