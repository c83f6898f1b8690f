"""Which version of a model a training would make now, and whether the latest still serves in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from simsong.catalogue.recordings import Recordings, recordings_inputs
from simsong.config import Config, PriorsSettings
from simsong.model import adapted
from simsong.parts.inputs import output_of, song_reads
from simsong.parts.stages import config_values, features_label, has_heads, lyric_model_label, settled_model
from simsong.registry.models import (
    ABOUT,
    ADAPTED,
    FINAL,
    FINAL_HEADS,
    FITTED,
    LEARNED,
    METRICS,
    UNTRAINED,
    about,
    is_made,
    latest,
    now,
    promoted,
)
from simsong.registry.trained_on import songs_of_training
from storage.catalogue import Catalogue
from storage.identity import digest
from storage.store import Store

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


def record(store: Store, planned: Planned, songs: int) -> None:
    """Set down what a version is, when its other files are in the store."""
    at = f"models/{planned.name}/{planned.version}"
    there = {key.rpartition("/")[2] for key in store.backend.list(at)} - {ABOUT, METRICS}
    files = {file: [store.size(f"{at}/{file}"), store.sha256(f"{at}/{file}")] for file in sorted(there)}
    store.put_json(f"{at}/{ABOUT}", {"made_at": now(), "facts": planned.facts, "songs": songs,
                                     "files": files})
