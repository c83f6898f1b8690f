"""The published embedding: which it is, one model's vectors or several models' joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.config import Config
from simsong.errors import ModelError
from simsong.parts.stages import MFCC, TIMBRE, features_label, has_heads
from simsong.registry.models import (
    ADAPTED,
    CONTROL,
    FINAL,
    FINAL_HEADS,
    NAMES,
    final_head,
    fitted_names,
    is_made,
    promote,
    promoted,
)
from storage.catalogue import Catalogue
from storage.exports import CURRENT, EXPORTS, labels_in_use
from storage.identity import digest
from storage.reports import CHOICE, GATE
from storage.store import Store
from storage.vectors import matrix, positions

# What learns nothing: MFCC statistics; a pretrained network by itself, musicnn or one of the hub.
MFCC_METHOD, MUSICNN, PRETRAINED = "mfcc", "musicnn", "pretrained"


def alone_method(label: str) -> str:
    """The method that a pretrained network by itself is."""
    return PRETRAINED if label.startswith("hub-") else MUSICNN


def default_method(store: Store, config: Config) -> str | None:
    """What is published where nothing was measured that is better: pretrained features adapted, else one
    trained that is no control, else what learns nothing; None where no song is embedded."""
    trained = (name for name in ("wns", *config.training.losses) if name != CONTROL)
    return next((name for name in (ADAPTED, *trained, PRETRAINED, MUSICNN, MFCC_METHOD)
                 if label_of_method(store, config, name)), None)


def label_of_method(store: Store, config: Config, method: str) -> str | None:
    """The label of the embedding that a method is published as; None where there is none. ADAPTED is measured
    by the model fitted without the held-out artists, and published as the one that has heard all songs; so
    is a head, once that is trained."""
    if method in (MFCC_METHOD, TIMBRE, MUSICNN, PRETRAINED):
        network = features_label(config) if method in (MUSICNN, PRETRAINED) else None
        label = {MFCC_METHOD: MFCC, TIMBRE: TIMBRE}.get(method, network)
        there = label is not None and (network is None or alone_method(network) == method)
        return label if there and store.shards("track_embeddings", label) else None
    if final := final_head(store, config, method):
        return final
    names = fitted_names(config)[::-1] if method == ADAPTED else (method,)
    return next((label for name in names if (label := promoted(store, name))), None)


def measured_as(config: Config, methods: Sequence[str]) -> str:
    """The name by which what is published is measured, several joined by `+`. Where a fold is held out, that
    is the model fitted to all other songs."""
    final = config.training.fold and FINAL in fitted_names(config)
    return "+".join(FINAL if name == ADAPTED and final else name for name in methods)


def published(store: Store, config: Config) -> tuple[str, ...]:
    """The labels of the embeddings that are joined to be exported and asked: those of `to_publish`, or, where
    the gate has refused these, those that are published."""
    labels = to_publish(store, config)
    gate = store.get_json(GATE) if config.publish.gate else None
    if gate and gate["refused"] and gate["new"] == list(labels) and \
            all(store.shards("track_embeddings", label) for label in gate["in_use"]):
        return tuple(gate["in_use"])
    return labels


def measured_by(store: Store, labels: Sequence[str]) -> list[str]:
    """The labels that figures of those are of: what has heard all songs is measured by what has not."""
    by = {FINAL: ADAPTED, **FINAL_HEADS}
    names = [by.get(label.partition("-")[0]) for label in labels]
    return [(promoted(store, name) if name else None) or label
            for label, name in zip(labels, names, strict=True)]


def roll_back(store: Store, config: Config) -> dict[str, Any]:
    """Publish again what was published before, in one step, and keep to it until something else is to be
    published: its models are in use as chosen by hand. Again, it goes back further.

    Returns: what `current.json` says of it. Raises: ModelError where there is nothing to go back to.
    """
    current = store.get_json(CURRENT) or {}
    before = list(current.get("before", []))
    while before and store.size(f"{EXPORTS}/{before[-1]['model']}/tracks.parquet") is None:
        before.pop()                # it was pruned
    if not before:
        raise ModelError("nothing was published before this, or it was pruned; `simsong rollback NAME` goes "
                         "back to a version of one of the models (`simsong models`)")
    former = before.pop()
    parts = former.get("parts", [former["model"]])
    for label in {*parts, *former.get("measured_by", [])}:
        name, _, version = label.partition("-")
        if name in NAMES and is_made(store, name, version):
            promote(store, name, version)
    new = list(to_publish(store, config))
    if new != parts:
        store.put_json(GATE, {"refused": True, "new": new, "in_use": parts, "why": "it was rolled back"})
    store.put_json(CURRENT, {**former, "before": before})
    return former


def to_publish(store: Store, config: Config) -> tuple[str, ...]:
    """The labels of `publish.model`; of what the stage `choose` found best; of `default_method`; or else (no
    audio) of MSD's timbre. None where there is nothing."""
    if methods := methods_to_publish(store, config):
        return tuple(label for name in methods if (label := label_of_method(store, config, name)))
    return (TIMBRE,) if store.shards("track_embeddings", TIMBRE) else ()


def methods_to_publish(store: Store, config: Config) -> list[str]:
    """The methods that `to_publish` joins; none where it is MSD's timbre, for want of any."""
    setting = config.publish.model
    choice = (store.get_json(CHOICE) or {}).get("methods") if setting == "auto" else None
    default = default_method(store, config)
    for methods in ([] if setting == "auto" else [setting], choice, [default] if default else []):
        if methods and all(label_of_method(store, config, name) for name in methods):
            return list(methods)
    return []


def final_heads(store: Store, config: Config) -> list[str]:
    """The names of the heads to be trained on all songs, since what is published takes the measured ones."""
    if config.training.final != "all" or not has_heads(config):
        return []
    methods = methods_to_publish(store, config)
    return [final for final, measured_name in FINAL_HEADS.items() if measured_name in methods]


def label_of(labels: Sequence[str]) -> str:
    """What several are published as."""
    return labels[0] if len(labels) == 1 else f"joined-{digest(list(labels))[:12]}"


@dataclass(frozen=True)
class Scale:
    """Standardises each dimension: of MFCC statistics, which differ in scale by orders of magnitude."""

    mean: np.ndarray                # (dim,)
    deviation: np.ndarray           # (dim,), 1 where it is none

    @staticmethod
    def of(store: Store, label: str) -> Scale:
        """Over the catalogue's songs, a shard at a time."""
        total, squares, songs = 0.0, 0.0, 0
        catalogue = Catalogue(store)
        for shard in catalogue.parts("track_embeddings", label):
            rows = catalogue.read("track_embeddings", shard, partition=label, columns=["embedding"])
            if rows.num_rows:
                vectors = matrix(rows).astype(np.float64)
                total, squares = total + vectors.sum(0), squares + np.square(vectors).sum(0)
                songs += len(vectors)
        mean = np.asarray(total) / max(songs, 1)
        variance = np.asarray(squares) / max(songs, 1) - np.square(mean)
        return Scale(mean, np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 0)), 1.0))

    @staticmethod
    def read(values: Mapping[str, Any]) -> Scale:
        return Scale(np.array(values["mean"]), np.array(values["deviation"]))

    def written(self) -> dict[str, list[float]]:
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        return (vectors - self.mean) / self.deviation


def scales_of(store: Store, labels: Sequence[str]) -> dict[str, Scale]:
    """Of those of the labels whose vectors are standardised."""
    return {label: Scale.of(store, label) for label in labels if label == MFCC}


def joined(vectors: Mapping[str, np.ndarray], scales: Mapping[str, Scale]) -> np.ndarray:
    """(n, d) of each → (n, sum of d) float32, L2-normalised: a cosine is the mean of each one's."""
    units = [_unit(scales[label](own) if label in scales else own) for label, own in vectors.items()]
    return (np.concatenate(units, axis=1) / np.sqrt(len(units))).astype(np.float32)


def joined_rows(store: Store, table: str, shard: int, labels: Sequence[str],
                scales: Mapping[str, Scale]) -> pa.Table | None:
    """A shard's rows of a table of embeddings, as `join_rows` joins them."""
    catalogue = Catalogue(store)
    return join_rows([catalogue.read(table, shard, partition=label) for label in labels], labels, scales)


def join_rows(parts: Sequence[pa.Table], labels: Sequence[str],
              scales: Mapping[str, Scale]) -> pa.Table | None:
    """Rows of one table of embeddings by each of the labels → those of what all of these have; None where
    that is nothing. One alone that is not standardised is given as it is."""
    first = parts[0]
    if not all(part.num_rows for part in parts):
        return None
    if len(parts) == 1 and not scales:
        return first
    keys = [_keys(part) for part in parts]
    at = np.stack([positions(keys[0], own) for own in keys])
    there = np.flatnonzero((at >= 0).all(axis=0))
    vectors = joined({label: matrix(part)[own[there]]
                      for label, part, own in zip(labels, parts, at, strict=True)}, scales)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return first.take(pa.array(there)).drop_columns(["embedding"]).append_column("embedding", column) \
        if len(there) else None


def _keys(rows: pa.Table) -> pa.ChunkedArray:
    if "segment" not in rows.column_names:
        return rows["track_id"]
    numbers = rows["segment"].cast(pa.string())
    return pc.call_function("binary_join_element_wise", [rows["track_id"], numbers, pa.scalar("/")])


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)


def methods_in_use(store: Store, config: Config, labels: Sequence[str] | None = None) -> list[str]:
    """By which methods are the embeddings that are published now, or those of these labels; a label stands
    for one that is none's."""
    chosen = (store.get_json(CHOICE) or {}).get("methods", [])
    known = [*chosen, config.publish.model, ADAPTED, *config.training.losses, PRETRAINED, MUSICNN,
             MFCC_METHOD, TIMBRE]
    by_label = {label_of_method(store, config, name): name for name in reversed(known) if name != "auto"}
    return [by_label.get(label, label) for label in (labels or labels_in_use(store))]


def choice_sentence(store: Store, config: Config) -> str | None:
    """What is published, and why, in a sentence; None where nothing was chosen."""
    if (choice := store.get_json(CHOICE)) is None:
        return None
    own, used = choice["methods"], methods_in_use(store, config)
    if not used or used == own:
        return f"Published is {_named(own)}: {choice['why']}{_scores(choice)}."
    gate = store.get_json(GATE) or {}
    why = ("as publish.model says" if used == [config.publish.model]
           else f"still: {gate['why']}" if gate.get("refused") and gate.get("why")
           else "as it was when it was published")
    return f"Published is {_named(used)}, {why}; chosen was {_named(own)}: {choice['why']}{_scores(choice)}."


def _named(methods: Sequence[str]) -> str:
    return " joined with ".join(methods) or "nothing"


def _scores(choice: Mapping[str, Any]) -> str:
    own, scores = "+".join(choice["methods"]), choice["scores"]
    if not (others := scores.keys() - {own}):
        return ""
    following = max(others, key=scores.__getitem__)
    return (f" by {choice['queries']} queries of artists that validate ({choice['metric']} "
            f"{scores[own]:.3f}; next {_named(following.split('+'))}, {scores[following]:.3f})")
