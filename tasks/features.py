"""Stage features: segments → what a pretrained network hears in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from simsong.audio.segments import decode_segment, own_samples
from simsong.errors import ModelError
from simsong.parallel import once, ordered_map
from simsong.pretrained.features import song_features
from simsong.pretrained.musicnn import MusicNN, load
from simsong.records import Outcome
from storage.catalogue import Catalogue
from storage.store import Store
from tasks.base import shard_task
from tasks.part import Done, Work, compute_parts
from tasks.stages import Run, features_label

COLUMNS = ["track_id", "segment", "start_s", "end_s", "audio"]


@shard_task("features")
def features(done: Done, run: Run) -> Done:
    """Have a pretrained network hear a shard's songs."""
    return compute_parts("features", done.shards, run, lambda store, shard: _work(store, shard, run))


def _work(store: Store, shard: int, run: Run) -> Work:
    def heard(todo: list[str]) -> Iterator[Outcome]:
        label, patches = features_label(run.config), run.config.pretrained.patches
        if label is None:
            raise ModelError("no pretrained network is here; `simsong pretrained fetch` gets one")
        network, wanted = _network(label.rpartition("-")[0], label), set(todo)
        songs = (song for song in Catalogue(store).by_song("segments", shard, columns=COLUMNS)
                 if song[0] in wanted)
        for track_id, numbers, windows in ordered_map(_decoded, songs, run.config.run.workers):
            rows = [{"segment": number, "patch": patch, "embedding": vector}
                    for number, found in zip(numbers, song_features(network, windows, patches), strict=True)
                    for patch, vector in enumerate(found)]
            yield Outcome(track_id, "ok", rows={"features": rows})

    return heard


def _decoded(song: tuple[str, pa.Table]) -> tuple[str, list[int], list[np.ndarray]]:
    """Track, numbers of its windows, and their samples without repetition."""
    track_id, rows = song
    lengths = (own_samples(row["start_s"], row["end_s"])
               for row in rows.select(["start_s", "end_s"]).to_pylist())
    windows = [decode_segment(audio.as_py())[:length]
               for audio, length in zip(rows["audio"], lengths, strict=True)]
    return track_id, rows["segment"].to_pylist(), windows


@once(maxsize=2)
def _network(name: str, label: str) -> MusicNN:
    """`label` names its weights: others are another network."""
    return load(name)
