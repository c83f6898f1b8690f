"""Stage ingest: sources → the catalogue tables, every track with a shard."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from simsong.config import Config, Sources
from simsong.errors import ConfigError, PartDamaged
from simsong.sources import open_sources
from simsong.sources.base import Source
from simsong.sources.catalogue import Collected, collect
from storage.identity import digest
from storage.store import Store
from storage.tables import TABLES
from tasks.base import Plan, stage_task
from tasks.part import Done, told
from tasks.stages import Run, config_values, is_whole

VERSION = 1
REMEMBERED = "sources.json"


def _plan(run: Run, **_: Any) -> Plan:
    identity = ingest_identity(run.config, _sources(run))
    return Plan(identity, is_whole(run.store, "ingest", identity))


@stage_task("ingest", _plan, "ingest")
def ingest(run: Run) -> Done:
    """Read the sources, if one of them has changed."""
    start, store, sources = time.monotonic(), run.store, _sources(run)
    identity = ingest_identity(run.config, sources)
    _remember(store, run.config.sources)
    if is_whole(store, "ingest", identity):
        return _done(store).reused()
    collected = collect(sources, run.config.catalogue, _known_shards(store))
    outputs: dict[str, str] = {}
    for name, table in TABLES.items():
        if not table.sharded:
            outputs |= store.write(name, [collected.tables.get(name, [])], identity)
    store.write("outcomes", [_outcomes(collected)], identity, partition="ingest",
                facts={"outputs": outputs, "open": 0})
    return _done(store).model_copy(update={"parts_computed": 1, "parts_reused": 0,
                                           "seconds": time.monotonic() - start})


def ingest_identity(config: Config, sources: list[Source]) -> str:
    """Of what the catalogue is made from: fingerprints of the sources' files, and the selection."""
    return digest("ingest", VERSION, config_values(config, ("catalogue",)),
                  [(source.name, source.fingerprint()) for source in sources])


def _sources(run: Run) -> list[Source]:
    """Those configured, else those the store was made from: `retry` and `verify --mend` name none."""
    named = run.config.sources
    if not any(paths for _, paths in named):
        named = Sources.model_validate(run.store.get_json(REMEMBERED) or {})
    sources = open_sources(named)
    if not sources:
        raise ConfigError("no catalogue: name one with --folder DIR, --demo, "
                          "or in the [sources] of simsong.toml")
    return sources


def _remember(store: Store, sources: Sources) -> None:
    named = {name: [str(Path(path).absolute()) for path in paths] for name, paths in sources if paths}
    if named and named != store.get_json(REMEMBERED):
        store.put_json(REMEMBERED, named)


def _outcomes(collected: Collected) -> pa.Table:
    """One row for every record: those in the catalogue, and the rejected (once each) with their reasons."""
    ids = collected.tables["tracks"]["track_id"].to_pylist()
    rows = {i: {"track_id": i, "status": "ok", "attempts": 1} for i in ids}
    for bad in collected.rejected:
        rows.setdefault(bad.track_id, {"track_id": bad.track_id, "status": "failed", "reason": bad.reason,
                                       "detail": bad.detail, "attempts": 1})
    names = ("track_id", "status", "reason", "detail", "attempts")
    return pa.table({name: pa.array([row.get(name) for row in rows.values()],
                                    TABLES["outcomes"].schema.field(name).type) for name in names})


def _known_shards(store: Store) -> dict[str, int]:
    """Every song's shard, also of songs that have left the catalogue (a shard's number is not given out
    again) and where the `tracks` table is lost: the fetching stage's parts tell it too."""
    known: dict[str, int] = {}
    for shard in store.shards("outcomes", "fetch_audio"):
        try:
            ids = store.read("outcomes", shard, partition="fetch_audio", columns=["track_id"])["track_id"]
        except PartDamaged:
            continue
        known |= dict.fromkeys(ids.to_pylist(), shard)
    try:
        rows = store.read("tracks", columns=["track_id", "shard"]).to_pydict()
    except PartDamaged:
        return known
    return known | dict(zip(rows["track_id"], rows["shard"], strict=True))


def ingested(run: Run) -> Done:
    """The catalogue as it is in the store."""
    return _done(run.store).reused()


def _done(store: Store) -> Done:
    shards = sorted(set(store.read("tracks", columns=["shard"])["shard"].to_pylist()))
    done = told("ingest", store.read("outcomes", 0, partition="ingest"), 0, None)
    return done.model_copy(update={"shards": tuple(shards)})
