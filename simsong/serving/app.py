"""The application: routes, and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prometheus_client import Gauge, generate_latest
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, Response

from simsong.config import Config
from simsong.serving import problems
from simsong.serving.gate import Gate, Metrics
from simsong.serving.routes import audio, facts, lists, play, saved, search, subsonic
from simsong.serving.saved import Saved
from simsong.serving.snapshot import CurrentSongs
from simsong.version import __version__
from storage.store import Store

PAGE = Path(__file__).parent / "page"
_ABOUT = """Songs that sound alike, and why. Answers are of what is published now; `ETag` tells whether they
are what you have. Lists come in pages (`limit`, `offset`, and `Link`). What cannot be answered is
`application/problem+json`.
"""


def create_app(store: Store, config: Config, token: str | None = None) -> FastAPI:
    """Args: token: what requests must bring; None lets everybody in."""
    current, metrics = CurrentSongs(store, config), Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        current.start()
        yield
        current.close()

    app = FastAPI(
        title="SimSong",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        root_path=config.serve.root_path,
        responses=problems.responses(),
    )
    app.state.current, app.state.store, app.state.config, app.state.token = current, store, config, token
    app.state.saved = Saved(store)
    problems.install(app)
    for module in (search, lists, audio, facts, saved, play, subsonic):
        app.include_router(module.router)
    _measure(app, current, metrics)
    _page(app)
    app.add_middleware(GZipMiddleware, minimum_size=2000, compresslevel=4)
    app.add_middleware(Gate, settings=config.serve, token=token, metrics=metrics)
    if config.serve.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.serve.cors),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["ETag", "Link"],
        )
    return app


def _measure(app: FastAPI, current: CurrentSongs, metrics: Metrics) -> None:
    songs = Gauge("simsong_songs", "Songs that are published", registry=metrics.registry)
    songs.set_function(lambda: len(current.snapshot) if current.snapshot else 0)
    switches = Gauge(
        "simsong_switches",
        "How often another export took the place of the one before",
        registry=metrics.registry,
    )
    switches.set_function(lambda: current.switches)

    @app.get("/metrics", include_in_schema=False)
    def _() -> Response:
        return Response(
            generate_latest(metrics.registry), media_type="text/plain; version=0.0.4; charset=utf-8"
        )


def _page(app: FastAPI) -> None:
    """Files by a list made at the start: no path is built of what a request says."""
    files = {str(path.relative_to(PAGE)): path for path in PAGE.rglob("*") if path.is_file()}

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    @app.api_route("/page/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
    def _(name: str = "index.html") -> Response:
        if (path := files.get(name)) is None:
            raise problems.not_found("there is no such page")
        headers = {"Cache-Control": "no-cache", **(_FRAME if name == "map-frame.html" else {})}
        return FileResponse(path, headers=headers, media_type=_TYPES.get(path.suffix))


# The map's library makes code as it runs: in a frame that loads nothing else and is told numbers alone.
_FRAME = {
    "X-Frame-Options": "SAMEORIGIN",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src data: blob:; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    ),
}
_TYPES: dict[str, Any] = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webmanifest": "application/manifest+json",
}
