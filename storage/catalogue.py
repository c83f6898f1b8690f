"""The songs of the catalogue. Parts keep the rows of songs that left it: whoever reads songs reads here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from storage.store import ByShard, Store
from storage.tables import TABLES


@dataclass(frozen=True)
class Catalogue:
    """Reads the rows of a store's tables that are of songs in `tracks`. Raises: PartDamaged."""

    store: Store

    @property
    def shards(self) -> list[int]:
        """Those that have songs."""
        return list(self._ids.spans)

    def ids(self, shard: int | None = None) -> pa.Array:
        """Of all songs, or of a shard's, sorted within a shard."""
        rows = self._ids.rows if shard is None else self._ids.of(shard)
        return rows["track_id"].combine_chunks()

    def without(self, shard: int, track_ids: list[str]) -> list[str]:
        """Those of the songs that are not in the catalogue, or not in that shard of it."""
        there = set(self.ids(shard).to_pylist())
        return [track_id for track_id in track_ids if track_id not in there]

    def parts(self, table: str, partition: str | None = None) -> list[int]:
        """The shards that have songs and that the table has a part of."""
        there = self.store.shards(table, partition)
        return there if partition in TABLES[table].of_all else sorted(self._ids.spans.keys() & there)

    def read(self, table: str, shard: int | None = None, *, partition: str | None = None,
             columns: list[str] | None = None) -> pa.Table:
        """As `Store.read`."""
        names = columns or TABLES[table].schema.names
        with_ids = names if "track_id" in names else ["track_id", *names]
        of_all = partition in TABLES[table].of_all
        shards = self.parts(table, partition) if shard is None else [shard]
        parts = [TABLES[table].schema.empty_table().select(names)]
        for number in shards:
            rows = self.store.read(table, number, partition=partition, columns=with_ids)
            rows = rows.filter(pc.field("track_id").isin(self.ids(None if of_all else number)))
            if rows.num_rows:
                parts.append(rows.select(names))
        return pa.concat_tables(parts[1:] or parts)

    def by_song(self, table: str, shard: int, *, columns: list[str]) -> Iterator[tuple[str, pa.Table]]:
        """As `Store.by_song`."""
        there = set(self.ids(shard).to_pylist())
        for track_id, rows in self.store.by_song(table, shard, columns=columns):
            if track_id in there:
                yield track_id, rows

    def rows_digests(self, table: str, columns: tuple[str, ...], partition: str | None = None) -> list[str]:
        """Of each of `parts`, from footers. Who left changes them only together with those of `tracks`."""
        return [self.store.rows_digest(table, shard, columns, partition)
                for shard in self.parts(table, partition)]

    @property
    def _ids(self) -> ByShard:
        return self.store.by_shard("tracks", ["track_id"])
