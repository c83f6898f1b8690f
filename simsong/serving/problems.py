"""Errors as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from simsong.errors import FileMissing, ModelError, QueryError, SimSongError, SongError, StoreError
from simsong.search.resolve import SongUnresolved

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong."""

    type: str = Field("about:blank", examples=["/problems/not-found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no song has the id TR000"])
    nearest: list[str] | None = Field(None, description="Songs whose names are near to the one asked for.")


class ProblemError(Exception):
    """Ends a request. `kind` names the problem, for programs; more goes into the body beside it."""

    def __init__(
        self, status: int, kind: str, detail: str, headers: dict[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(status, kind, detail)
        self.status, self.kind, self.detail, self.headers, self.more = status, kind, detail, headers, more


def not_found(detail: str) -> ProblemError:
    return ProblemError(404, "not-found", detail)


def nothing_published(detail: str) -> ProblemError:
    return ProblemError(409, "nothing-published", detail)


def problem(
    status: int, kind: str, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    body = {
        "type": f"/problems/{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **more,
    }
    return Response(orjson.dumps(body), status, {"Cache-Control": "no-store", **(headers or {})}, MEDIA_TYPE)


def problem_of(error: SimSongError) -> ProblemError:
    """What a user of the API is told of an error of ours: what they asked is wrong, or not to be had."""
    if isinstance(error, SongUnresolved):
        status, kind = (409, "several-songs") if error.several else (404, "no-such-song")
        return ProblemError(status, kind, str(error), nearest=list(error.nearest))
    if isinstance(error, FileMissing):
        return not_found("there is no such file")
    if isinstance(error, SongError):
        return ProblemError(422, error.reason.replace("_", "-"), error.detail)
    if isinstance(error, QueryError):
        return ProblemError(400, "query", str(error))
    if isinstance(error, ModelError):
        return ProblemError(409, "no-model", str(error))
    if isinstance(error, StoreError):
        return ProblemError(409, "store", str(error))
    return ProblemError(409, "not-possible", str(error))


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Their description in OpenAPI: what any request may get, and these."""
    always = (400, 401, 403, 404, 409, 422, 429)
    return {
        status: {
            "model": Problem,
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*always, *statuses})
    }


def install(app: FastAPI) -> None:
    @app.exception_handler(ProblemError)
    async def _(_: Request, error: ProblemError) -> Response:
        return problem(error.status, error.kind, error.detail, error.headers, **error.more)

    @app.exception_handler(SimSongError)
    async def _(_: Request, error: SimSongError) -> Response:
        known_problem = problem_of(error)
        return problem(known_problem.status, known_problem.kind, known_problem.detail, **known_problem.more)

    @app.exception_handler(Exception)
    async def _(_: Request, error: Exception) -> Response:
        """A fault of ours, which the log tells of."""
        return problem(500, "internal", "something went wrong here; the server's log says what")

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return problem(422, "invalid", f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def _(_: Request, error: HTTPException) -> Response:
        kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        return problem(error.status_code, kind, str(error.detail), dict(error.headers or {}))
