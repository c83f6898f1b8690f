"""Artists near to one, as they were written when the songs were published (stage `artists`)."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.compute as pc

from simsong.answers.library import Library
from storage.lookup import rows_beside


@dataclass(frozen=True)
class NearArtist:
    """Attributes: songs: how many published ones; score: the cosine of the means of the two's songs."""

    artist_id: str
    name: str
    songs: int
    score: float


def similar_artists(library: Library, name: str, k: int) -> list[NearArtist]:
    """The k artists nearest to one, at most as many as were written (50); none where none were.

    Args: name: an artist's, with or without guests, or an id. Raises: QueryError for one that is nobody's.
    """
    artist_id = library.artist_named(name)
    columns = ["artist_id", "rank", "similar_id", "score"]
    rows = rows_beside(library.store, "artist_neighbours", [artist_id], columns)
    near = rows.filter((pc.field("artist_id") == artist_id) & (pc.field("rank") <= k)).sort_by("rank")
    about = {row["artist_id"]: row for row in library.artist_rows.filter(
        pc.field("artist_id").isin(near["similar_id"].combine_chunks())).to_pylist()}
    nearest = [(about.get(row["similar_id"]), row["score"]) for row in near.to_pylist()]
    return [NearArtist(other["artist_id"], other["artist"] or other["artist_id"], other["songs"], score)
            for other, score in nearest if other]
