"""Stage traits: audio → tempo, key, loudness and energy of each song."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from simsong.audio.traits import traits_of
from simsong.errors import SongError
from simsong.parallel import ordered_map
from simsong.parts.compute import Done, Work
from simsong.parts.song_audio import SongAudio, compute_from_sound, hear, need_audio, songs_of
from simsong.parts.stages import RunContext
from simsong.records import Outcome
from storage.store import Store
from tasks.base import stage_task


@stage_task("traits")
def traits(done: Done, run: RunContext) -> Done:
    """Measure a shard's songs."""
    return compute_from_sound("traits", done.shards, run, lambda store, shard: _work(store, shard, run))


def _work(store: Store, shard: int, run: RunContext) -> Work:
    def outcomes(todo: list[str]) -> Iterator[Outcome]:
        need_audio(store, "traits", shard, todo, run.config.network.attempts)

        def one(song: SongAudio) -> Outcome:
            try:
                song_traits = traits_of(hear(run, "traits", shard, song))
            except SongError as error:
                return Outcome(song.track_id, "failed", error.reason, error.detail)
            return Outcome(song.track_id, "ok", rows={"traits": [asdict(song_traits)]})

        return ordered_map(one, songs_of(store, shard, todo), run.config.run.workers)

    return outcomes
