"""Prefect's embedded server is a child process that would outlive a killed run: a watchdog ends it then."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL

_WATCH = """
import os, signal, sys
pid = int(sys.stdin.readline() or 0)
sys.stdin.read()                # ends when the run does, however it does
if pid:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
"""


def die_together() -> Callable[[], None]:
    """Start the embedded server, unless another is configured, and see to it that it ends with this process.

    Returns: what ends it at once.
    """
    if PREFECT_API_URL.value():
        return lambda: None
    server = SubprocessASGIServer()
    server.start()
    process = server.server_process
    assert process is not None
    watchdog = subprocess.Popen([sys.executable, "-c", _WATCH], stdin=subprocess.PIPE, text=True,
                                start_new_session=True)
    assert watchdog.stdin is not None
    watchdog.stdin.write(f"{process.pid}\n")
    watchdog.stdin.flush()
    return process.terminate
