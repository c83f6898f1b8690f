"""Stage soundprints: segments → how each window sounds along its time, for finding the same recording."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simsong.audio.segments import decode_segment, own_samples
from simsong.audio.soundprint import soundprint
from simsong.parallel import ordered_map
from simsong.parts.compute import Done, Work, compute_parts
from simsong.parts.stages import RunContext
from simsong.records import Outcome
from storage.catalogue import Catalogue
from storage.store import Store
from tasks.base import stage_task

# What the stage was when it was part of `export`.
_BEFORE = (("segment_embeddings", "print-1"), ("outcomes", "embed-print-1"))


@stage_task("soundprints")
def soundprints(done: Done, run: RunContext) -> Done:
    """Print a shard's songs."""
    finished = compute_parts("soundprints", done.shards, run, lambda store, shard: _work(store, shard, run))
    for table, partition in _BEFORE:
        for shard in done.shards:
            run.store.delete_part(table, shard, partition)
    return finished


def _work(store: Store, shard: int, run: RunContext) -> Work:
    def printed(todo: list[str]) -> Iterator[Outcome]:
        wanted = set(todo)

        def one(song: tuple[str, list[dict[str, Any]]]) -> Outcome:
            track_id, windows = song
            rows = [{"segment": window["segment"], "start_s": window["start_s"],
                     "embedding": soundprint(decode_segment(window["audio"]),
                                             own_samples(window["start_s"], window["end_s"]))}
                    for window in windows]
            return Outcome(track_id, "ok", rows={"soundprints": rows})

        songs = Catalogue(store).by_song("segments", shard,
                                         columns=["track_id", "segment", "start_s", "end_s", "audio"])
        return ordered_map(one, ((i, rows.to_pylist()) for i, rows in songs if i in wanted),
                           run.config.run.workers)

    return printed
