"""Models in the store: `models/<name>/<version>/`, and which version of each is the promoted one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simsong.config import Config
from storage.identity import digest
from storage.store import Store
from tasks.stages import TIMBRE, Run, config_values, lyric_model_label

if TYPE_CHECKING:
    from simsong.model.encoder import Encoder

UNTRAINED = "untrained"
FILES = ("model.safetensors", "config.json", "training.json")
VERSION = 2
# What may change without changing the weights.
_HOW = ("losses", "retrain_at", "checkpoint_s")


@dataclass(frozen=True)
class Planned:
    """The model that a training would make, and the promoted one if it still serves."""

    name: str                       # ns, wns, untrained
    version: str
    facts: dict[str, Any]           # kept beside the promoted version, to judge growth by
    kept: str | None = None         # the promoted version, where too little is new to train again

    @property
    def label(self) -> str:
        return f"{self.name}-{self.kept or self.version}"


def plan_model(store: Store, config: Config, name: str) -> Planned:
    """Reads footers only. Raises: PartDamaged."""
    settings = config_values(config, ("training", "model", "segments.length_s"))
    for key in _HOW:
        del settings["training"][key]
    inputs: dict[str, list[Any]] = {}
    if name == UNTRAINED:
        settings["training"] = {"seed": config.training.seed, "centred": config.training.centred}
    else:
        lyrics = lyric_model_label(config) if name == "wns" else None
        for shard in store.shards("segments"):
            songs = sum(footer.rows for footer in store.footers("trims", shard))
            digests = [store.rows_digest("segments", shard, ("audio",)),
                       store.rows_digest("tracks", shard, ("artist_id",))]
            if lyrics:
                digests.append(store.rows_digest("lyric_embeddings", shard, ("embedding",), lyrics))
            inputs[str(shard)] = [digest(digests), songs]
    facts = {"settings": digest(VERSION, name, settings), "inputs": inputs}
    return Planned(name, digest(facts)[:12], facts, _kept(store, config, name, facts))


def promoted(store: Store, name: str) -> str | None:
    """The label of the promoted version, e.g. `wns-0123456789ab`."""
    pointer = store.get_json(f"models/{name}/promoted.json")
    return f"{name}-{pointer['version']}" if pointer else None


def promoted_labels(run: Run) -> list[str]:
    """Of the models that embed every song."""
    names = (UNTRAINED, *run.config.training.losses)
    return [label for name in names if (label := promoted(run.store, name))]


def published(store: Store, config: Config) -> str | None:
    """The label of the embedding to export and ask: of `publish.model`, else (no lyrics, say) of one trained,
    else (no audio) of MSD's timbre."""
    if config.publish.model != TIMBRE:
        first, others = config.publish.model, config.training.losses
        for name in (first, *others):
            if label := promoted(store, name):
                return label
    return TIMBRE if store.shards("track_embeddings", TIMBRE) else None


def folder(label: str) -> str:
    name, _, version = label.partition("-")
    return f"models/{name}/{version}"


def load_encoder(store: Store, label: str) -> Encoder:
    """Raises: ModelError."""
    from simsong.model.encoder import Encoder  # needs torch, which asking a store does not

    with (store.local(f"{folder(label)}/model.safetensors") as weights,
          store.local(f"{folder(label)}/config.json")):
        return Encoder.load(weights.parent)


def _kept(store: Store, config: Config, name: str, facts: dict[str, Any]) -> str | None:
    pointer = store.get_json(f"models/{name}/promoted.json")
    if pointer is None or pointer["facts"]["settings"] != facts["settings"]:
        return None
    if any(store.size(f"models/{name}/{pointer['version']}/{file}") is None for file in FILES):
        return None
    before, now = pointer["facts"]["inputs"], facts["inputs"]
    new = sum(songs for shard, (inputs, songs) in now.items() if before.get(shard, [None])[0] != inputs)
    gone = sum(songs for shard, (_, songs) in before.items() if shard not in now)
    total = sum(songs for _, songs in before.values())
    return pointer["version"] if new + gone <= config.training.retrain_at * total else None
