"""What a stage makes each song from, as a digest."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from simsong.config import Config
from simsong.errors import PartDamaged
from simsong.parts.stages import STAGES, Stage, is_short, partition_of
from storage.identity import column_digests, digest
from storage.store import Store
from storage.tables import TABLES


def song_inputs(store: Store, config: Config, stage: Stage, shard: int, label: str | None,
                track_ids: Collection[str]) -> dict[str, str]:
    """Per song of a shard, a digest of all that its rows depend on. Raises: PartDamaged."""
    how = {short: digest(stage.name, stage.version, label,
                         stage.settings(config, short=short, formerly=False)) for short in (True, False)}
    read = {table: song_reads(store, table, shard, columns, partition_of(table, label))
            for table, columns in stage.reads.items()}
    trims, length_s = read.get("trims", {}), config.segments.length_s
    return {track_id: digest(how[track_id in trims and is_short(trims[track_id], length_s)],
                             [rows.get(track_id) for rows in read.values()]) for track_id in track_ids}


def song_reads(store: Store, table: str, shard: int, columns: tuple[str, ...],
               partition: str | None = None) -> dict[str, Any]:
    """Per song of a shard, what those columns hold; of a table that is read by song, a digest of its rows.
    Raises: PartDamaged."""
    declared = TABLES[table]
    if declared.by_song:
        return song_outputs(store, table, shard)
    names = ["track_id", *(name for name in columns if name not in declared.volatile)]
    rows = store.read(table, shard, partition=partition, columns=names).to_pylist()
    return {row.pop("track_id"): row for row in rows}


def song_outputs(store: Store, table: str, shard: int) -> dict[str, str]:
    """Per song of a table that is read by song, the digest of its rows: as the outcomes tell it of the stage
    that wrote them, or, where these are not of that part or are of before, from the rows themselves.

    Raises: PartDamaged.
    """
    writer = next(stage.name for stage in STAGES.values() if table in stage.writes)
    try:
        footers = store.footers("outcomes", shard, writer)
        seals = footers[0].facts["outputs"] if footers else {}
        if seals and all(store.seal(key) == seal for key, seal in seals.items()):
            rows = store.read("outcomes", shard, partition=writer, columns=["track_id", "status", "output"])
            rows = rows.filter(pc.field("status") == "ok")
            if not rows["output"].null_count:
                return dict(zip(rows["track_id"].to_pylist(), rows["output"].to_pylist(), strict=True))
    except PartDamaged:
        pass
    return {track_id: output_of(table, rows) for track_id, rows in store.by_song(table, shard)}


def output_of(table: str, rows: pa.Table) -> str:
    """A digest of a song's rows."""
    names = [name for name in TABLES[table].schema.names if name not in TABLES[table].volatile]
    return digest(column_digests(rows, names))
