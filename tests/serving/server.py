"""A real server on loopback, in a thread, and a client for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn

from simsong.config import Config
from simsong.config_loader import load
from simsong.serving.app import create_app
from storage.store import Store


@contextmanager
def served(
    store: Store, token: str | None = None, config: Config | None = None, **serve: object
) -> Iterator[httpx.Client]:
    """Args: serve: settings of `[serve]`."""
    config = config or load(
        None, {"store": store.backend.url, "serve": serve, "publish": {"model": "mfcc"}}, {}
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(store, config, token),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=300) as client:
        for _ in range(600):
            if server.started:
                break
            thread.join(0.05)
        try:
            yield client
        finally:
            server.should_exit = True
            thread.join(10)


def kind_of(response: httpx.Response) -> str:
    """Of a problem."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    answer = response.json()
    assert answer["status"] == response.status_code and answer["detail"]
    return answer["type"].removeprefix("/problems/")
