"""Stage features: audio → what a pretrained network hears in it."""

from __future__ import annotations

from collections.abc import Iterator

from simsong.errors import ModelError, SongError
from simsong.model.frozen import load
from simsong.model.threads import one_thread_each
from simsong.parallel import once, ordered_map
from simsong.parts.compute import Done, Work
from simsong.parts.song_audio import SongAudio, compute_from_sound, hear, need_audio, songs_of
from simsong.parts.stages import RunContext, features_label
from simsong.pretrained.features import FrozenEncoder, song_features
from simsong.records import Outcome
from storage.store import Store
from tasks.base import stage_task


@stage_task("features")
def features(done: Done, run: RunContext) -> Done:
    """Have a pretrained network hear a shard's songs."""
    return compute_from_sound("features", done.shards, run, lambda store, shard: _work(store, shard, run))


def _work(store: Store, shard: int, run: RunContext) -> Work:
    def outcomes(todo: list[str]) -> Iterator[Outcome]:
        label, patches = features_label(run.config), run.config.pretrained.patches
        if label is None:
            raise ModelError("no pretrained network is here; `simsong pretrained fetch` gets one")
        network = _network(run.config.pretrained.network, label)
        need_audio(store, "features", shard, todo, run.config.network.attempts)

        def one(song: SongAudio) -> Outcome:
            try:
                sound = hear(run, "features", shard, song)
            except SongError as error:
                return Outcome(song.track_id, "failed", error.reason, error.detail)
            starts_s, vectors = song_features(network, sound, patches)
            rows = [{"patch": patch, "start_s": start_s, "embedding": vector}
                    for patch, (start_s, vector) in enumerate(zip(starts_s, vectors, strict=True))]
            return Outcome(song.track_id, "ok", rows={"features": rows})

        with one_thread_each():
            yield from ordered_map(one, songs_of(store, shard, todo), run.config.run.workers)

    return outcomes


@once(maxsize=2)
def _network(name: str, label: str) -> FrozenEncoder:
    """`label` names its weights: others are another network."""
    return load(name)
