"""Where the store stands: what is published, funnel, models, evaluation; whether this server lives."""

from __future__ import annotations

import hmac
import threading
import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from simsong.care.facts import catalogue_of
from simsong.care.status import failures_of, last_runs, stages_of
from simsong.registry.models import registry
from simsong.registry.published import choice_sentence, methods_in_use
from simsong.serving import schemas
from simsong.serving.gate import COOKIE, session_of
from simsong.serving.problems import ProblemError, not_found, responses
from simsong.serving.routes.common import NOT_MODIFIED, answer
from simsong.serving.snapshot import Snapshot
from simsong.version import __version__
from storage.lease import writer_of
from storage.reports import EVALUATION
from storage.store import Store

router = APIRouter(tags=["store"])
KEPT_S = 2.0  # that facts are told again without a look: a page asks every few seconds


class _Kept:
    """What was told lately, for all who ask meanwhile; one looks at a time."""

    def __init__(self) -> None:
        self._lock, self._values = threading.Lock(), dict[str, tuple[float, Any]]()

    def __call__(self, store: Store, name: str, look: Any) -> Any:
        key = f"{store.backend.url} {name}"
        with self._lock:
            at, value = self._values.get(key, (-KEPT_S, None))
            if time.monotonic() - at >= KEPT_S:
                value = look()
                self._values[key] = (time.monotonic(), value)
            return value


_kept = _Kept()


@router.get("/api/health", response_model=schemas.Health)
def health() -> dict[str, str]:
    """Whether this server lives."""
    return {"status": "ok"}


@router.get("/api/ready", response_model=schemas.Health, responses=responses(503))
def ready(request: Request) -> dict[str, str]:
    """Whether there is something to ask it for."""
    if request.app.state.current.snapshot is None:
        raise ProblemError(503, "not-ready", request.app.state.current.problem or "nothing is published yet")
    return {"status": "ok"}


@router.get("/api/status", response_model=schemas.Status, responses=NOT_MODIFIED)
def status(request: Request) -> Response:
    """What is published, what may be done here, and whether a refresh is running."""
    state = request.app.state
    store, snapshot, serve = state.store, state.current.snapshot, state.config.serve
    published = None
    if snapshot is not None:
        method, sentence = _kept(store, f"choice {snapshot.version}", lambda: _choice(snapshot))
        published = {
            "model": snapshot.model,
            "songs": len(snapshot),
            "version": snapshot.version,
            "method": method,
            "sentence": sentence,
            "coverage": snapshot.library.coverage,
        }
    return answer(
        request,
        {
            "simsong": __version__,
            "store": store.backend.url.rstrip("/").rpartition("/")[2],
            "published": published,
            "problem": None if published else _placeless(store, state.current.problem),
            "audio": serve.audio,
            "upload": serve.upload,
            "read_only": serve.read_only,
            "progress": _kept(store, "progress", lambda: _progress(store)),
        },
    )


@router.get("/api/catalogue", response_model=schemas.Facts, responses=NOT_MODIFIED)
def catalogue(request: Request) -> Response:
    """What was ingested: rows, coverage, what was dropped and why (`simsong catalogue --json`)."""
    store = request.app.state.store
    return answer(request, _kept(store, "catalogue", lambda: catalogue_of(store)))


@router.get("/api/funnel", response_model=schemas.Facts, responses=NOT_MODIFIED)
def funnel(request: Request) -> Response:
    """Songs done, failed and pending, a stage; what failed for which reason, and what to do (`simsong status
    --json`)."""
    store, attempts = request.app.state.store, request.app.state.config.network.attempts
    return answer(
        request,
        _kept(
            store,
            "funnel",
            lambda: {
                "stages": stages_of(store),
                "failures": failures_of(store, attempts),
                "runs": [
                    {key: run.get(key) for key in ("flow", "at", "seconds", "error")}
                    for run in last_runs(store, 10)
                ],
            },
        ),
    )


@router.get("/api/models", response_model=list[schemas.Facts], responses=NOT_MODIFIED)
def models(request: Request) -> Response:
    """Every version of the models (`simsong models --json`)."""
    store = request.app.state.store
    return answer(request, _kept(store, "models", lambda: registry(store)))


@router.get("/api/evaluation", response_model=schemas.Facts, responses=NOT_MODIFIED)
def evaluation(request: Request) -> Response:
    """How good each method is, with intervals (`simsong evaluate --json`)."""
    store = request.app.state.store
    figures = _kept(store, "evaluation", lambda: store.get_json(EVALUATION))
    if figures is None:
        raise not_found("nothing is measured yet; `simsong run` does it")
    return answer(request, figures)


@router.post("/api/session", status_code=204, response_class=Response)
def enter(request: Request, entry: schemas.Token) -> Response:
    """A browser's door: the token becomes a cookie that scripts cannot read."""
    token = request.app.state.token
    if token is None:
        return Response(status_code=204)
    if not hmac.compare_digest(entry.token.encode(), token.encode()):
        raise ProblemError(401, "token", "that is not the token")
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE,
        session_of(token),
        httponly=True,
        samesite="strict",
        max_age=30 * 86_400,
        secure=request.url.scheme == "https",
        path=request.app.root_path or "/",
    )
    return response


def _choice(songs: Snapshot) -> tuple[str, str | None]:
    store, config, labels = songs.store, songs.config, songs.library.published.parts
    return "+".join(methods_in_use(store, config, labels)), choice_sentence(store, config)


def _progress(store: Store) -> dict[str, Any]:
    writer = writer_of(store.backend)
    songs = store.read("tracks", columns=["track_id"]).num_rows
    progress: dict[str, Any] = {
        "running": writer is not None,
        "writer": None,
        "since": None,
        "songs": songs,
        "stages": {},
    }
    if writer is not None:
        stages = {
            name: {key: stage[key] for key in ("ok", "failed", "pending")}
            for name, stage in stages_of(store).items()
        }
        progress |= {"writer": writer.holder, "since": writer.since, "stages": stages}
    return progress


def _placeless(store: Store, text: str | None) -> str | None:
    """Without the store's place, which is nobody's business who asks over the net."""
    return text.replace(f"{store.backend.url}: ", "") if text else None
