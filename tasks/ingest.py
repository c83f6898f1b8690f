"""Stage ingest: sources → the catalogue tables, every track with a shard."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from simsong.config import Config, Sources
from simsong.errors import ConfigError, PartDamaged
from simsong.sources import open_sources
from simsong.sources.base import Source
from simsong.sources.catalogue import KEYS, Collected, collecting
from storage.identity import digest
from storage.store import Store
from tasks.base import Plan, stage_task
from tasks.part import Done
from tasks.stages import CATALOGUE, Run, config_values, is_whole

VERSION = 2
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
    scratch = store.workspace("ingest")
    try:
        shutil.rmtree(scratch)
        with collecting(sources, run.config.catalogue, _known_shards(store), scratch) as collected:
            _write(store, identity, collected)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return _done(store).model_copy(update={"seconds": time.monotonic() - start})


def _write(store: Store, identity: str, collected: Collected) -> None:
    """All tables, and what is told of them; the outcomes last."""
    outputs: dict[str, str] = {}
    rows: dict[str, int] = {}
    for name in ("tracks", "vocabulary", *KEYS):
        outputs |= store.write(name, collected.rows(name), identity)
        rows[name] = store.footers(name)[0].rows
    outputs |= store.write("shards", collected.shards(), identity)
    store.put_json(CATALOGUE, collected.told | {"rows": rows})
    counts = {"ok": rows["tracks"], "failed": dict[str, int]()}
    store.write("outcomes", _counted(collected.outcomes(), counts["failed"]), identity, partition="ingest",
                facts={"outputs": outputs, "open": 0, "shards": collected.live_shards(), **counts,
                       "files": {CATALOGUE: [store.size(CATALOGUE), store.sha256(CATALOGUE)]}})


def _counted(batches: Iterator[pa.Table], failed: dict[str, int]) -> Iterator[pa.Table]:
    """Outcomes as they are written; counts the failed ones by reason."""
    for rows in batches:
        for reason in rows["reason"].drop_null().to_pylist():
            failed[reason] = failed.get(reason, 0) + 1
        yield rows.append_column("attempts", pa.repeat(1, rows.num_rows).cast(pa.int16()))


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


def _known_shards(store: Store) -> pa.Table:
    """track_id, shard: of every song ever catalogued, also of those that have left the catalogue (a shard's
    number is not given out again). Where that table is lost, `tracks` and the fetching stage's parts tell."""
    try:
        if store.footers("shards"):
            return store.read("shards", columns=["track_id", "shard"])
    except PartDamaged:
        pass
    known: dict[str, int] = {}
    for shard in store.shards("outcomes", "fetch_audio"):
        try:
            ids = store.read("outcomes", shard, partition="fetch_audio", columns=["track_id"])["track_id"]
        except PartDamaged:
            continue
        known |= dict.fromkeys(ids.to_pylist(), shard)
    try:
        rows = store.read("tracks", columns=["track_id", "shard"]).to_pydict()
        known |= dict(zip(rows["track_id"], rows["shard"], strict=True))
    except PartDamaged:
        pass
    return pa.table({"track_id": pa.array(known, pa.string()), "shard": pa.array(known.values(), pa.int32())})


def ingested(run: Run) -> Done:
    """The catalogue as it is in the store."""
    return _done(run.store).reused()


def _done(store: Store) -> Done:
    """As the outcomes' footer tells it."""
    footers = store.footers("outcomes", 0, "ingest")
    facts = footers[0].facts if footers else {"shards": [], "ok": 0, "failed": {}}
    return Done(stage="ingest", shards=tuple(facts["shards"]), ok=facts["ok"], failed=facts["failed"],
                parts_computed=1)
