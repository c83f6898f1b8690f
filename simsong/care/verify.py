"""Whether a store holds what was written, and what its configuration asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from simsong.config import Config
from simsong.errors import PartDamaged
from simsong.parts.stages import MFCC, STAGES, part_identity, stage_of
from simsong.progress import track
from simsong.registry.models import UNTRAINED, files_of_models, promoted
from storage.catalogue import Catalogue
from storage.store import Store

Fault = Literal["damaged", "stale", "missing"]


@dataclass(frozen=True)
class Finding:
    key: str
    fault: Fault        # stale: whole, but made from something else than what is there now
    detail: str


def verify(store: Store, config: Config) -> Iterator[Finding]:
    """Check every part's bytes against its seal and its identity, every other file against its digest."""
    damaged: set[str] = set()
    named = files_of_models(store)                  # files beside the tables
    outputs: dict[str, str] = {}                    # parts that their outcomes name
    parts = store.backend.list("tables")
    for key in track(parts, "verify", unit="parts"):
        try:
            footer = store.check(key)
        except PartDamaged as error:
            damaged.add(key)
            yield Finding(key, "damaged", error.detail)
        else:
            named |= footer.facts.get("files", {})
            outputs |= footer.facts.get("outputs", {})
    for key, seal in outputs.items():
        if key in damaged or (there := store.seal(key)) == seal:
            continue
        damaged.add(key)
        if there is None:
            yield Finding(key, "missing", "the part that its outcomes speak of is not there")
        else:
            yield Finding(key, "stale", "a run ended between it and its outcomes; the next run sees to it")
    for key, (_, digest) in track(sorted(named.items()), "verify", unit="files"):
        size = store.size(key)
        if size is None:
            yield Finding(key, "missing", "it is not there")
        elif store.sha256(key) != digest:
            yield Finding(key, "damaged", "its bytes are not those that were written")
    yield from _stale(store, config, damaged)


def _stale(store: Store, config: Config, damaged: set[str]) -> Iterator[Finding]:
    labels = [promoted(store, name) for name in (UNTRAINED, *config.training.losses)]
    for partition in store.partitions("outcomes"):
        stage = STAGES.get(stage_of(partition))
        if stage is None:
            continue
        label = partition.partition("-")[2] or None
        if stage.name == "embed" and label not in (MFCC, *labels):
            continue            # of a model that another has followed
        for shard in Catalogue(store).parts("outcomes", partition):     # others wait for their songs
            key = f"tables/outcomes/stage={partition}/{shard:05d}.parquet"
            try:
                if key in damaged:
                    continue
                made_from = store.footers("outcomes", shard, partition)[0].identity
                if made_from != part_identity(store, config, stage, shard, label):
                    yield Finding(key, "stale",
                                  "its inputs or configuration have changed; the next run computes it")
            except PartDamaged:
                continue        # an input is damaged, and was told


def remove(store: Store, findings: list[Finding]) -> int:
    """Remove what is damaged, so that the next run computes it. Tables of fetching stages stay, and their
    outcomes are opened: the next run keeps what can be read of them. Returns how many files there were."""
    keys = {finding.key for finding in findings if finding.fault == "damaged"}
    observed = {table: stage.name for stage in STAGES.values() if stage.observes for table in stage.writes}
    for key in sorted(keys):
        table = key.split("/")[1]
        if table in observed:
            _open(store, observed[table], int(Path(key).stem))
        else:
            store.delete(key)
    return len(keys)


def _open(store: Store, partition: str, shard: int) -> None:
    """Have the next run look at a part again, as it does anyway where the outcomes are gone or damaged."""
    try:
        rows = store.read("outcomes", shard, partition=partition)
        footers = store.footers("outcomes", shard, partition)
    except PartDamaged:
        return
    for footer in footers:
        store.write("outcomes", [rows], footer.identity, shard=shard, partition=partition,
                    facts={**footer.facts, "open": footer.facts["open"] + 1})
