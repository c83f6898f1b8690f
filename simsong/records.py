"""Values that travel between packages: rows, what came of a song, who was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "pending", "failed"]
TableRows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Rows:
    """Some rows of one table, column-wise: lists, numpy or Arrow arrays of one length. `storage.tables` casts
    them to the declared schema; columns not given are null."""

    table: str
    columns: Mapping[str, Sequence[Any] | Any]


@dataclass(frozen=True)
class Rejected:
    """A record of a source that did not become a row."""

    track_id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Wanted:
    """A song to look for."""

    track_id: str
    artist: str
    title: str
    duration_s: float | None = None
    url: str | None = None          # where its audio is known to be: an http(s) or file URL


@dataclass(frozen=True)
class Outcome:
    """What came of a song at a stage, and the rows it gave, by table."""

    track_id: str
    status: Status
    reason: str | None = None
    detail: str | None = None
    rows: Mapping[str, TableRows] = field(default_factory=dict[str, TableRows])
