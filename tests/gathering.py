"""Catalogues made of lists, as a test gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from simsong.config import CatalogueSettings
from simsong.records import Rejected, Rows
from simsong.sources import Source
from simsong.sources.catalogue import KEYS, SHARDS, Known, collecting
from storage.tables import TABLES


class Given:
    """A source of what it is given."""

    def __init__(self, name: str, *items: Rows | Rejected, annotates: bool = False) -> None:
        self.name, self.items, self.annotates = name, items, annotates      # pyright: ignore[reportAttributeAccessIssue]

    def fingerprint(self) -> str:
        return "0"

    def read(self) -> Iterator[Rows | Rejected]:
        yield from self.items


def tracks(source: str, *ids: str, **columns: list[Any]) -> Rows:
    n = len(ids)
    return Rows("tracks", {"track_id": [*ids], "artist": [f"by {i}" for i in ids],
                           "title": [f"of {i}" for i in ids], "source": [source] * n} | columns)


@dataclass
class Gathered:
    tables: dict[str, pa.Table]
    rejected: list[tuple[str, str, str]]
    shards: dict[str, int]
    facts: dict[str, Any]


def joined(name: str, batches: Iterator[pa.Table]) -> pa.Table:
    batches_read = list(batches)
    return pa.concat_tables(batches_read) if batches_read else TABLES[name].schema.empty_table()


def collected(sources: Sequence[Source], known: dict[str, int] | None = None, **settings: Any) -> Gathered:
    known = known or {}
    shards = pa.table([list(known), list(known.values()), [None] * len(known)], schema=SHARDS)
    with (TemporaryDirectory() as folder,
          collecting(sources, CatalogueSettings.model_validate(settings), Known(shards),
                     Path(folder)) as collected):
        tables = {name: joined(name, collected.rows(name)) for name in ("tracks", "vocabulary", *KEYS)}
        outcomes = joined("outcomes", collected.outcomes()).to_pylist()
        shards = joined("shards", collected.shards(datetime.now(UTC)))
        known = dict(zip(shards["track_id"].to_pylist(), shards["shard"].to_pylist(), strict=True))
        rejected = [(r["track_id"], r["reason"], r["detail"]) for r in outcomes if r["status"] == "failed"]
        return Gathered(tables, rejected, known, collected.facts)


def gather(*sources: Given, known: dict[str, int] | None = None, **settings: Any) -> Gathered:
    return collected(sources, known, **settings)                  # pyright: ignore[reportArgumentType]


def by_id(collected: Gathered) -> dict[str, dict[str, Any]]:
    return {row["track_id"]: row for row in collected.tables["tracks"].to_pylist()}
