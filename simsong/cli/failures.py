"""What is no bug, though it is raised as one of the libraries' own errors: as one line for the user."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from simsong.errors import MachineError, SimSongError
from simsong.fetching.redact import plain

FULL_BYTES = 2**20          # a disk with less room is taken for the full one
# By name: importing them to compare would cost each command seconds.
_LIBRARIES = ("sqlite3.Error", "sqlalchemy.exc.SQLAlchemyError", "httpx.HTTPError", "httpx.InvalidURL",
              "obstore.exceptions.BaseError", "obstore.BaseError", "duckdb.Error", "torch.OutOfMemoryError",
              "pyarrow.lib.ArrowMemoryError", "builtins.MemoryError", "builtins.UnicodeError",
              "yt_dlp.utils._utils.YoutubeDLError", "requests.exceptions.RequestException")


def as_simsong_error(error: BaseException, place: str | None = None) -> SimSongError | None:
    """The error as one line where the machine, a site or a file is its cause; None for a bug.

    Args: place: what was worked on (a store), for errors that do not say where they happened.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SimSongError):
            return cause
        if isinstance(cause, OSError):
            return MachineError(_of_system(cause, place))
        names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(cause).__mro__}
        if names & set(_LIBRARIES):
            text = " ".join(str(cause).partition("\n\nDebug source")[0].split())[:400]     # obstore's
            return MachineError(plain(f"{type(cause).__name__}: {text}" if text else type(cause).__name__))
        cause = cause.__cause__
    return None


def _of_system(error: OSError, place: str | None) -> str:
    what = error.strerror or " ".join(str(error).split())
    if isinstance(error.filename, str | bytes | os.PathLike):
        return plain(f"{os.fsdecode(error.filename)}: {what}")
    if error.errno == errno.ENOENT and _no_working_directory():
        return "the working directory is no longer there: cd to another"
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in what:
        return f"{', '.join(_full(place)) or place or 'the disk'}: No space left on device; free some: the " \
            "same command again goes on from here"
    return plain(f"{place}: {what}" if place else what)


def _no_working_directory() -> bool:
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def _full(place: str | None) -> list[str]:
    """Which of the places that are written to have no room."""
    places: list[str] = []
    for name in filter(None, (place, tempfile.gettempdir(), str(Path.home() / ".prefect"))):
        try:
            if shutil.disk_usage(name).free < FULL_BYTES:
                places.append(name)
        except OSError:
            continue
    return places
