"""Stage segments: audio between its trims → 30 s windows."""

from __future__ import annotations

from collections.abc import Iterator

from simsong.audio.segments import cut
from simsong.errors import SongError
from simsong.parallel import ordered_map
from simsong.parts.compute import Done, Work
from simsong.parts.song_audio import SongAudio, by_id, compute_from_sound, hear, need_audio, songs_of
from simsong.parts.stages import RunContext
from simsong.records import Outcome
from storage.store import Store
from tasks.base import stage_task


@stage_task("segments")
def cut_segments(done: Done, run: RunContext) -> Done:
    """Cut a shard's songs."""
    return compute_from_sound("segments", done.shards, run, lambda store, shard: _work(store, shard, run))


def _work(store: Store, shard: int, run: RunContext) -> Work:
    def segmented(todo: list[str]) -> Iterator[Outcome]:
        trims = by_id(store, "trims", shard, ["track_id", "start_s", "end_s"])

        need_audio(store, "segments", shard, todo, run.config.network.attempts)

        def one(song: SongAudio) -> Outcome:
            track_id = song.track_id
            try:
                body = trims[track_id]
                windows = cut(hear(run, "segments", shard, song), body["start_s"], body["end_s"],
                              run.config.segments)
            except SongError as error:
                return Outcome(track_id, "failed", error.reason, error.detail)
            rows = [{"segment": s.segment, "start_s": s.start_s, "end_s": s.end_s, "audio": s.audio}
                    for s in windows]
            return Outcome(track_id, "ok", rows={"segments": rows})

        return ordered_map(one, songs_of(store, shard, todo), run.config.run.workers)

    return segmented
