"""OpenSubsonic's sonicSimilarity extension, and the few calls that a player makes before it uses that.

https://opensubsonic.netlify.app/docs/extensions/sonicsimilarity/. Ids are the catalogue's: of a library that
came from a Subsonic server they are that server's.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs
from xml.etree import ElementTree

import orjson
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from simsong.answers.playlists import path
from simsong.errors import SimSongError
from simsong.search.song_query import SongQuery
from simsong.serving.gate import may_play
from simsong.serving.problems import ProblemError, problem_of
from simsong.serving.routes.search import songs_for
from simsong.serving.snapshot import Snapshot
from simsong.version import __version__

router = APIRouter(include_in_schema=False)
NAMESPACE, PROTOCOL = "http://subsonic.org/restapi", "1.16.1"
MOST, BODY = 500, 100_000
MISSING, WRONG_TOKEN, NOT_FOUND, GENERIC = 10, 40, 70, 0


class SubsonicError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


@router.api_route("/rest/{name}", methods=["GET", "POST"])
async def call(request: Request, name: str) -> Response:
    parameters = dict(request.query_params)
    if request.method == "POST":
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY:
                raise ProblemError(413, "too-large", "a form may have 100 kB")
        fields = parse_qs(body.decode("utf-8", "replace"))
        parameters |= {key: values[0] for key, values in fields.items()}
    try:
        token = request.app.state.token
        if not request.state.may_enter and not (
            token and may_play({k: [v] for k, v in parameters.items()}, token)
        ):
            raise SubsonicError(WRONG_TOKEN, "Wrong username or password.")
        name = name.removesuffix(".view")
        if name == "stream":
            return _stream(request, parameters)
        return _response(parameters, await run_in_threadpool(_answer, request, name, parameters))
    except SubsonicError as error:
        return _response(parameters, {"error": {"code": error.code, "message": error.message}})


def _answer(request: Request, name: str, parameters: dict[str, str]) -> dict[str, Any]:
    if name == "ping":
        return {}
    if name == "getLicense":
        return {"license": {"valid": True}}
    if name == "getOpenSubsonicExtensions":
        names = ("sonicSimilarity", "formPost", "apiKeyAuthentication")
        return {"openSubsonicExtensions": [{"name": one, "versions": [1]} for one in names]}
    songs: Snapshot | None = request.app.state.current.snapshot
    if songs is None:
        raise SubsonicError(GENERIC, request.app.state.current.problem or "nothing is published yet")
    try:
        if name == "getSong":
            return {"song": _child(songs.song(_row(songs, parameters, "id")))}
        if name == "getSonicSimilarTracks":
            row = _row(songs, parameters, "id")
            query = SongQuery(like=(songs.id_of(row),), k=_count(parameters, 10))
            hits = songs_for(songs, query)["items"]
            return {
                "sonicMatch": [
                    {
                        "entry": _child(hit),
                        "similarity": round(min(max(hit["score"], 0.0), 1.0), 4),
                    }
                    for hit in hits
                ]
            }
        if name == "findSonicPath":
            a, b = _row(songs, parameters, "startSongId"), _row(songs, parameters, "endSongId")
            route = path(
                songs.library, songs.id_of(a), songs.id_of(b), min(max(_count(parameters, 25), 2), 100)
            )
            return {
                "sonicMatch": [
                    {
                        "entry": _child(songs.song(row)),
                        "similarity": 1.0 if step is None else round(max(1 - step, 0.0), 4),
                    }
                    for row, step in zip(route.rows, route.steps, strict=True)
                    if row is not None
                ]
            }
    except SimSongError as error:
        raise SubsonicError(GENERIC, problem_of(error).detail) from None
    raise SubsonicError(NOT_FOUND, "this server has no such call")


def _stream(request: Request, parameters: dict[str, str]) -> Response:
    songs: Snapshot | None = request.app.state.current.snapshot
    if songs is None:
        raise SubsonicError(GENERIC, "nothing is published yet")
    row = _row(songs, parameters, "id")
    return RedirectResponse(request.url_for("song_audio", track_id=songs.id_of(row)), 302)


def _row(songs: Snapshot, parameters: dict[str, str], name: str) -> int:
    if not parameters.get(name):
        raise SubsonicError(MISSING, f"Required parameter {name} is missing.")
    if (row := songs.row_of(parameters[name])) is None:
        raise SubsonicError(NOT_FOUND, "no published song has that id")
    return row


def _count(parameters: dict[str, str], default: int) -> int:
    text = parameters.get("count", "")
    return min(max(int(text), 1), MOST) if text.isdecimal() and len(text) < 9 else default


def _child(song: dict[str, Any]) -> dict[str, Any]:
    """A song as Subsonic describes one."""
    child = {
        "id": song["track_id"],
        "isDir": False,
        "isVideo": False,
        "type": "music",
        "mediaType": "song",
        "title": song["title"] or "",
        "artist": song["artist"],
        "album": song["album"],
        "year": song["year"],
        "genre": next(iter(song["genres"]), None),
        "duration": round(song["duration_s"]) if song["duration_s"] else None,
    }
    return {key: value for key, value in child.items() if value is not None}


def _response(parameters: dict[str, str], answer: dict[str, Any]) -> Response:
    document = {
        "status": "failed" if "error" in answer else "ok",
        "version": PROTOCOL,
        "type": "simsong",
        "serverVersion": __version__,
        "openSubsonic": True,
        **answer,
    }
    headers = {"Cache-Control": "no-store"}
    if parameters.get("f") == "json":
        return Response(
            orjson.dumps({"subsonic-response": document}), headers=headers, media_type="application/json"
        )
    root = _element("subsonic-response", document)
    root.set("xmlns", NAMESPACE)
    text = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return Response(text, headers=headers, media_type="application/xml")


def _element(name: str, value: dict[str, Any]) -> ElementTree.Element:
    """Values are attributes, dictionaries and lists of them elements."""
    node = ElementTree.Element(name)
    for key, own in value.items():
        if isinstance(own, dict):
            node.append(_element(key, own))
        elif isinstance(own, list):
            for one in own:
                node.append(_element(key, one) if isinstance(one, dict) else _text(key, one))
        else:
            node.set(key, str(own).lower() if isinstance(own, bool) else _plain(str(own)))
    return node


def _text(name: str, value: Any) -> ElementTree.Element:
    node = ElementTree.Element(name)
    node.text = _plain(str(value))
    return node


def _plain(text: str) -> str:
    """XML has no control characters, not even escaped."""
    return "".join(c if c.isprintable() else " " for c in text)
