"""Errors as other processes can be sent them: whatever a task raises reaches a Dask scheduler as itself."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

from simsong.errors import TaskError
from simsong.fetching.redact import plain


def portable(error: Exception) -> Exception:
    """Where `tblib` is at work, as in every process of Dask's, an error is pickled with what it was raised
    from, which may hold a socket or a file.

    Returns: the error; without what it was raised from, of which notes tell, where only so it pickles; a
        TaskError with its text where it does not pickle at all.
    """
    if _pickles(error):
        return error
    for cause in _causes(error):
        error.add_note(plain(f"raised from {type(cause).__qualname__}: {cause}"))
    error.__cause__ = error.__context__ = None
    return error if _pickles(error) else TaskError(plain(f"{type(error).__qualname__}: {error}"))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """From the nearest to the first, as a traceback shows them."""
    seen = {id(error)}
    while True:
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None or id(cause) in seen:
            return
        seen.add(id(cause))
        yield cause
        error = cause


def _pickles(error: Exception) -> bool:
    """Whether it comes back as it was. There is no telling what a foreign error raises when it is tried."""
    try:
        back = pickle.loads(pickle.dumps(error))
        return type(back) is type(error) and str(back) == str(error)
    except Exception:
        return False
