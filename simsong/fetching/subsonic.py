"""A music server that speaks Subsonic's protocol: Navidrome, Gonic, Ampache, LMS, Supysonic.

https://opensubsonic.netlify.app/docs/. A client of ours: the kept library for it (py-opensonic) is GPL-3.0,
which this project's licence does not go with, and needs another HTTP library.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit, urlunsplit

import requests
import urllib3

from simsong.config_loader import secret
from simsong.errors import CatalogueError, ConfigError

USER, PASSWORD = "SUBSONIC_USER", "SUBSONIC_PASSWORD"  # in the environment
SCHEME = "subsonic+"  # before http or https, in a song's url: the server, without the password
PROTOCOL, CLIENT = "1.16.1", "simsong"
TIMEOUT_S, PAGE, MOST_BYTES = 60.0, 500, 64 << 20
WRONG_USER = (40, 41, 44)


class SubsonicServer:
    """Args: address: http(s)://host[:port][/path]. Raises: ConfigError where the environment has no user."""

    def __init__(self, address: str, environ: Mapping[str, str] | None = None) -> None:
        self.address = _address(address)
        user, password = secret(USER, environ), secret(PASSWORD, environ)
        if not user or not password:
            raise ConfigError(f"{self.address}: set {USER} and {PASSWORD} to a user of that server")
        self._user, self._password = user, password
        self._session = requests.Session()

    @property
    def login(self) -> dict[str, str]:
        """What lets this user in: the salted digest, or, of servers that keep no password to compare it with,
        the password itself. Raises: CatalogueError."""
        if (credentials := _logins.get((self.address, self._user, self._password))) is None:
            credentials = _salted(self._user, self._password)
            reply = self._answer("ping", credentials)
            if reply.get("status") != "ok":
                credentials = {"u": self._user, "p": _encoded(self._password)}
                self._checked("ping", self._answer("ping", credentials))
            _logins[self.address, self._user, self._password] = credentials
        return credentials

    def ask(self, name: str, /, **params: Any) -> dict[str, Any]:
        """What the server answers to a call. The user goes in the body, where no log has it.

        Raises: CatalogueError, one line, where it does not answer, or refuses.
        """
        return self._checked(name, self._answer(name, {**self.login, **params}))

    def _answer(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        where = f"{self.address}/rest/{name}.view"
        fields = {"v": PROTOCOL, "c": CLIENT, "f": "json", **params}
        try:
            with self._session.post(where, data=fields, timeout=TIMEOUT_S, stream=True) as response:
                # Some answer a refusal with a status of HTTP's too.
                body = response.raw.read(MOST_BYTES + 1, decode_content=True)
            reply = json.loads(body)["subsonic-response"] if len(body) <= MOST_BYTES else None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise CatalogueError(
                f"{self.address}: does not answer as a Subsonic server ({type(error).__name__})"
            ) from None
        except (ValueError, KeyError, TypeError):
            reply = None
        if not isinstance(reply, dict):
            raise CatalogueError(f"{self.address}: what it answers to {name} is none of Subsonic's")
        return reply

    def _checked(self, name: str, reply: dict[str, Any]) -> dict[str, Any]:
        if reply.get("status") == "ok":
            return reply
        error = reply.get("error")
        error = error if isinstance(error, dict) else {}
        if error.get("code") in WRONG_USER:
            raise CatalogueError(f"{self.address}: it does not know {USER} with that {PASSWORD}")
        said = "".join(c for c in str(error.get("message", "")) if c.isprintable())[:200]
        raise CatalogueError(f"{self.address}: {name}: {said or 'refused'}")

    def songs(self) -> Iterator[dict[str, Any]]:
        """All songs, album by album, as the server describes them."""
        for album in self.albums():
            album_songs = self.ask("getAlbum", id=album["id"]).get("album") or {}
            yield from (song for song in _dicts(album_songs.get("song")) if not song.get("isVideo"))

    def albums(self) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            reply = self.ask("getAlbumList2", type="alphabeticalByName", size=PAGE, offset=offset)
            page = [one for one in _dicts((reply.get("albumList2") or {}).get("album")) if one.get("id")]
            yield from page
            if len(page) < PAGE:
                return
            offset += len(page)

    def playlists(self) -> list[dict[str, Any]]:
        reply = self.ask("getPlaylists").get("playlists") or {}
        return [one for one in _dicts(reply.get("playlist")) if one.get("id")]

    def playlist(self, playlist_id: str) -> list[dict[str, Any]]:
        """The songs of one."""
        return _dicts((self.ask("getPlaylist", id=playlist_id).get("playlist") or {}).get("entry"))

    def write_playlist(self, name: str, track_ids: list[str]) -> None:
        """A playlist of that name, in place of the one that is there."""
        own = next((one for one in self.playlists() if one.get("name") == name), None)
        which = {"playlistId": own["id"]} if own else {"name": name}
        self.ask("createPlaylist", songId=track_ids, **which)

    def song_url(self, track_id: str) -> str:
        """Where a song is, without the password: what a store may hold."""
        return f"{SCHEME}{self.address}?id={quote(track_id, safe='')}"


def is_subsonic(url: str | None) -> bool:
    return bool(url) and str(url).startswith((f"{SCHEME}http://", f"{SCHEME}https://"))


def song_of(url: str | None) -> tuple[str, str] | None:
    """The server's address and the song's id there; None for other urls."""
    if url is None or not is_subsonic(url):
        return None
    parts = urlsplit(url.removeprefix(SCHEME))
    track_id = (parse_qs(parts.query).get("id") or [""])[0]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")), track_id


def stream_of(url: str) -> str:
    """The address of a song's own bytes, with what lets this user in: for a request, never for a store.

    Args: url: as `SubsonicServer.song_url` gives it. Raises: ConfigError.
    """
    address, track_id = song_of(url) or ("", "")
    server = SubsonicServer(address)
    parameters = {**server.login, "v": PROTOCOL, "c": CLIENT, "id": track_id, "format": "raw"}
    return f"{server.address}/rest/stream?{urlencode(parameters)}"


def secrets_of_user() -> tuple[str, ...]:
    """What a stream's address must not be told with."""
    user, password = secret(USER), secret(PASSWORD)
    if not user or not password:
        return ()
    encoded = _encoded(password)
    return (
        password,
        _salted(user, password)["t"],
        encoded,
        quote(encoded, safe=""),
        encoded.removeprefix("enc:"),
    )


_logins: dict[tuple[str, str, str], dict[str, str]] = {}


def _salted(user: str, password: str) -> dict[str, str]:
    """The salt is always the same, so that a download that broke off is gone on with: who reads the address
    can let themselves in by it anyway."""
    salt = hashlib.sha256(f"simsong {password}".encode()).hexdigest()[:12]
    digest = hashlib.md5((password + salt).encode(), usedforsecurity=False).hexdigest()
    return {"u": user, "s": salt, "t": digest}


def _encoded(password: str) -> str:
    return f"enc:{password.encode().hex()}"


def _address(address: str) -> str:
    parts = urlsplit(address.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise CatalogueError(f"{address}: no such server; it is to be like http://localhost:4533")
    return address.strip().rstrip("/")


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
