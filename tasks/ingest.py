"""Stage ingest: sources → the catalogue tables, every track with a shard."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pyarrow as pa

from simsong.catalogue.known import ingest_identity, known_songs, loses_many, remember, sources_of
from simsong.errors import CatalogueShrunk
from simsong.parts.compute import Done
from simsong.parts.stages import RunContext, is_whole
from simsong.sources.catalogue import KEYS, Collected, collecting
from storage.reports import CATALOGUE
from storage.store import Store
from tasks.base import stage_task


@stage_task("ingest")
def ingest(run: RunContext) -> Done:
    """Read the sources, if one of them has changed."""
    start, store, sources = time.monotonic(), run.store, sources_of(run.store, run.config)
    identity = ingest_identity(run.config, sources)
    remember(store, run.config.sources)
    if is_whole(store, "ingest", identity):
        return _done(store).reused()
    scratch = store.workspace("ingest")
    try:
        shutil.rmtree(scratch)
        with collecting(sources, run.config.catalogue, known_songs(store), scratch) as collected:
            if not run.config.run.may_shrink:
                _need_songs(collected)
            _write(store, identity, collected)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return _done(store).model_copy(update={"seconds": time.monotonic() - start})


def _need_songs(collected: Collected) -> None:
    """Raises: CatalogueShrunk where the catalogue would lose what nobody removes by the way."""
    lost, songs, ids = collected.lost()
    if loses_many(lost, songs):
        raise CatalogueShrunk(lost, songs, ids)


def _write(store: Store, identity: str, collected: Collected) -> None:
    """All tables, and what is told of them; the outcomes last."""
    outputs: dict[str, str] = {}
    rows: dict[str, int] = {}
    for name in ("tracks", "vocabulary", *KEYS):
        outputs |= store.write(name, collected.rows(name), identity)
        rows[name] = store.footers(name)[0].rows
    outputs |= store.write("shards", collected.shards(datetime.now(UTC)), identity)
    outputs |= store.write("files", collected.files(), identity)
    store.put_json(CATALOGUE, collected.facts | {"rows": rows})
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


def ingested(run: RunContext) -> Done:
    """The catalogue as it is in the store."""
    return _done(run.store).reused()


def _done(store: Store) -> Done:
    """As the outcomes' footer tells it."""
    footers = store.footers("outcomes", 0, "ingest")
    facts = footers[0].facts if footers else {"shards": [], "ok": 0, "failed": {}}
    return Done(stage="ingest", shards=tuple(facts["shards"]), ok=facts["ok"], failed=facts["failed"],
                parts_computed=1)
