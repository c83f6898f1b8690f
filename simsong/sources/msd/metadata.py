"""The Million Song Dataset's SQLite databases: what is known of tracks and artists, without their analysis.

As distributed: `track_metadata.db`, 1,000,000 rows in `songs`; `artist_similarity.db`, 2,201,916 rows in
`similarity`, the most similar artist first; `artist_term.db`, 1,109,381 rows in `artist_term`. The latter's
MusicBrainz tags are left aside, since the HDF5 files' terms hold none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import ClassVar

import pyarrow as pa

from simsong.errors import CatalogueError
from simsong.progress import meter
from simsong.records import Rejected, Rows
from simsong.sources.base import text
from simsong.sources.columns import Column, clean_column, lost_years, positive_column, year_column
from simsong.sources.msd.rows import Sieve
from simsong.sources.sqlite import Database

EXPECTED = "track_metadata.db, artist_term.db or artist_similarity.db"

Made = Callable[[Column], pa.Array]


class _Database:
    """A table of a database, whose columns become those of one of ours."""

    name: ClassVar[str] = "msd"
    rank: ClassVar[int] = 0
    annotates: ClassVar[bool] = True
    table: ClassVar[str]                                # ours
    made_of: ClassVar[str]                              # theirs
    columns: ClassVar[dict[str, tuple[str, Made]]]      # ours: theirs, and how it is read
    needed: ClassVar[tuple[str, ...]]                   # ours, without which a row is of no use
    known_by: ClassVar[frozenset[str]]                  # theirs, by which it is told from other databases

    def __init__(self, database: Database) -> None:
        self.database = database
        self.left_out: Counter[str] = Counter()     # in the last `read`: "years" not usable

    def fingerprint(self) -> str:
        return self.database.fingerprint()

    def read(self) -> Iterator[Rows | Rejected]:
        there = self.database.columns(self.made_of)
        columns = {ours: theirs for ours, (theirs, _) in self.columns.items() if theirs in there}
        sieve = Sieve(self.name, self.table, self.needed, f"a row of {self.made_of}")
        empty = True
        self.left_out.clear()
        with meter(f"reading {text(self.database.path.name)}", unit="rows") as progress:
            for first, values in self.database.rows(self.made_of, list(columns.values())):
                arrays = {ours: self.columns[ours][1](values[theirs]) for ours, theirs in columns.items()}
                if "year" in arrays:
                    self.left_out["years"] += lost_years(values[columns["year"]], arrays["year"])

                def at(row: int, first: int = first) -> str:
                    return f"{self.database.path.name}: row {first + row} of {self.made_of}"
                yield from sieve.rows(arrays, at)
                progress.step(len(next(iter(arrays.values()))))
                empty = False
        if empty:
            raise CatalogueError(f"{self.database.path}: its table {self.made_of} is empty")


class MetadataDb(_Database):
    """`track_metadata.db`. Its primary key keeps ids from coming twice; in a file without one they may."""

    rank: ClassVar[int] = 3
    annotates: ClassVar[bool] = False
    table, made_of, needed = "tracks", "songs", ("track_id",)
    known_by: ClassVar[frozenset[str]] = frozenset({"track_id", "artist_name", "title"})
    columns: ClassVar[dict[str, tuple[str, Made]]] = {
        "track_id": ("track_id", clean_column), "song_id": ("song_id", clean_column),
        "artist_id": ("artist_id", clean_column), "artist": ("artist_name", clean_column),
        "title": ("title", clean_column), "release": ("release", clean_column),
        "year": ("year", year_column), "duration_s": ("duration", positive_column)}


class ArtistTermDb(_Database):
    """`artist_term.db`: terms of artists, without their weights, which only the HDF5 files have."""

    table, made_of, needed = "artist_terms", "artist_term", ("artist_id", "name")
    known_by: ClassVar[frozenset[str]] = frozenset({"artist_id", "term"})
    columns: ClassVar[dict[str, tuple[str, Made]]] = {
        "artist_id": ("artist_id", clean_column), "name": ("term", clean_column)}


class ArtistSimilarityDb(_Database):
    """`artist_similarity.db`."""

    table, made_of, needed = "artist_similars", "similarity", ("artist_id", "similar_id")
    known_by: ClassVar[frozenset[str]] = frozenset({"target", "similar"})
    columns: ClassVar[dict[str, tuple[str, Made]]] = {
        "artist_id": ("target", clean_column), "similar_id": ("similar", clean_column)}


def open_database(path: str) -> _Database:
    """The database, by its tables. Raises: CatalogueError where it is none of these, naming the tables."""
    database = Database(path, EXPECTED)
    for form in (MetadataDb, ArtistTermDb, ArtistSimilarityDb):
        if form.known_by <= database.columns(form.made_of):
            return form(database)
    tables = ", ".join(database.tables()) or "no table"
    raise CatalogueError(f"{path}: holds {text(tables[:200])}; {EXPECTED} was expected")
