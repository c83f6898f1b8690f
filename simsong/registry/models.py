"""Models in the store: `models/<name>/<version>/`, which one training last made, and which one is in use.

`latest.json` decides whether to train again; `promoted.json` names the version that embeds, is exported and
measured. Training promotes what it makes, unless a person has promoted a version by name: that one stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import pyarrow.compute as pc

from simsong.catalogue.recordings import Recordings, recordings_inputs
from simsong.config import Config, Loss, PriorsSettings
from simsong.errors import ModelError
from simsong.model import adapted
from simsong.model.adapted import Adapted
from simsong.parts.inputs import output_of, song_reads
from simsong.parts.stages import (
    MFCC,
    RunContext,
    config_values,
    features_label,
    has_heads,
    lyric_model_label,
    settled_model,
)
from simsong.registry.trained_on import folder, songs_of_training
from storage.catalogue import Catalogue
from storage.exports import labels_in_use
from storage.identity import digest
from storage.store import Store

if TYPE_CHECKING:
    from simsong.model.encoder import Encoder

UNTRAINED, CONTROL = "untrained", "wns_shuffled"
LEARNED: tuple[Loss, ...] = ("ns", "wns", CONTROL)
# Pretrained features, fitted to all songs but those of held-out artists and of those that validate; and to
# all, or where a fold is held out (training.fold), to all but that.
ADAPTED, FINAL = "adapted", "final"
FITTED = (ADAPTED, FINAL)
# Heads that are published: trained as the measured ones, for as many steps as these kept, on all songs, or
# where a fold is held out, on all but that.
FINAL_HEADS: dict[str, Loss] = {"ns_final": "ns", "wns_final": "wns"}
NAMES = (UNTRAINED, *LEARNED, *FITTED, *FINAL_HEADS)
WEIGHTS, SETTINGS, CARD = "model.safetensors", "config.json", "training.json"
ABOUT = "version.json"          # when it was made, of what, and what its files are
METRICS = "metrics.json"        # what the latest evaluation with it found
LATEST = "latest"
VERSION = 3
# What may change without changing the weights.
_HOW = ("losses", "retrain_at", "checkpoint_s", "chunk", "final")
# What a head's training takes from its own section, or has no use for.
_NOT_OF_HEADS = ("steps", "batch", "learning_rate", "layer_decay", "weight_decay", "temperature", "augment",
                 "centred", "patience", "minutes")
_OF_SPLITS = ("held_out", "validation", "keep")     # what a final head's training has no use for
_OF_PRIORS = ("priors", "alpha", "beta", "prior_temperature")
_OF_TRACKS = ("artist_id",)     # what training reads of each song's row in the catalogue
_A_SONG = {"segments": "trims", "audio": "audio"}    # the table with a row for each song of that one
_PRIOR_TABLES = {"genre": "genres", "tags": "tags", "words": "words"}

By = Literal["training", "hand"]


@dataclass(frozen=True)
class Planned:
    """The model that a training would make, and the latest one if it still serves."""

    name: str                       # ns, wns, wns_shuffled, untrained
    version: str
    facts: dict[str, Any]           # kept beside the version, to judge growth by
    kept: str | None = None         # the latest version, where too little is new to train again
    changed: int | None = None      # songs changed, new or gone since that was trained; None: not comparable

    @property
    def label(self) -> str:
        return f"{self.name}-{self.kept or self.version}"


def plan_model(store: Store, config: Config, name: str) -> Planned:
    """Reads footers only, but for shards that are not what the latest version was trained on.
    Raises: PartDamaged."""
    settings = config_values(config, ("training", "model", "segments.length_s"))
    for key in _HOW:
        del settings["training"][key]
    for key in ("fold", "minutes"):
        if settings["training"][key] is None:   # versions of before there were these stay what they are
            del settings["training"][key]
    settings["model"] = settled_model(config).model_dump(mode="json")
    if (name in LEARNED and has_heads(config)) or name in FINAL_HEADS:
        settings |= {"head": config.head.model_dump(mode="json"), "features": features_label(config),
                     "closed_form": adapted.VERSION}
        for key in _NOT_OF_HEADS:
            settings["training"].pop(key, None)
    measured_label = promoted(store, FINAL_HEADS[name]) if name in FINAL_HEADS else None
    if name in FINAL_HEADS:
        settings["of"] = measured_label
        for key in _OF_SPLITS if config.training.fold else (*_OF_SPLITS, "split_seed"):
            settings["training"].pop(key)
    inputs: dict[str, list[Any]] = {}           # by shard: what is heard, also of songs that left; songs
    tracks: dict[str, str] = {}                 # by shard: who is there, and by whom
    tables: dict[str, Any] = {}
    if name in FITTED:
        split = ["held_out", "split_seed"] if name == ADAPTED else []
        if config.training.fold:
            split = [*split, "split_seed", "fold"]
        settings = {"features": features_label(config), "closed_form": adapted.VERSION,
                    "training": {key: settings["training"][key] for key in split}}
    if name == UNTRAINED:
        settings["training"] = {"centred": config.training.centred}
    else:
        priors = _priors(config, name)
        for key in _OF_PRIORS if priors is None else ():
            settings["training"].pop(key, None)
        lyrics = _lyrics_read(config, name)
        catalogue = Catalogue(store)
        table, columns = _table_read(config, name)
        for shard in heard_shards(store, config, name):
            # Of footers, which count rows of songs that left as well.
            rows = sum(footer.rows for footer in store.footers(_A_SONG[table], shard))
            songs = min(rows, len(catalogue.ids(shard)))
            heard_of = [store.rows_digest(table, shard, columns)]
            if lyrics:
                heard_of.append(store.rows_digest("lyric_embeddings", shard, ("embedding",), lyrics))
            inputs[str(shard)] = [" ".join(heard_of), songs]
            tracks[str(shard)] = store.rows_digest("tracks", shard, _OF_TRACKS)
        tables = {table: digest([footer.columns for footer in store.footers(table)])
                  for table in (_tables_read(config, name, priors) if name not in FITTED else ())}
    facts = {"settings": digest(VERSION, name, settings), "inputs": inputs, "tracks": tracks,
             "tables": tables, **({"of": measured_label} if measured_label else {})}
    if goes_by_sides(name):
        facts["sides"] = digest(recordings_inputs(store))
    version, changed = _usable_version(store, config, name, facts)
    return Planned(name, digest(facts)[:12], facts, version, changed)


def _table_read(config: Config, name: str) -> tuple[str, tuple[str, ...]]:
    """The table and columns that hold what a training hears: pretrained features are of the whole song."""
    by_head = name in FINAL_HEADS or (name in LEARNED and has_heads(config))
    whole = name in FITTED or (by_head and config.training.part == "whole")
    return ("audio", ("sha256",)) if whole else ("segments", ("audio",))


def heard_shards(store: Store, config: Config, name: str) -> list[int]:
    """The shards with songs for a training to hear."""
    return list(Catalogue(store).parts(_table_read(config, name)[0]))


def goes_by_sides(name: str) -> bool:
    """Whether who is one artist, and what one recording, tells what that model is made of."""
    return name not in (UNTRAINED, FINAL)


def _priors(config: Config, name: str) -> PriorsSettings | None:
    return config.training.priors if FINAL_HEADS.get(name, name) in LEARNED[1:] else None


def _lyrics_read(config: Config, name: str) -> str | None:
    """The partition of lyric embeddings that a training reads."""
    priors = _priors(config, name)
    return lyric_model_label(config) if priors and priors.lyrics else None


def training_inputs(store: Store, config: Config, name: str, shard: int) -> dict[str, str]:
    """Per song of a shard, a digest of what a training reads of it. Raises: PartDamaged."""
    ids = Catalogue(store).ids(shard).to_pylist()
    table, columns = _table_read(config, name)
    reads = song_reads(store, table, shard, columns)
    labels = {row.pop("track_id"): row
              for row in store.read("tracks", shard, columns=["track_id", *_OF_TRACKS]).to_pylist()}
    words: dict[str, str] = {}
    if lyrics := _lyrics_read(config, name):
        rows = store.read("lyric_embeddings", shard, partition=lyrics)
        words = {track_id: output_of("lyric_embeddings", rows.slice(at, 1))
                 for at, track_id in enumerate(rows["track_id"].to_pylist())}
    return {i: digest(reads[i], labels[i], words.get(i)) for i in ids if i in reads}


def _tables_read(config: Config, name: str, priors: PriorsSettings | None) -> list[str]:
    """Those about all songs at once: of the priors, and of what validation takes for the truth."""
    prior_tables = [table for name, table in _PRIOR_TABLES.items() if priors and getattr(priors, name)]
    return [*prior_tables, "similars"] if config.training.validation and name in LEARNED else prior_tables


def _usable_version(store: Store, config: Config, name: str,
                    facts: dict[str, Any]) -> tuple[str | None, int | None]:
    """The latest version where it still serves; and how many songs have changed since it was trained."""
    version = latest(store, name)
    made_of = about(store, name, version)["facts"] if version else None
    if version is None or made_of is None or made_of["settings"] != facts["settings"]:
        return None, None
    if not is_made(store, name, version):
        return None, None
    changed, total = _changed(store, config, f"{name}-{version}", made_of, facts)
    if not changed and made_of["tables"] != facts["tables"]:
        return None, changed            # the same songs, of which something else is told
    return version if changed <= config.training.retrain_at * total else None, changed


def _changed(store: Store, config: Config, label: str, made_of: Mapping[str, Any],
             facts: Mapping[str, Any]) -> tuple[int, int]:
    """How many songs differ from those of a training, are by another artist or of another recording than
    then, came or went, and how many it had; song by song in shards that differ, but all of such a shard where
    the training is one that did not set down its songs. One that did not set down artists and recordings is
    not compared by these."""
    before, who = made_of["inputs"], facts["tracks"]
    now: Mapping[str, Any] = facts["inputs"]
    if "tracks" not in made_of:
        now = {shard: [_input_and_sides(reads, who[shard]), songs] for shard, (reads, songs) in now.items()}
    sides_differ = made_of.get("sides", facts.get("sides")) != facts.get("sides")
    differ = [shard for shard in {*before, *now} if before.get(shard, [None])[0] != now.get(shard, [None])[0]
              or made_of.get("tracks", who).get(shard) != who.get(shard)]
    if not differ and not sides_differ:
        return 0, sum(songs for _, songs in before.values())
    songs = songs_of_training(store, label)
    if songs is None:
        return (sum(now.get(shard, before.get(shard))[1] for shard in differ),
                sum(songs for _, songs in before.values()))
    changed = set[str]()
    for shard in differ:
        own = songs.filter(pc.field("shard") == int(shard)).to_pydict()
        old = dict(zip(own["track_id"], own["input"], strict=True))
        new = training_inputs(store, config, label.partition("-")[0], int(shard)) if shard in now else {}
        changed |= {i for i in old.keys() | new.keys() if old.get(i) != new.get(i)}
    if sides_differ:
        recordings = Recordings.of(store)
        columns = songs.select(["track_id", "artist", "recording"]).to_pydict()
        changed |= {i for i, *side in zip(*columns.values(), strict=True)
                    if i in recordings.artists and side != [recordings.artists[i], recordings.recording(i)]}
    return len(changed), songs.num_rows


def _input_and_sides(reads: str, who: str) -> str:
    """As versions tell it that were made before these were told apart."""
    first, *lyrics = reads.split()
    return digest([first, who, *lyrics])


# Which one is in use

def latest(store: Store, name: str) -> str | None:
    """The version that training last made, or found to serve still."""
    pointer = store.get_json(f"models/{name}/latest.json")
    return pointer["version"] if pointer else None


def promoted_version(store: Store, name: str) -> str | None:
    pointer = store.get_json(f"models/{name}/promoted.json")
    return pointer["version"] if pointer else None


def promoted(store: Store, name: str) -> str | None:
    """The label of the promoted version, e.g. `wns-0123456789ab`."""
    version = promoted_version(store, name)
    return f"{name}-{version}" if version else None


def promoted_labels(run: RunContext) -> list[str]:
    """Of the models that embed every song."""
    return [label for name in model_names(run.config) if (label := promoted(run.store, name))]


def embedding_labels(run: RunContext) -> list[str]:
    """Of all that every song is embedded with."""
    network, own = features_label(run.config), promoted_labels(run)
    # What is published, until something else is.
    used = [label for label in labels_in_use(run.store) if label not in own
            and label.partition("-")[0] in NAMES and is_made(run.store, *label.split("-", 1))]
    return [MFCC, *([network] if network else []), *own, *used]


def model_names(config: Config) -> tuple[str, ...]:
    """Of the models that are made, in that order. What a head starts from is what is adapted."""
    return (*(() if has_heads(config) else (UNTRAINED,)), *config.training.losses, *fitted_names(config))


def fitted_names(config: Config) -> tuple[str, ...]:
    """Of the models on pretrained features; none where there are no such features."""
    if features_label(config) is None:
        return ()
    return FITTED if config.training.final == "all" else (ADAPTED,)


def final_head(store: Store, config: Config, name: str) -> str | None:
    """The label of the head that is published for a measured one; None where there is none of the version
    that is in use."""
    for final, measured_name in FINAL_HEADS.items():
        version = promoted_version(store, final)
        if measured_name == name and version and config.training.final == "all" and has_heads(config):
            facts = about(store, final, version)["facts"] or {}
            return f"{final}-{version}" if facts.get("of") == promoted(store, name) else None
    return None


def trained_labels(store: Store, config: Config) -> list[str]:
    """Of the promoted models that are measured and were trained, or fitted, on songs."""
    names = (*config.training.losses, *fitted_names(config)[:1])
    return [label for name in names if (label := promoted(store, name))]


def follow(store: Store, name: str, version: str) -> str | None:
    """After training: `version` is the latest, and promoted unless another one was by hand.

    Returns: the version that a person has promoted and that therefore stays, if there is one.
    """
    if latest(store, name) != version:
        store.put_json(_pointer(name, LATEST), {"version": version, "at": _now()})
    pointer = store.get_json(_pointer(name, "promoted")) or {}
    if pointer.get("pinned") and pointer["version"] != version:
        return pointer["version"]
    if pointer.get("version") != version:
        _point(store, name, version, by="training", pinned=False)
    return None


def follows(store: Store, name: str, version: str) -> bool:
    """Whether there is nothing to be done by `follow`."""
    pointer = store.get_json(_pointer(name, "promoted")) or {}
    used = pointer.get("version") == version or bool(pointer.get("pinned"))
    return used and latest(store, name) == version


def promote(store: Store, name: str, wanted: str) -> str:
    """Put a version to use by hand; it stays when training makes another one. `latest` is the one that
    training last made, and gives the choice back to training.

    Args: wanted: the beginning of a version that no other one shares, or `latest`.
    Returns: the version. Raises: ModelError where there is none of that name, or it is not whole.
    """
    version = _find(store, name, wanted)
    pinned = wanted != LATEST
    pointer = store.get_json(_pointer(name, "promoted")) or {}
    if (pointer.get("version"), pointer.get("pinned")) != (version, pinned):
        _point(store, name, version, by="hand", pinned=pinned)
    return version


def rollback(store: Store, name: str) -> str:
    """Put the version to use that was promoted before the present one; it stays when training makes another.

    Again, it goes back further. Returns: the version. Raises: ModelError where there is none before it.
    """
    _check_name(store, name)
    there = versions(store, name)
    before = [version for version in _before(store.get_json(_pointer(name, "promoted")) or {})
              if version in there]
    if not before:
        raise ModelError(f"{name}: no version was promoted before this one; `simsong models` lists them")
    version = _find(store, name, before[-1])
    _point(store, name, version, by="hand", pinned=True, back=True)
    return version


def _point(store: Store, name: str, version: str, *, by: By, pinned: bool, back: bool = False) -> None:
    pointer = store.get_json(_pointer(name, "promoted")) or {"history": []}
    entry = {"version": version, "by": by, "at": _now(), **({"back": True} if back else {})}
    store.put_json(_pointer(name, "promoted"), {"version": version, "by": by, "at": entry["at"],
                                                "pinned": pinned, "history": [*pointer["history"], entry]})


def _before(pointer: dict[str, Any]) -> list[str]:
    """The versions promoted before the present one, the latest last: what a rollback left does not count."""
    stack: list[str] = []
    for entry in pointer.get("history", []):
        if entry.get("back"):
            while stack and stack[-1] != entry["version"]:
                stack.pop()
        elif not stack or stack[-1] != entry["version"]:
            stack.append(entry["version"])
    return stack[:-1]


def _find(store: Store, name: str, wanted: str) -> str:
    _check_name(store, name)
    there = versions(store, name)
    candidates = [latest(store, name)] if wanted == LATEST else [v for v in there if v.startswith(wanted)]
    if len(candidates) != 1 or candidates[0] is None:
        what = "no version begins with" if not candidates else "several versions begin with"
        raise ModelError(f"{name}: {what} {wanted}; there are {', '.join(there)}")
    if not is_made(store, name, candidates[0]):
        raise ModelError(f"{name} {candidates[0]}: its files are not as they were written; promote another "
                         "one (`simsong models` lists them), or train again")
    return candidates[0]


def _check_name(store: Store, name: str) -> None:
    there = [model for model in NAMES if versions(store, model)]
    if name not in there:
        raise ModelError(f"there is no model {name} in this store; there are {', '.join(there)}" if there
                         else "no model is trained yet; `simsong train` does it")


def _pointer(name: str, which: str) -> str:
    return f"models/{name}/{which}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# What there is

def versions(store: Store, name: str) -> list[str]:
    """All that were made, the newest first."""
    keys = [key.split("/") for key in store.backend.list(f"models/{name}")]
    names = {key[2] for key in keys if len(key) == 4 and key[3] == ABOUT}
    return sorted(names, key=lambda version: (about(store, name, version)["made_at"], version), reverse=True)


def versions_needed(store: Store, name: str, more: int) -> set[str]:
    """The version in use, the latest, and as many of those that were in use before."""
    before = [version for version in _before(store.get_json(_pointer(name, "promoted")) or {})
              if version in versions(store, name)]
    names = {promoted_version(store, name), latest(store, name), *(before[-more:] if more else ())}
    return {version for version in names if version}


def about(store: Store, name: str, version: str) -> dict[str, Any]:
    """What stands in a version's `version.json`; nothing in its place where it is lost."""
    facts = store.get_json(f"models/{name}/{version}/{ABOUT}")
    return facts or {"made_at": "", "facts": None, "files": {}, "songs": None}


def registry(store: Store) -> list[dict[str, Any]]:
    """A row a version: by model, the newest first."""
    rows: list[dict[str, Any]] = []
    for name in NAMES:
        pointer = store.get_json(_pointer(name, "promoted")) or {}
        newest = latest(store, name)
        for version in versions(store, name):
            version_facts, at = about(store, name, version), f"models/{name}/{version}"
            card, metrics = store.get_json(f"{at}/{CARD}") or {}, store.get_json(f"{at}/{METRICS}")
            used = version == pointer.get("version")
            rows.append({
                "name": name, "version": version, "made_at": version_facts["made_at"],
                "promoted": used, "by": pointer["by"] if used else None,
                "pinned": used and pointer["pinned"], "latest": version == newest,
                "settings": (version_facts["facts"] or {}).get("settings"), "songs": version_facts["songs"],
                "steps": card.get("training", {}).get("steps"), "warnings": card.get("warnings", []),
                "metrics": metrics, "history": pointer.get("history", []) if used else []})
    return rows


def record(store: Store, planned: Planned, songs: int) -> None:
    """Set down what a version is, when its other files are in the store."""
    at = f"models/{planned.name}/{planned.version}"
    there = {key.rpartition("/")[2] for key in store.backend.list(at)} - {ABOUT, METRICS}
    files = {file: [store.size(f"{at}/{file}"), store.sha256(f"{at}/{file}")] for file in sorted(there)}
    store.put_json(f"{at}/{ABOUT}", {"made_at": _now(), "facts": planned.facts, "songs": songs,
                                     "files": files})


def files_of(store: Store, name: str, version: str) -> list[str]:
    """Their names, as `record` found them."""
    return sorted(about(store, name, version)["files"])


def files_of_models(store: Store) -> dict[str, tuple[int, str]]:
    """Key → size and SHA-256 of every version's files, as they were written."""
    return {f"models/{name}/{version}/{file}": (size, sha256)
            for name in NAMES for version in versions(store, name)
            for file, (size, sha256) in about(store, name, version)["files"].items()}


def is_of_features(store: Store, label: str) -> bool:
    """Whether a model takes pretrained features, as fitted ones and heads do, and no audio."""
    name, _, version = label.partition("-")
    if name not in LEARNED:
        return name in FITTED or name in FINAL_HEADS
    facts = store.get_json(f"models/{name}/{version}/{ABOUT}")       # None: it is lost, which loading it says
    return facts is not None and WEIGHTS in facts["files"] and SETTINGS not in facts["files"]


def load_encoder(store: Store, label: str) -> Encoder:
    """Raises: ModelError."""
    from simsong.model.encoder import Encoder  # needs torch, which asking a store does not

    try:
        with store.local_folder(folder(label), (WEIGHTS, SETTINGS)) as files:
            return Encoder.load(files)
    except FileNotFoundError:
        raise ModelError(f"{folder(label)}: lost; `simsong train` makes it again") from None


def load_adapted(store: Store, label: str) -> Adapted:
    """Raises: ModelError."""
    key = f"{folder(label)}/{WEIGHTS}"
    try:
        with store.backend.get(key) as file:
            return adapted.load_adapted(file.read())
    except FileNotFoundError:
        raise ModelError(f"{key}: lost; `simsong train` makes it again") from None


def is_made(store: Store, name: str, version: str) -> bool:
    """Whether a version is there, whole."""
    files = about(store, name, version)["files"]
    return bool(files) and all(store.size(f"models/{name}/{version}/{file}") == size
                               for file, (size, _) in files.items())
