"""What a store's catalogue is made of: its sources, their identity, the songs that it knows. No Prefect."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from simsong.config import Config, Sources
from simsong.errors import ConfigError, PartDamaged
from simsong.sources import open_sources
from simsong.sources.base import Source
from storage.identity import digest
from storage.store import Store
from tasks.stages import config_values

VERSION = 2                     # of stage ingest
REMEMBERED = "sources.json"


def sources_of(store: Store | None, config: Config) -> list[Source]:
    """Those configured, else those the store was made from: `retry` and `verify --mend` name none.

    Raises: ConfigError where there is none; CatalogueError where a path leads to nothing of the kind.
    """
    named = config.sources
    if store is not None and not any(paths for _, paths in named):
        named = Sources.model_validate(store.get_json(REMEMBERED) or {})
    sources = open_sources(named)
    if not sources:
        raise ConfigError("no catalogue: name one with --folder DIR, --demo, "
                          "or in the [sources] of simsong.toml")
    return sources


def remember(store: Store, sources: Sources) -> None:
    named = {name: [str(Path(path).absolute()) for path in paths] for name, paths in sources if paths}
    if named and named != store.get_json(REMEMBERED):
        store.put_json(REMEMBERED, named)


def ingest_identity(config: Config, sources: list[Source]) -> str:
    """Of what the catalogue is made from: fingerprints of the sources' files, and the selection."""
    return digest("ingest", VERSION, config_values(config, ("catalogue",)),
                  [(source.name, source.fingerprint()) for source in sources])


def known_shards(store: Store) -> pa.Table:
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
