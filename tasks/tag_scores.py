"""Stage tag_scores: features of a pretrained network → how well each of its tags fits a song."""

from __future__ import annotations

from collections.abc import Iterator

from simsong.datasets.training import song_features_of
from simsong.parallel import once
from simsong.parts.compute import Done, Work, compute_parts
from simsong.parts.stages import RunContext, features_label, outcome_partition
from simsong.pretrained.tags import TagLayer, load_tag_layer
from simsong.records import Outcome
from storage.store import Store
from tasks.base import stage_task


@stage_task("tag_scores")
def tag_scores(done: Done, run: RunContext) -> Done:
    """Tag a shard's songs, as the network that has heard them does."""
    return compute_parts("tag_scores", done.shards, run, lambda store, shard: _work(store, shard, run))


def _work(store: Store, shard: int, run: RunContext) -> Work:
    def tagged(todo: list[str]) -> Iterator[Outcome]:
        label = features_label(run.config)
        assert label is not None
        layer, left = _layer(label), set(todo)
        for track_id, _, features in song_features_of(store, label, shard):
            if track_id in left:
                left.remove(track_id)
                yield Outcome(track_id, "ok", rows={"tag_scores": [{"embedding": layer.scores(features)}]})
        if left:
            rows = store.read("outcomes", shard, partition=outcome_partition("features", label),
                              columns=["track_id", "reason", "detail"]).to_pylist()
            unheard = {row["track_id"]: row for row in rows if row["reason"]}
            for track_id in sorted(left):
                row = unheard.get(track_id, {})
                yield Outcome(track_id, "failed", row.get("reason", "no_features"), row.get("detail"))

    return tagged


@once(maxsize=2)
def _layer(label: str) -> TagLayer:
    """`label` names the weights: others are another layer."""
    return load_tag_layer(label.rpartition("-")[0])
