"""What ends a run from outside: Ctrl-C, `kill`, systemd, `timeout`, a batch system, a closed terminal."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT = 128                          # + the signal's number: exit code, as a shell says it
_SHOW_CURSOR = "\x1b[?25h"          # progress bars hide it


def end_at_signals(tidy: Callable[[], None]) -> None:
    """From now on these signals end the process at once, with a line: parts are whole or not there, so there
    is no orderly end to wait for. A thread hears them, whatever the main one does, and whatever handler a
    library installs there (Prefect cancels its tasks, which may take minutes)."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for number in ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:     # nohup
            signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait() -> None:
        while number := os.read(reader, 1):
            if number[0] in ENDING:
                end("interrupted; nothing finished is lost: the same command again goes on from here",
                    EXIT + number[0], tidy)

    threading.Thread(target=wait, daemon=True, name="signals").start()


def end(line: str, code: int, tidy: Callable[[], None]) -> None:
    """End the process now, whatever its threads do."""
    with suppress(OSError, ValueError):         # the terminal may be gone
        cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""
        os.write(sys.stderr.fileno(), f"{cursor}\nsimsong: {line}\n".encode(errors="backslashreplace"))
    with suppress(Exception):
        tidy()
    os._exit(code)
