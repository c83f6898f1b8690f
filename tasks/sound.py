"""A song's audio, as the table `audio` points to it. Imports no Prefect: the command line reads it too."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from simsong.audio.decode import decode
from simsong.audio.samples import Samples
from simsong.errors import AudioGone, FileMissing, PartDamaged
from simsong.files.places import local_path
from storage.store import Store
from tasks.observed import local_url
from tasks.part import is_open

LONGEST_S = 86_400.0        # of what was fetched within the limit of its time


def sound_of(store: Store, file: str, duration_s: float | None) -> Samples:
    """Decoded audio, (n,) float32 at 16 kHz. `file` is a key of the store or a file:// URL. How long it may
    be was settled when it was fetched: `duration_s`, as the table `audio` has it.

    Raises: FileMissing where it was pruned or deleted; else as `simsong.audio.decode.decode`.
    """
    longest_s = LONGEST_S if duration_s is None else duration_s + 1.0
    if local_url(file):
        return decode(_path(file), longest_s)
    try:
        with store.local(file) as path:
            return decode(path, longest_s)
    except FileNotFoundError:
        detail = "no longer in the store; `simsong refresh --refetch` gets it again, then `simsong retry`"
        raise FileMissing(file, detail) from None


def need_audio(store: Store, stage: str, shard: int, todo: Collection[str], attempts: int) -> None:
    """Refuse to compute songs again whose audio is gone: what was computed of it would be lost. A song whose
    audio has been asked for again in vain is let go.

    Args: attempts: how often a passing failure is tried.
    Raises: AudioGone.
    """
    done = {row["track_id"] for row in _outcomes(store, stage, shard) if row["status"] == "ok"} & set(todo)
    if not done:
        return
    given_up = {row["track_id"] for row in _outcomes(store, "fetch_audio", shard)
                if row["reason"] and not is_open(row, attempts)}
    rows = store.read("audio", shard, columns=["track_id", "file"]).to_pylist()
    needed = [row["file"] for row in rows if row["track_id"] in done - given_up]
    gone = [file for file in needed if not _exists(store, file)]
    if gone:
        raise AudioGone(stage, len(gone), gone[0])


def _outcomes(store: Store, stage: str, shard: int) -> list[dict[str, Any]]:
    try:
        return store.read("outcomes", shard, partition=stage,
                          columns=["track_id", "status", "reason", "attempts"]).to_pylist()
    except PartDamaged:
        return []


def _exists(store: Store, file: str) -> bool:
    return _path(file).is_file() if local_url(file) else store.size(file) is not None


def _path(url: str) -> Path:
    return Path(local_path(url) or "")
