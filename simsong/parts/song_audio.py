"""A song's audio, as the table `audio` points to it.

The stages of a run that hear a song share one decoding of it, as far as the disk allows: who decodes first
keeps the sound for those that come after. A stage that runs alone decodes by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from simsong.audio.decode import decode
from simsong.audio.samples import Samples
from simsong.audio.shared import SharedSounds
from simsong.errors import AudioGone, FileMissing, PartDamaged
from simsong.files.places import local_path
from simsong.parts.compute import Done, Work, compute_parts, is_open
from simsong.parts.policy import local_url
from simsong.parts.stages import RunContext, features_label
from storage.store import Store

HEARD_BY = ("trim", "segments", "features", "traits")     # in the order in which they run
LONGEST_S = 86_400.0        # of what was fetched within the limit of its time


class SongAudio(NamedTuple):
    """What the table `audio` has of a song."""

    track_id: str
    file: str                   # key of the store or file:// URL
    duration_s: float | None
    sha256: str


def songs_of(store: Store, shard: int, todo: Collection[str]) -> Iterator[SongAudio]:
    """The audio of songs, in the order of `todo`."""
    rows = store.read("audio", shard, columns=list(SongAudio._fields)).to_pylist()
    songs = {row["track_id"]: SongAudio(**row) for row in rows}
    return (songs[track_id] for track_id in todo)


def by_id(store: Store, table: str, shard: int, columns: list[str]) -> dict[str, dict[str, Any]]:
    return {row["track_id"]: row for row in store.read(table, shard, columns=columns).to_pylist()}


def compute_from_sound(name: str, shards: Iterable[int], run: RunContext,
                       work: Callable[[Store, int], Work]) -> Done:
    """`compute_parts` of a stage that hears songs; afterwards it needs no sound of these shards any more."""
    shards = list(shards)
    try:
        return compute_parts(name, shards, run, work)
    finally:
        for shard in shards:
            _sounds.done(name, shard)


def hear(run: RunContext, stage: str, shard: int, song: SongAudio) -> Samples:
    """A song's sound, as `sound_of` gives it. Raises: as `sound_of`."""
    samples = _sounds.take(_key(run, song.file, song.sha256), stage)
    if samples is None:
        samples = sound_of(run.store, song.file, song.duration_s)
        if stage == "trim":     # where it computes a song anew, segments mostly do too
            keep_sound(run, shard, song.file, song.sha256, samples, readers=("segments",))
    return samples


def keep_sound(run: RunContext, shard: int, file: str, sha256: str, samples: Samples,
               readers: Collection[str] = HEARD_BY) -> None:
    """Keep a song's sound for the stages of this run that will hear it."""
    if features_label(run.config) is None:
        readers = set(readers) - {"features"}
    _sounds.keep(_key(run, file, sha256), samples, readers, shard, run.store.workspace("sounds"),
                 least_free_bytes=2 * run.config.network.min_free_mb << 20)


def forget_sounds() -> None:
    """At the end of a run."""
    _sounds.clear()


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
    lost_files = [file for file in needed if not _exists(store, file)]
    if lost_files:
        raise AudioGone(stage, len(lost_files), lost_files[0])


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


def _key(run: RunContext, file: str, sha256: str) -> tuple[str, int, str, str]:
    """No run hears what another one kept."""
    return run.config.store, run.generation, file, sha256


# Of this process's run; on a machine or in a process of its own, a stage finds none here and decodes.
_sounds = SharedSounds()
