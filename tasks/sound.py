"""A song's audio, as the table `audio` points to it. Imports no Prefect: the command line reads it too."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from simsong.audio.decode import decode
from simsong.audio.samples import Samples
from simsong.errors import FileMissing
from storage.store import Store


def sound_of(store: Store, file: str, max_duration_s: float) -> Samples:
    """Decoded audio, (n,) float32 at 16 kHz. `file` is a key of the store or a file:// URL.

    Raises: FileMissing where it was pruned or deleted; else as `simsong.audio.decode.decode`.
    """
    if file.startswith("file:"):
        return decode(Path(url2pathname(urlsplit(file).path)), max_duration_s)
    try:
        with store.local(file) as path:
            return decode(path, max_duration_s)
    except FileNotFoundError:
        detail = "no longer in the store; `simsong retry --stage fetch_audio` gets it again"
        raise FileMissing(file, detail) from None
