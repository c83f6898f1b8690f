"""Freeing the space of what nothing needs any more, as `[prune]` says. Whatever ends a pruning, the store is
whole: what says that something is there goes before it, and a part is replaced, not changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from simsong.config import Config
from simsong.errors import ModelError, PartDamaged
from simsong.parts.song_audio import HEARD_BY
from simsong.parts.stages import (
    MFCC,
    STAGES,
    TIMBRE,
    Stage,
    features_label,
    lyric_model_label,
    outcome_partition,
    part_identity,
    part_made_from,
    stage_of,
)
from simsong.progress import track
from simsong.registry.models import ABOUT, NAMES, versions, versions_needed
from storage.catalogue import Catalogue
from storage.exports import CURRENT, EXPORTS
from storage.store import Store
from storage.tables import TABLES

RESULTS = "results"             # of tasks, which versions before had Prefect write
KINDS = {"audio": "downloaded audio that has been segmented", "orphans": "audio files of no song",
         "songs": "songs gone from the catalogue", "embeddings": "embeddings of models that are not in use",
         "models": "versions of models", "exports": "exports that others have followed",
         "results": "Prefect's results of tasks"}


@dataclass
class Prunable:
    """What `prune` would take away: files by kind, key → bytes, in the order in which they go; and songs by
    shard."""

    files: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    songs: dict[int, set[str]] = field(default_factory=dict[int, set[str]])
    song_bytes: int = 0         # of the songs' rows, by their share in each part

    def add(self, kind: str, key: str, size: int) -> None:
        self.files.setdefault(kind, {})[key] = size

    def summary(self) -> dict[str, dict[str, int]]:
        """Kind → count and bytes."""
        totals = {kind: {"count": len(files), "bytes": sum(files.values())}
                  for kind, files in self.files.items()}
        if self.songs:
            totals["songs"] = {"count": sum(map(len, self.songs.values())), "bytes": self.song_bytes}
        return {kind: totals[kind] for kind in KINDS if kind in totals}


def prunable(store: Store, config: Config, now: datetime | None = None) -> Prunable:
    """Reads, and changes nothing. Raises: PartDamaged."""
    prunables = Prunable()
    _gone_songs(store, config, prunables, now or datetime.now(UTC))
    _audio(store, config, prunables)
    versions = {name: versions_needed(store, name, config.prune.versions) for name in NAMES}
    for label in _labels_published(store, config):          # and of exports that stay
        name, _, version = label.partition("-")
        versions.setdefault(name, set()).add(version)
    _embeddings(store, config, prunables,
                {f"{name}-{version}" for name in NAMES for version in versions[name]})
    _models(store, prunables, versions)
    _exports(store, config, prunables)
    for key in store.backend.list(RESULTS):
        prunables.add("results", key, store.size(key) or 0)
    return prunables


def prune(store: Store, config: Config, prunables: Prunable) -> int:
    """Take it away. Returns: bytes freed."""
    freed = 0
    for shard, ids in track(sorted(prunables.songs.items()), "prune songs", unit="shards"):
        before = _shard_bytes(store, shard)
        drop_songs(store, config, shard, ids)
        freed += before - _shard_bytes(store, shard)
    keys = [key for files in prunables.files.values() for key in files]
    for key in track(keys, "prune files", unit="files"):
        store.delete(key)
    return freed + sum(size for files in prunables.files.values() for size in files.values())


def _shard_bytes(store: Store, shard: int) -> int:
    return sum(size for table, partition in _tables(store, shard)
               for size in _part_bytes(store, table, shard, partition))


# Songs

def _gone_songs(store: Store, config: Config, prunables: Prunable, now: datetime) -> None:
    if config.prune.gone_days is None:
        return
    before = now - timedelta(days=config.prune.gone_days)
    rows = store.read("shards", columns=["track_id", "shard", "gone_at"])
    rows = rows.filter(pc.field("gone_at") <= pa.scalar(before, pa.timestamp("us", tz="UTC")))
    by_shard: dict[int, set[str]] = {}
    for track_id, shard in zip(rows["track_id"].to_pylist(), rows["shard"].to_pylist(), strict=True):
        by_shard.setdefault(shard, set()).add(track_id)
    for shard, ids in sorted(by_shard.items()):
        ids -= set(Catalogue(store).ids(shard).to_pylist())
        there = set[str]()
        for table, partition in _tables(store, shard):
            rows = store.read(table, shard, partition=partition, columns=["track_id"])
            own = pc.call_function("is_in", [rows["track_id"]], pc.SetLookupOptions(pa.array(sorted(ids))))
            if share := (pc.call_function("sum", [own]).as_py() or 0) / max(rows.num_rows, 1):
                there |= ids & set(rows["track_id"].to_pylist())
                prunables.song_bytes += round(share * sum(_part_bytes(store, table, shard, partition)))
        if there:
            prunables.songs[shard] = there


def _tables(store: Store, shard: int) -> Iterator[tuple[str, str | None]]:
    """The parts of a shard that have rows of songs."""
    for stage, partition, label in _partitions(store, shard):
        yield "outcomes", partition
        for table in stage.writes:
            of = label if TABLES[table].partition else None
            if store.footers(table, shard, of):
                yield table, of


def _partitions(store: Store, shard: int) -> Iterator[tuple[Stage, str, str | None]]:
    """Of the outcomes of a shard, in the order of the stages."""
    partitions = store.partitions("outcomes")
    for stage in STAGES.values():
        for partition in partitions:
            if stage_of(partition) == stage.name and store.footers("outcomes", shard, partition):
                yield stage, partition, partition.partition("-")[2] or None


def _part_bytes(store: Store, table: str, shard: int, partition: str | None) -> Iterator[int]:
    for key in store.keys(table, shard, partition):
        yield store.size(key) or 0


def drop_songs(store: Store, config: Config, shard: int, ids: Collection[str]) -> None:
    """Write a shard's parts without those songs' rows. What was current before is so afterwards."""
    parts = list(_partitions(store, shard))
    current = {partition: _identity(store, config, stage, shard, label)
               == store.footers("outcomes", shard, partition)[0].identity
               for stage, partition, label in parts}
    for stage, partition, label in parts:
        footer = store.footers("outcomes", shard, partition)[0]
        identity = _identity(store, config, stage, shard, label) if current[partition] else None
        identity, outputs = identity or footer.identity, dict[str, str]()
        for table in stage.writes:
            of = label if TABLES[table].partition else None
            footers = store.footers(table, shard, of)
            if not footers:
                continue
            facts = dict(footers[0].facts)
            if "inputs" in facts:
                facts["inputs"] = {i: value for i, value in facts["inputs"].items() if i not in ids}
            outputs |= store.write(table, _without(store, table, shard, of, ids), identity, shard=shard,
                                   partition=of, facts=facts)
        rows = store.read("outcomes", shard, partition=partition)
        facts = {**footer.facts, "outputs": outputs}
        if current[partition] and "made_from" in facts:
            facts["made_from"] = part_made_from(store, config, stage, shard, label)
        # Should they come back, the part is not whole, though it is made from what it once was.
        facts["left_out"] = sorted({*facts.get("left_out", ()), *ids})
        store.write("outcomes", [_rest(rows, ids)], identity, shard=shard, partition=partition, facts=facts)


def _identity(store: Store, config: Config, stage: Stage, shard: int, label: str | None) -> str | None:
    try:
        return part_identity(store, config, stage, shard, label)
    except PartDamaged:
        return None


def _without(store: Store, table: str, shard: int, partition: str | None,
             ids: Collection[str]) -> Iterator[pa.Table]:
    if TABLES[table].by_song:
        yield from (rows for track_id, rows in store.by_song(table, shard, partition=partition)
                    if track_id not in ids)
    else:
        yield _rest(store.read(table, shard, partition=partition), ids)


def _rest(rows: pa.Table, ids: Collection[str]) -> pa.Table:
    return rows.filter(~pc.field("track_id").isin(list(ids)))


# Files

def _audio(store: Store, config: Config, prunables: Prunable) -> None:
    """Files that no row speaks of, as a killed run or pruning leaves; and, with `prune.audio`, those of songs
    that have come through all that hears them."""
    leavers = {track_id for ids in prunables.songs.values() for track_id in ids}
    named: dict[str, tuple[str, int]] = {}
    for shard in store.shards("audio"):
        rows = store.read("audio", shard, columns=["track_id", "file"])
        for track_id, file in zip(rows["track_id"].to_pylist(), rows["file"].to_pylist(), strict=True):
            named[file] = track_id, shard
    segmented = {shard: _segmented_songs(store, config, shard) for shard in Catalogue(store).shards} \
        if config.prune.audio else {}
    for key in store.backend.list("audio"):
        track_id, shard = named.get(key, ("", -1))
        if not track_id or track_id in leavers:
            prunables.add("orphans", key, store.size(key) or 0)
        elif track_id in segmented.get(shard, ()):
            prunables.add("audio", key, store.size(key) or 0)


def _segmented_songs(store: Store, config: Config, shard: int) -> set[str]:
    """Songs of a shard that every stage which hears songs has done, from what is there now."""
    out: set[str] | None = None
    for name in HEARD_BY:
        stage = STAGES[name]
        label = stage.model(config)
        if name == "features" and label is None:
            if config.pretrained.network != "none":
                return set()                    # the network may come, and would have to hear them
            continue
        partition = outcome_partition(name, label)
        footers = store.footers("outcomes", shard, partition)
        if not footers or footers[0].identity != part_identity(store, config, stage, shard, label):
            return set()
        rows = store.read("outcomes", shard, partition=partition, columns=["track_id", "status"])
        done = set(rows.filter(pc.field("status") == "ok")["track_id"].to_pylist())
        out = done if out is None else out & done
    return out or set()


def _embeddings(store: Store, config: Config, prunables: Prunable, labels: set[str]) -> None:
    """Partitions of models and networks that nothing in use was made by. Outcomes before their tables."""
    network = features_label(config)
    for table, stage in (("track_embeddings", "embed"), ("features", "features"),
                         ("tag_scores", "tag_scores"), ("lyric_embeddings", "embed_lyrics")):
        try:
            lyrics = lyric_model_label(config) if stage == "embed_lyrics" else None
        except ModelError:
            continue                            # it is not on this machine, and cannot be told from others
        of_network = stage in ("features", "tag_scores")
        if of_network and network is None:
            continue
        own = {lyrics} if lyrics else {network} if of_network else {*labels, MFCC, TIMBRE, network}
        for label in store.partitions(table):
            if label in own or (stage == "embed" and network is None
                                and label.partition("-")[0] not in NAMES):
                continue
            folders = [f"tables/outcomes/stage={outcome_partition(stage, label)}"]
            folders += [TABLES[name].folder(label) for name in STAGES[stage].writes]
            for folder in folders:
                for key in store.backend.list(folder):
                    prunables.add("embeddings", key, store.size(key) or 0)


def _models(store: Store, prunables: Prunable, needed: dict[str, set[str]]) -> None:
    """`version.json`, without which a version is none, goes first; what a killed pruning left goes too."""
    for name in NAMES:
        there = set(versions(store, name))
        keys = [key for key in store.backend.list(f"models/{name}") if key.count("/") == 3]
        for key in sorted(keys, key=lambda key: (not key.endswith(f"/{ABOUT}"), key)):
            version = key.split("/")[2]
            if version not in needed[name] or version not in there:
                prunables.add("models", key, store.size(key) or 0)


def _labels_published(store: Store, config: Config) -> set[str]:
    current = store.get_json(CURRENT) or {}
    exports = [current, *_exports_before(current, config)]
    return {label for export in exports
            for label in (*export.get("parts", ()), *export.get("measured_by", ()))}


def _exports_before(current: dict[str, Any], config: Config) -> list[dict[str, Any]]:
    """Those that stay, of the ones that were published before."""
    return current.get("before", [])[-config.prune.exports:][:config.prune.exports]


def _exports(store: Store, config: Config, prunables: Prunable) -> None:
    current = store.get_json(CURRENT) or {}
    models = {current.get("model"), *(export["model"] for export in _exports_before(current, config))}
    for key in store.backend.list(EXPORTS):
        if key != CURRENT and key.split("/")[1] not in models:
            prunables.add("exports", key, store.size(key) or 0)
