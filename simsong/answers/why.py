"""Why two songs are alike, or are not: the one answer of `simsong why`, Python, `/api/why` and the page.

Of the store's tables are read the row groups that have the two songs' rows; the other songs that stand in
these, at most OTHERS, are those that the two are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.answers.library import Library
from simsong.answers.windows import Windows, sound_of, windows_of
from simsong.artists import main_artist
from simsong.errors import QueryError, StoreError
from simsong.search.song_query import clock
from simsong.search.topk import has_direction, unit_rows
from simsong.search.why import Aspect, Moment, closer_than, most_alike, with_shares
from storage.lookup import rows_beside, rows_of_song
from storage.tables import TABLES
from storage.vectors import matrix, positions

SHOWN_LABELS = 6
OTHERS = 4_000          # songs that two are compared with: a share is known within 2 %


@dataclass(frozen=True)
class Likeness:
    """Attributes:
        a, b: rows of the library.
        aspects: those that both songs have something of.
        moments: the pairs of windows that agree most, the best first, each window once; none where the
            windows of one are not in the store.
    """

    a: int
    b: int
    aspects: list[Aspect]
    moments: list[Moment]

    @property
    def moment(self) -> Moment | None:
        return self.moments[0] if self.moments else None

    def table(self) -> pa.Table:
        """aspect, share, score, closer_than, detail: a row each."""
        return pa.table({
            "aspect": pa.array([one.name for one in self.aspects], pa.string()),
            **{name: pa.array([_rounded(getattr(one, name)) for one in self.aspects], pa.float64())
               for name in ("share", "score", "closer_than")},
            "detail": pa.array([one.detail for one in self.aspects], pa.string())})

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: reasons as `table` has them, and windows."""
        return {"reasons": self.table().to_pylist(), "windows": [moment.as_dict() for moment in self.moments]}


def why(library: Library, a: str, b: str, pairs: int = 1) -> Likeness:
    """Args: a, b: songs of the catalogue, by id or "artist - title"; pairs: of windows, at most.

    Raises: SongUnresolved; QueryError where both are one song; StoreError where nothing is published.
    """
    two = library.song(a), library.song(b)
    if two[0] == two[1]:
        raise QueryError(f"{library.name_of(two[0])}: is one song, and why two are alike was asked")
    aspects = [_audio(library, two), _lyrics(library, two), _labels(library, "tags", two),
               _labels(library, "genres", two), *_facts(library, two), _listeners(library, two)]
    moments = _moments(windows_of(library, two[0]), windows_of(library, two[1]), pairs)
    return Likeness(*two, with_shares([aspect for aspect in aspects if aspect]), moments)


def _moments(a: Windows, b: Windows, pairs: int) -> list[Moment]:
    return [Moment((int(a.numbers[i]), int(b.numbers[j])), a.span_s(i), b.span_s(j), score)
            for i, j, score in most_alike(a.units, b.units, pairs)]


def _audio(library: Library, two: tuple[int, int]) -> Aspect | None:
    others = np.setdiff1d(np.linspace(0, len(library) - 1, min(OTHERS, len(library))).astype(np.int64), two)
    return _cosine("audio", library.space.units(np.array(two)), library.space.units(others),
                   "the sound of the songs")


def _lyrics(library: Library, two: tuple[int, int]) -> Aspect | None:
    if (label := library.lyric_label) is None:
        return None
    rows = _beside(library, "lyric_embeddings", two, ["track_id", "embedding"], label)
    at = positions(pa.array(_ids(library, two)), rows["track_id"])
    if (at < 0).any():
        return None
    units = unit_rows(matrix(rows))
    others = np.setdiff1d(np.arange(len(units)), at)[:OTHERS]
    return _cosine("lyrics", units[at], units[others], "what the words are about")


def _cosine(name: str, ends: np.ndarray, others: np.ndarray, detail: str) -> Aspect | None:
    """Of unit vectors (2, dim) and (m, dim). None where one of the two has no direction."""
    if not (has_direction(ends) & ends.any(axis=1)).all():
        return None
    score = float(ends[0] @ ends[1])
    others = others[has_direction(others) & others.any(axis=1)]
    return Aspect(name, score, float(np.mean([closer_than(others @ end, score) for end in ends])), detail)


def _labels(library: Library, table: str, two: tuple[int, int]) -> Aspect | None:
    """By the share of labels that both have; how rare that is, by how many songs have as many of a song's."""
    rows = _beside(library, table, two, ["track_id", "name"])
    rows = rows.set_column(1, "name", pc.call_function("utf8_lower", [rows["name"]]))
    ids = _ids(library, two)
    of_a, of_b = (set(rows.filter(pc.field("track_id") == track_id)["name"].to_pylist()) for track_id in ids)
    if not of_a or not of_b:
        return None
    both, every = sorted(of_a & of_b), of_a | of_b
    counts: dict[str, list[int]] = {track_id: [0, 0] for track_id in rows["track_id"].unique().to_pylist()}
    for row in rows.filter(pc.field("name").isin(pa.array(every))).group_by(
            ["track_id", "name"]).aggregate([]).to_pylist():
        for end, own in enumerate((of_a, of_b)):
            counts[row["track_id"]][end] += row["name"] in own
    shared = np.array([own for track_id, own in counts.items() if track_id not in ids][:OTHERS], np.float64)
    ranks = [closer_than(shared.reshape(-1, 2)[:, end], len(both)) for end in range(2)]
    more = f" and {len(both) - SHOWN_LABELS} more" if len(both) > SHOWN_LABELS else ""
    return Aspect({"genres": "genre"}.get(table, table), len(both) / len(every), float(np.mean(ranks)),
                  ", ".join(both[:SHOWN_LABELS]) + more if both else "nothing in common")


def _facts(library: Library, two: tuple[int, int]) -> list[Aspect]:
    """That both are by one artist, and on one album."""
    (artist, other), (album, other_album) = (
        [library.text_of(column, row) or "" for row in two] for column in ("artist", "release"))
    if (main := main_artist(artist)) is None or main != main_artist(other):
        return []
    facts = [Aspect("artist", None, detail=f"both by {artist}")]
    if album and album.strip().casefold() == other_album.strip().casefold():
        facts.append(Aspect("album", None, detail=f"both on {album}"))
    return facts


def _listeners(library: Library, two: tuple[int, int]) -> Aspect | None:
    """Last.fm's, whichever of the two it names."""
    a, b = _ids(library, two)
    scores = [row["score"] for own, other in ((a, b), (b, a))
              for row in rows_of_song(library.store, "similars", own, ["similar_id", "score"]).to_pylist()
              if row["similar_id"] == other]
    return Aspect("listeners", float(max(scores)), detail="people who hear one hear the other (Last.fm)") \
        if scores else None


def clips_of(library: Library, likeness: Likeness, folder: Path) -> list[Path]:
    """The two windows that agree most, written as FLAC into a folder, which is made where there is none:
    their paths.

    Raises: StoreError where the store no longer has the windows' sound, or the folder cannot be written.
    """
    if (moment := likeness.moment) is None:
        raise StoreError("the store has no windows of both songs")
    out = list[Path]()
    spans_s = (moment.of_a_s, moment.of_b_s)
    for row, number, span_s in zip((likeness.a, likeness.b), moment.numbers, spans_s, strict=True):
        if (sound := sound_of(library, row, number)) is None:
            raise StoreError(f"{library.ids[row].as_py()}: the store has no sound of {clock(span_s[0])}")
        name = "".join(c if c.isalnum() or c in " -" else "_" for c in library.name_of(row))[:80].strip()
        file = folder / f"{name} {clock(span_s[0]).replace(':', '.')}.flac"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_bytes(sound)
        except OSError as error:
            raise StoreError(f"{file}: cannot be written ({error.strerror or error})") from None
        out.append(file)
    return out


def _ids(library: Library, two: Sequence[int]) -> list[str]:
    return [library.ids[row].as_py() for row in two]


def _beside(library: Library, table: str, two: Sequence[int], columns: list[str],
            partition: str | None = None) -> pa.Table:
    """The row groups that have the two songs' rows, each once."""
    if not TABLES[table].sharded:
        return rows_beside(library.store, table, _ids(library, two), columns)
    of_shard: dict[int, list[str]] = {}
    for row, track_id in zip(two, _ids(library, two), strict=True):
        if (shard := library.shard_of(row)) is not None:
            of_shard.setdefault(shard, []).append(track_id)
    none = pa.schema([TABLES[table].schema.field(name) for name in columns]).empty_table()
    found = [rows_beside(library.store, table, ids, columns, shard, partition)
             for shard, ids in of_shard.items()]
    return pa.concat_tables([rows for rows in found if rows.num_rows] or [none])


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
