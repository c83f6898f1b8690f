"""Why two songs are alike, or are not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.answers.library import Library
from simsong.answers.windows import Windows, windows_of
from simsong.errors import ModelError, QueryError, StoreError
from simsong.search.song_query import clock
from simsong.search.space import VectorSpace
from simsong.search.why import Aspect, Moment, closer_than, most_alike, with_shares
from storage.catalogue import Catalogue
from storage.vectors import aligned

SHOWN_LABELS = 6


@dataclass(frozen=True)
class Likeness:
    """Attributes:
        a, b: rows of the library.
        aspects: those that both songs have something of.
        moment: None where the windows of one are not in the store.
    """

    a: int
    b: int
    aspects: list[Aspect]
    moment: Moment | None

    def table(self) -> pa.Table:
        """aspect, share, score, closer_than, detail: a row each."""
        return pa.table({
            "aspect": pa.array([one.name for one in self.aspects], pa.string()),
            **{name: pa.array([round(getattr(one, name), 4) for one in self.aspects], pa.float64())
               for name in ("share", "score", "closer_than")},
            "detail": pa.array([one.detail for one in self.aspects], pa.string())})


def why(library: Library, a: str, b: str) -> Likeness:
    """Args: a, b: songs of the catalogue, by id or "artist - title".

    Raises: SongUnresolved; QueryError where both are one song; StoreError where nothing is published.
    """
    first, second = library.song(a), library.song(b)
    if first == second:
        raise QueryError(f"{library.name_of(first)}: is one song, and why two are alike was asked")
    sound = "the sound of the songs"
    aspects = [_cosine("audio", library.space, first, second, sound), _lyrics(library, first, second),
               _labels(library, "tags", first, second), _labels(library, "genres", first, second)]
    moment = _moment(windows_of(library, first), windows_of(library, second))
    return Likeness(first, second, with_shares([aspect for aspect in aspects if aspect]), moment)


def _moment(a: Windows, b: Windows) -> Moment | None:
    if not (found := most_alike(a.units, b.units)):
        return None
    ((of_a, of_b, score),) = found
    return Moment((float(a.starts_s[of_a]), float(a.ends_s[of_a])),
                  (float(b.starts_s[of_b]), float(b.ends_s[of_b])), score)


def _cosine(name: str, space: VectorSpace, a: int, b: int, detail: str) -> Aspect | None:
    """None where one has no vector."""
    ends = space.units(np.array([a, b]))
    if not ends.any(axis=1).all():
        return None
    score = float(ends[0] @ ends[1])
    others = []
    for end in ends:
        cosines = space.cosines(end)
        cosines[[a, b]] = np.nan
        others.append(closer_than(cosines, score))
    return Aspect(name, score, float(np.mean(others)), detail)


def _lyrics(library: Library, a: int, b: int) -> Aspect | None:
    from simsong.lyrics.models import model_version

    try:
        label = model_version(library.config.lyric_model)
    except ModelError:
        return None
    rows = Catalogue(library.store).read("lyric_embeddings", partition=label,
                                         columns=["track_id", "embedding"])
    vectors = aligned(rows, library.ids)
    return None if vectors is None else _cosine("lyrics", VectorSpace(vectors), a, b,
                                                "what the words are about")


def _labels(library: Library, table: str, a: int, b: int) -> Aspect | None:
    """By the share of labels that both have; how rare that is, by how many songs have as many of a song's."""
    ids = [library.ids[row].as_py() for row in (a, b)]
    own: dict[str, set[str]] = {track_id: set() for track_id in ids}
    for rows in library.store.scan(table, ["track_id", "name"]):
        for row in rows.filter(pc.field("track_id").isin(pa.array(ids))).to_pylist():
            own[row["track_id"]].add(row["name"].casefold())
    of_a, of_b = (own[track_id] for track_id in ids)
    if not of_a or not of_b:
        return None
    both, every = sorted(of_a & of_b), of_a | of_b
    of_songs: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    for rows in library.store.scan(table, ["track_id", "name"]):
        lower = pc.call_function("utf8_lower", [rows["name"]])
        some = pc.call_function("is_in", [lower], pc.SetLookupOptions(pa.array(every)))
        pairs = {(row["track_id"], row["name"].casefold()) for row in rows.filter(some).to_pylist()}
        for track_id, name in pairs:
            for counts, labels in zip(of_songs, (of_a, of_b), strict=True):
                counts[track_id] += name in labels
    there = set(library.ids.to_pylist()) - set(ids)
    ranks = []
    for counts in of_songs:
        shared = [count for track_id, count in counts.items() if track_id in there]
        every_song = np.zeros(len(there))
        every_song[:len(shared)] = shared
        ranks.append(closer_than(every_song, len(both)))
    more = f" and {len(both) - SHOWN_LABELS} more" if len(both) > SHOWN_LABELS else ""
    return Aspect({"genres": "genre"}.get(table, table), len(both) / len(every), float(np.mean(ranks)),
                  ", ".join(both[:SHOWN_LABELS]) + more if both else "nothing in common")


def clips_of(library: Library, likeness: Likeness, folder: Path) -> list[Path]:
    """The two windows that agree most, written as FLAC into a folder, which is made where there is none:
    their paths.

    Raises: StoreError where the store no longer has the windows' sound, or the folder cannot be written.
    """
    if likeness.moment is None:
        raise StoreError("the store has no windows of both songs")
    out = list[Path]()
    for row, span_s in ((likeness.a, likeness.moment.of_a_s), (likeness.b, likeness.moment.of_b_s)):
        track_id, shard = library.ids[row].as_py(), library.shard_of(row)
        columns = ["track_id", "start_s", "audio"]
        windows = iter(()) if shard is None else \
            Catalogue(library.store).by_song("segments", shard, columns=columns)
        sound = next((window["audio"] for found, rows in windows if found == track_id
                      for window in rows.to_pylist() if abs(window["start_s"] - span_s[0]) < 0.01), None)
        if sound is None:
            raise StoreError(f"{track_id}: the store has no sound of {clock(span_s[0])}")
        name = "".join(c if c.isalnum() or c in " -" else "_" for c in library.name_of(row))[:80].strip()
        file = folder / f"{name} {clock(span_s[0]).replace(':', '.')}.flac"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_bytes(sound)
        except OSError as error:
            raise StoreError(f"{file}: cannot be written ({error.strerror or error})") from None
        out.append(file)
    return out
