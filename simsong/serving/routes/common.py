"""What routes share: the state a request sees, and how answers go out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

import orjson
from fastapi import Depends, Path, Query, Request
from starlette.responses import Response

from simsong.config import Config
from simsong.serving.problems import ProblemError, not_found, nothing_published
from simsong.serving.snapshot import Snapshot

TEXT, MANY = 500, 50  # characters of a text that is asked for; how many of them
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "It is what the ETag named."}}
TrackId = Annotated[str, Path(min_length=1, max_length=TEXT, examples=["FL345EE645DE538B5F"])]
Limit = Annotated[int, Query(ge=1, le=200, description="Songs of a page.")]
Offset = Annotated[int, Query(ge=0, le=10**8, description="Where the page begins.")]
K = Annotated[int, Query(ge=1, le=500, description="How many songs.")]


def settings(request: Request) -> Config:
    return request.app.state.config


def songs(request: Request) -> Snapshot:
    """What is published as the request begins."""
    current = request.app.state.current
    if (snapshot := current.snapshot) is None:
        raise nothing_published(current.problem or "nothing is published yet")
    return snapshot


Songs = Annotated[Snapshot, Depends(songs)]
Settings = Annotated[Config, Depends(settings)]


def row_of(snapshot: Snapshot, track_id: str) -> int:
    row = snapshot.row_of(track_id)
    if row is None:
        raise not_found(f"no published song has the id {''.join(c for c in track_id if c.isprintable())!r}")
    return row


def writable(request: Request) -> None:
    if request.app.state.config.serve.read_only:
        raise ProblemError(403, "read-only", "this server is read-only (serve.read_only)")


def answer(request: Request, body: Any, headers: dict[str, str] | None = None) -> Response:
    """JSON with an ETag; 304 where that is what the client has."""
    return raw(request, orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS), "application/json", headers)


def raw(request: Request, data: bytes, media_type: str, headers: dict[str, str] | None = None) -> Response:
    tag = f'W/"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'  # it may go out compressed
    response_headers = {"ETag": tag, "Cache-Control": "private, no-cache", **(headers or {})}
    condition = request.headers.get("if-none-match", "")
    if condition == "*" or tag.removeprefix("W/") in {one.strip().removeprefix("W/")
                                                      for one in condition.split(",")}:
        return Response(status_code=304, headers=response_headers)
    return Response(data, headers=response_headers, media_type=media_type)


def page(
    request: Request, items: Sequence[Any], total: int, offset: int, limit: int, **more: Any
) -> Response:
    """With links to the pages beside it."""
    links = []
    for rel, at in (("prev", max(offset - limit, 0)), ("next", offset + limit)):
        if (rel == "prev" and offset) or (rel == "next" and at < total):
            parameters = [
                (name, value)
                for name, value in request.query_params.multi_items()
                if name not in ("offset", "limit")
            ]
            query = urlencode([*parameters, ("offset", at), ("limit", limit)])
            links.append(f'<{request.url.path}?{query}>; rel="{rel}"')
    return answer(
        request,
        {"total": total, "offset": offset, "limit": limit, **more, "items": list(items)},
        {"Link": ", ".join(links)} if links else None,
    )
