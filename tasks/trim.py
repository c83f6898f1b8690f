"""Stage trim: audio → where each song's body begins and ends."""

from __future__ import annotations

from collections.abc import Iterator

from simsong.audio.trim import trim as trim_samples
from simsong.errors import SongError
from simsong.parallel import ordered_map
from simsong.parts.compute import Done, Work
from simsong.parts.song_audio import SongAudio, by_id, compute_from_sound, hear, need_audio, songs_of
from simsong.parts.stages import RunContext
from simsong.records import Outcome
from storage.store import Store
from tasks.base import stage_task


@stage_task("trim")
def trim(done: Done, run: RunContext) -> Done:
    """Find intros and outros in a shard's songs."""
    return compute_from_sound("trim", done.shards, run, lambda store, shard: _work(store, shard, run))


def _work(store: Store, shard: int, run: RunContext) -> Work:
    def trimmed(todo: list[str]) -> Iterator[Outcome]:
        marks = ["duration_s", "fade_in_end_s", "fade_out_start_s"]
        tracks = by_id(store, "tracks", shard, ["track_id", *marks])

        need_audio(store, "trim", shard, todo, run.config.network.attempts)

        def one(song: SongAudio) -> Outcome:
            track_id = song.track_id
            try:
                body = trim_samples(hear(run, "trim", shard, song), run.config.trim,
                                    keep_s=run.config.segments.length_s,
                                    fade_in_end_s=tracks[track_id]["fade_in_end_s"],
                                    fade_out_start_s=tracks[track_id]["fade_out_start_s"],
                                    catalogue_s=tracks[track_id]["duration_s"])
            except SongError as error:
                return Outcome(track_id, "failed", error.reason, error.detail)
            row = {"start_s": body.start_s, "end_s": body.end_s, "mode": body.mode}
            return Outcome(track_id, "ok", rows={"trims": [row]})

        return ordered_map(one, songs_of(store, shard, todo), run.config.run.workers)

    return trimmed
