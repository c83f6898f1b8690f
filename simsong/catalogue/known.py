"""What a store's catalogue is made of: its sources, their identity, the songs that it knows."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from simsong.config import Config, SourcesSettings, absolute
from simsong.errors import ConfigError, PartDamaged
from simsong.files.sound import is_sound
from simsong.parts.stages import config_values
from simsong.sources import open_sources
from simsong.sources.base import Source
from simsong.sources.catalogue import SHARDS, Known
from storage.identity import digest
from storage.store import Store
from storage.tables import TABLES, conform

VERSION = 3                     # of stage ingest
REMEMBERED = "sources.json"
MOST_LOST = 0.2                 # share of the songs that a refresh may lose without being told that it may
GUARDED_SONGS = 5               # of fewer, one is more than a fifth


def sources_of(store: Store | None, config: Config) -> list[Source]:
    """Those configured, else those the store was made from: `retry` and `verify --mend` name none.

    Raises: ConfigError where there is none; CatalogueError where a path leads to nothing of the kind.
    """
    named = config.sources
    if store is not None and not any(paths for _, paths in named):
        named = SourcesSettings.model_validate(store.get_json(REMEMBERED) or {})
    sources = open_sources(named)
    if not sources:
        raise ConfigError("no catalogue: name one with --folder DIR, --demo, "
                          "or in the [sources] of simsong.toml")
    return sources


def remember(store: Store, sources: SourcesSettings) -> None:
    named = {name: [absolute(path) for path in paths] for name, paths in sources if paths}
    if named and named != store.get_json(REMEMBERED):
        store.put_json(REMEMBERED, named)


def ingest_identity(config: Config, sources: list[Source]) -> str:
    """Of what the catalogue is made from: fingerprints of the sources' files, and the selection."""
    return digest("ingest", VERSION, config_values(config, ("catalogue",)),
                  [(source.name, source.fingerprint()) for source in sources])


def loses_many(lost: int, songs: int) -> bool:
    """Whether a catalogue loses more of the songs that it had than anybody removes by the way."""
    return songs >= GUARDED_SONGS and lost > MOST_LOST * songs


def known_songs(store: Store) -> Known:
    """What the store's catalogues have held so far. Where tables are lost, or of a version before, others
    tell it as far as they can."""
    tracks = _read(store, "tracks")
    shards = _known_shards(store, tracks)
    files = _read(store, "files")
    if not files.num_rows:
        files = _files_of(tracks)
    leavers = shards.filter(pc.field("gone_at").is_valid())["track_id"].combine_chunks()
    is_gone = pc.call_function("is_in", [files["track_id"]], pc.SetLookupOptions(leavers))
    return Known(shards, files.append_column("gone", is_gone))


def _known_shards(store: Store, tracks: pa.Table) -> pa.Table:
    """As SHARDS. A shard's number is not given out again, so those that have left count too."""
    shards = _read(store, "shards")
    if tracks.num_rows:             # a store of the version before does not say which have left, and when
        there = pc.call_function("is_in", [shards["track_id"]],
                                 pc.SetLookupOptions(tracks["track_id"].combine_chunks()))
        now = pa.scalar(datetime.now(UTC), SHARDS.field("gone_at").type)
        left = pc.call_function("if_else", [there, pa.scalar(None, now.type), now])
        dated = pc.call_function("coalesce", [shards["gone_at"], left])
        shards = shards.set_column(shards.column_names.index("gone_at"), "gone_at", dated)
    if shards.num_rows:
        return shards
    shard_of: dict[str, int] = {}
    for shard in store.shards("outcomes", "fetch_audio"):
        try:
            ids = store.read("outcomes", shard, partition="fetch_audio", columns=["track_id"])["track_id"]
        except PartDamaged:
            continue
        shard_of |= dict.fromkeys(ids.to_pylist(), shard)
    shard_of |= dict(zip(tracks["track_id"].to_pylist(), tracks["shard"].to_pylist(), strict=True))
    return pa.table([list(shard_of), list(shard_of.values()), [None] * len(shard_of)], schema=SHARDS)


def _files_of(tracks: pa.Table) -> pa.Table:
    """The local files of a catalogue, of which only `tracks` tells. In a store of the version before their
    fingerprints are size and modification time, and nothing is known of their sounds."""
    local = tracks.filter(pc.field("fingerprint").is_valid() & pc.field("url").is_valid())
    marks = local["fingerprint"].to_pylist()
    return pa.table({"track_id": local["track_id"], "url": local["url"], "stat": local["fingerprint"],
                     "sound": pa.array([mark if is_sound(mark) else None for mark in marks], pa.string()),
                     "fingerprint": local["fingerprint"], "duration_s": local["duration_s"]})


def _read(store: Store, table: str) -> pa.Table:
    """A table of the catalogue; without rows where it is lost."""
    try:
        return conform(TABLES[table], store.read(table))
    except PartDamaged:
        return TABLES[table].schema.empty_table()
