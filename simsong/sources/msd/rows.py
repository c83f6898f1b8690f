"""Columns as they were read, made into rows of a table: what the database and text forms share."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported.)

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.records import Rejected, Rows
from simsong.sources.base import COLUMNS, derived_id, text
from simsong.sources.columns import usable_ids


class Sieve:
    """Lets rows through whose needed columns are known, and rejects the rest. One for each reading."""

    def __init__(self, source: str, table: str, needed: tuple[str, ...], expected: str) -> None:
        """expected: what a record should be, for messages."""
        self.source, self.table, self.needed, self.expected = source, table, needed, expected
        self._ranks: dict[str, int] = {}        # by artist: how many similar ones there were

    def rows(self, columns: Mapping[str, pa.Array], at: Callable[[int], str]) -> Iterator[Rows | Rejected]:
        """Args:
            columns: of one length, with at least the needed ones; the rest of the table's are null.
            at: the place of a row, counted from 0, for messages.
        """
        usable_of = {name: usable_ids(columns[name]) if name.endswith("_id")
                     else columns[name].is_valid().to_numpy(zero_copy_only=False) for name in self.needed}
        usable = np.logical_and.reduce(list(usable_of.values()))
        for row in np.flatnonzero(~usable).tolist():
            missing = next(name for name in self.needed if not usable_of[name][row])
            said = ascii(columns[missing][row].as_py())[:60]
            place = text(at(row)) or ""
            own = columns["track_id"][row].as_py() if usable_of.get("track_id", usable)[row] else None
            yield Rejected(own or derived_id("MS", place), "malformed",
                           f"{place}: no usable {missing} ({said}); {self.expected} was expected")
        if self.table == "artist_similars":
            itself = pc.equal(columns["artist_id"], columns["similar_id"]).fill_null(False)
            usable &= ~itself.to_numpy(zero_copy_only=False)
        if not usable.all():
            columns = {name: column.filter(pa.array(usable)) for name, column in columns.items()}
        if n := int(usable.sum()):
            yield Rows(self.table, {name: self._column(name, columns, n) for name in COLUMNS[self.table]})

    def _column(self, name: str, columns: Mapping[str, pa.Array], n: int) -> pa.Array:
        if name == "rank":
            return self._ranked(columns["artist_id"])
        if name == "source":
            return pa.repeat(self.source, n)
        return columns.get(name, pa.nulls(n))

    def _ranked(self, artists: pa.Array) -> pa.Array:
        """How many rows of its artist were before each row, in this batch and in earlier ones."""
        coded = artists.dictionary_encode()
        names, codes = coded.dictionary.to_pylist(), coded.indices.to_numpy()
        counts = np.bincount(codes, minlength=len(names))
        before = np.array([self._ranks.get(name, 0) for name in names])
        self._ranks.update(zip(names, (before + counts).tolist(), strict=True))
        ranks = np.empty(len(codes), np.int32)
        ranks[np.argsort(codes, kind="stable")] = (
            np.arange(len(codes)) + np.repeat(before - np.cumsum(counts) + counts, counts))
        return pa.array(ranks)
