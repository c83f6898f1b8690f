"""The table of stages: what each reads, which configuration it depends on, what it writes. Identities follow.

A part is recomputed exactly when its identity changes, i.e. when rows or columns named here, configuration
named here, or the stage's version changes; or when the store no longer has it whole. Stages that observe
depend on no configuration: what changes there reopens failures at most (simsong/parts/policy.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from simsong.config import Config, ModelSettings
from simsong.config_loader import secret
from simsong.errors import PartDamaged
from simsong.lyrics.models import model_version
from simsong.pretrained.features import VERSION as FEATURES_VERSION
from simsong.pretrained.features import version_of
from simsong.pretrained.tags import tags_of
from storage.catalogue import Catalogue
from storage.identity import digest
from storage.store import Store
from storage.tables import FUNNEL as FUNNEL
from storage.tables import TABLES
from storage.tables import TIMBRE as TIMBRE

GENIUS_TOKEN = "GENIUS_ACCESS_TOKEN"
MFCC = "mfcc-2"                     # the label of the embedding that needs no model
MFCC_BEFORE = ("mfcc",)             # of versions before, removed where the present one is made


class RunContext(BaseModel):
    """What a task needs to know of the run that it is part of. Small, and without secrets."""

    model_config = ConfigDict(frozen=True)

    config: Config
    generation: int                     # of the store's lease

    @property
    def store(self) -> Store:
        return Store.resume(self.config.store, self.generation)


@dataclass(frozen=True)
class Stage:
    name: str
    version: int                                    # raised when the code's answer changes
    given: str                                      # the table whose songs it works on
    reads: Mapping[str, tuple[str, ...]]            # table → columns
    config: tuple[str, ...]                         # sections, or `section.key`; none where it observes
    writes: tuple[str, ...]                         # tables; beside them an outcome for every song
    observes: bool = False                          # asks the world: see simsong/parts/policy.py
    formerly: Mapping[str, Any] = field(default_factory=dict[str, Any])     # settings that count no more, at
    # their defaults, so that parts of before keep their identities
    model: Callable[[Config], str | None] = field(default=lambda config: None)
    """The model's label, where the configuration gives it: a partition of tables written and of outcomes."""

    def settings(self, config: Config, *, short: bool = True, formerly: bool = True) -> dict[str, Any]:
        """What of the configuration its parts depend on, JSON-able.

        Args:
            short: whether any of the songs is shorter than a segment; to others `segments.short` is nothing.
            formerly: with settings that count no more.
        """
        settings = config_values(config, self.config) | (dict(self.formerly) if formerly else {})
        if "segments" in settings and not short:
            settings["segments"] = settings["segments"] | {"short": "skip"}
        return settings


def lyrics_provider(config: Config) -> str:
    """`genius` or `none`: what `lyrics.provider = "auto"` comes to."""
    if config.lyrics.provider != "auto":
        return config.lyrics.provider
    return "genius" if secret(GENIUS_TOKEN) else "none"


def lyric_model_label(config: Config) -> str:
    """The partition of `lyric_embeddings`: the model's name and a digest of its files. Raises: ModelError."""
    return model_version(config.lyric_model)


def features_label(config: Config) -> str | None:
    """The partition of `features`: the pretrained network's name, and a digest of its weights and of how it
    hears a song.

    None where none is used, `auto` finds none in the cache, or a hub id was not fetched. Raises: ModelError
    where the one that is named is not there."""
    if (version := version_of(config.pretrained.network)) is None:
        return None
    name, _, weights = version.rpartition("-")
    return f"{name}-{digest(FEATURES_VERSION, weights, config.pretrained.patches)[:8]}"


def tags_label(config: Config) -> str | None:
    """The partition of `tag_scores`: that of the features that they are made of; None where the network gives
    no tags."""
    label = features_label(config)
    return label if label is not None and tags_of(label) else None


def missing_network(config: Config) -> str | None:
    """That the pretrained network is not here though one is wanted, in a line; None where it is."""
    network = config.pretrained.network
    if network == "none" or features_label(config) is not None:
        return None
    named, to_fetch = ("the pretrained network", "") if network == "auto" else (network, f" {network}")
    return f"{named} is not here, and it goes on without it, less well; `simsong pretrained fetch{to_fetch}`"


def settled_model(config: Config) -> ModelSettings:
    """`[model]`, with what `preset = "auto"` comes to: a head where pretrained features are there."""
    if config.model.preset != "auto":
        return config.model
    return config.model.model_copy(update={"preset": "head" if features_label(config) else "tiny"})


def has_heads(config: Config) -> bool:
    """Whether what is trained are heads on pretrained features."""
    return settled_model(config).preset == "head"


# The stages that work on shards. `embed` writes a part for each model, whose label is part of its identity.
STAGES: dict[str, Stage] = {stage.name: stage for stage in (
    Stage("fetch_audio", 1, given="tracks",
          reads={"tracks": ("artist", "title", "duration_s", "url", "fingerprint")},
          config=(), writes=("audio", "candidates"), observes=True),
    Stage("fetch_lyrics", 1, given="tracks",
          reads={"tracks": ("artist", "title", "duration_s", "url", "fingerprint", "lyrics_fingerprint")},
          config=(), writes=("lyrics",), observes=True),
    Stage("trim", 3, given="audio",
          reads={"audio": ("sha256",), "tracks": ("duration_s", "fade_in_end_s", "fade_out_start_s")},
          config=("trim", "segments.length_s"), formerly={"fetch.max_duration_s": 1200.0}, writes=("trims",)),
    Stage("segments", 3, given="trims",
          reads={"audio": ("sha256",), "trims": ("start_s", "end_s")},
          config=("segments",), formerly={"fetch.max_duration_s": 1200.0}, writes=("segments",)),
    Stage("embed_lyrics", 1, given="lyrics",
          reads={"lyrics": ("kind", "text")},
          config=(), writes=("lyric_embeddings",), model=lyric_model_label),
    Stage("features", 1, given="audio",
          reads={"audio": ("sha256",)},
          config=(), writes=("features",), model=features_label),
    Stage("traits", 1, given="audio",
          reads={"audio": ("sha256",)},
          config=(), writes=("traits",)),
    # What the features hold follows from the audio and their label: it is not read again.
    Stage("tag_scores", 1, given="features",
          reads={"audio": ("sha256",), "features": ("patch",)},
          config=(), writes=("tag_scores",), model=tags_label),
    Stage("embed", 1, given="segments",
          reads={"segments": ("start_s", "end_s", "audio")},
          config=(), writes=("segment_embeddings", "track_embeddings")),
    Stage("soundprints", 1, given="segments",
          reads={"segments": ("start_s", "audio")},
          config=(), writes=("soundprints",)),
)}
# Stage → those that take what it gives, over all stages.
FOLLOWED_BY: dict[str, tuple[str, ...]] = {
    "ingest": ("fetch_audio", "fetch_lyrics", "embed_timbre"), "fetch_audio": ("trim", "features", "traits"),
    "fetch_lyrics": ("embed_lyrics",), "trim": ("segments",), "segments": ("train", "embed", "soundprints"),
    "features": ("tag_scores", "train", "embed"), "traits": (), "tag_scores": (),
    "embed_lyrics": ("train", "evaluate"), "train": ("embed",),
    "embed": ("choose", "export", "evaluate"), "soundprints": ("compare",),
    "compare": ("choose", "export", "evaluate"),
    "embed_timbre": ("export", "evaluate"), "choose": ("export",),
    "export": ("index", "neighbours", "artists", "report"), "index": (), "neighbours": ("map",),
    "artists": (), "map": ("report",), "evaluate": ("report",), "report": ()}
PUBLISHED = ("embed", "soundprints")    # those that `publish` runs; `refresh` runs the others
TRAITS = ("traits", "tag_scores")       # those that nothing is embedded or measured by


def stages_from(first: str) -> set[str]:
    """A stage and all that follow from it."""
    following, rest = set[str](), [first]
    while rest:
        if (name := rest.pop()) not in following:
            following.add(name)
            rest += FOLLOWED_BY[name]
    return following


def config_values(config: Config, keys: tuple[str, ...]) -> dict[str, Any]:
    """The values of sections or `section.key`s, JSON-able."""
    dump = config.model_dump(mode="json")
    out: dict[str, Any] = {}
    for key in keys:
        section, _, name = key.partition(".")
        out[key] = dump[section][name] if name else dump[section]
    return out


def outcome_partition(stage: str, label: str | None = None) -> str:
    """The partition of `outcomes`: the stage, with the model for `embed`."""
    return f"{stage}-{label}" if label else stage


def stage_of(partition: str) -> str:
    return partition.partition("-")[0]


def part_identity(store: Store, config: Config, stage: Stage, shard: int, label: str | None = None) -> str:
    """What the part of a shard must have been made from. Reads footers, and of trims the rows.
    Raises: PartDamaged."""
    made_from = part_made_from(store, config, stage, shard, label)
    return digest(stage.name, made_from["version"], label, made_from["settings"], None, made_from["inputs"])


def part_made_from(store: Store, config: Config, stage: Stage, shard: int,
                   label: str | None = None) -> dict[str, Any]:
    """What the identity is a digest of, to tell what has changed; JSON-able. Raises: PartDamaged."""
    inputs = {table: store.rows_digest(table, shard, columns, partition_of(table, label))
              for table, columns in stage.reads.items()}
    short = stage.name == "segments" and _any_short(store, shard, config.segments.length_s)
    return {"version": stage.version, "settings": stage.settings(config, short=short), "inputs": inputs}


def partition_of(table: str, label: str | None) -> str | None:
    """Of a table that a stage of that model reads or writes."""
    return label if TABLES[table].partition else None


def _any_short(store: Store, shard: int, length_s: float) -> bool:
    """Whether a song of a shard is shorter than a segment after trimming."""
    return any(is_short(row, length_s) for row in
               store.read("trims", shard, columns=["track_id", "start_s", "end_s"]).to_pylist())


def is_short(trim: Mapping[str, Any], length_s: float) -> bool:
    return trim["end_s"] - trim["start_s"] < length_s


def is_whole(store: Store, partition: str, identity: str, shard: int = 0) -> bool:
    """Whether the store has what a stage made from that identity, closed. The outcomes are written last, and
    name each file that was written with them: `outputs` are parts with their seals, `files` others with size
    and SHA-256. `left_out` are songs that were not in the catalogue, and not computed: none may be back."""
    try:
        footers = store.footers("outcomes", shard, partition)
        if not footers or footers[0].identity != identity or footers[0].facts["open"]:
            return False
        facts = footers[0].facts
        left_out = facts.get("left_out")
        if left_out and len(Catalogue(store).without(shard, left_out)) < len(left_out):
            return False
        return (all(store.seal(key) == seal for key, seal in facts.get("outputs", {}).items())
                and all(store.size(key) == size for key, (size, _) in facts.get("files", {}).items()))
    except PartDamaged:
        return False
