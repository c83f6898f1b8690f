"""Prefect's server for one run, in a process of its own that ends with the run, however that ends.

Usage: python -m flows.prefect_server PIPE PORT. It stops when nobody holds the other end of PIPE any more,
and at no signal: what ends a run is often sent to its whole process group or cgroup, and a run whose server
ends first cannot end well.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

STOP_S = 5.0            # to write down what it was told


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def main(pipe: int, port: int) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    server = _Server(uvicorn.Config("prefect.server.api.server:create_app", factory=True, host="127.0.0.1",
                                    port=port, log_level="error", lifespan="on"))

    def end_with_run() -> None:
        while os.read(pipe, 1):
            pass
        server.should_exit = True
        threading.Event().wait(STOP_S)
        os._exit(0)

    threading.Thread(target=end_with_run, daemon=True).start()
    server.run()
    sys.exit(0 if server.started else 3)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
