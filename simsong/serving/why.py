"""Why two songs are near, in words, and the windows that agree most."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc

from simsong.answers.windows import Windows, windows_of
from simsong.search.topk import unit_rows
from simsong.search.why import most_alike
from simsong.serving.snapshot import Snapshot
from storage.lookup import rows_of_song
from storage.vectors import matrix


def windows(songs: Snapshot, row: int) -> list[dict[str, Any]]:
    """As `schemas.Window`."""
    own = windows_of(songs.library, row)
    return [_window(own, number) for number in range(len(own.starts_s))]


def why(songs: Snapshot, a: int, b: int, pairs: int) -> dict[str, Any]:
    """As `schemas.Why`."""
    one, other = songs.song(a), songs.song(b)
    units = songs.library.space.units(np.array([a, b]))
    reasons = [_reason("sound", float(units[0] @ units[1]), "how alike they sound as a whole")]
    if (score := _lyrics(songs, a, b)) is not None:
        reasons.append(_reason("lyrics", score, "how alike their words are"))
    for aspect, ours, theirs in (
        ("genres", one["genres"], other["genres"]),
        ("tags", songs.tags(a), songs.tags(b)),
    ):
        if shared := [name for name in ours if name in theirs]:
            reasons.append(
                _reason(aspect, len(shared) / len({*ours, *theirs}), f"both: {', '.join(shared[:8])}")
            )
    if one["artist"] and one["artist"] == other["artist"]:
        reasons.append(_reason("artist", None, f"both by {one['artist']}"))
    if one["album"] and (one["album"], one["artist"]) == (other["album"], other["artist"]):
        reasons.append(_reason("album", None, f"both on {one['album']}"))
    if (score := _listeners(songs, one["track_id"], other["track_id"])) is not None:
        reasons.append(_reason("listeners", score, "people who hear one hear the other (Last.fm)"))
    return {"a": one, "b": other, "reasons": reasons, "windows": _agreeing(songs, a, b, pairs)}


def _agreeing(songs: Snapshot, a: int, b: int, pairs: int) -> list[dict[str, Any]]:
    """Pairs of windows, best first, each window once."""
    ours, theirs = windows_of(songs.library, a), windows_of(songs.library, b)
    return [
        {"a": _window(ours, i), "b": _window(theirs, j), "score": round(score, 4)}
        for i, j, score in most_alike(ours.units, theirs.units, pairs)
    ]


def _window(own: Windows, number: int) -> dict[str, Any]:
    return {
        "number": number,
        "start_s": round(float(own.starts_s[number]), 3),
        "end_s": round(float(own.ends_s[number]), 3),
    }


def _lyrics(songs: Snapshot, a: int, b: int) -> float | None:
    label, vectors = songs.lyric_label, []
    if label is None:
        return None
    for row in (a, b):
        if (shard := songs.library.shard_of(row)) is None:
            return None
        rows = songs.store.read("lyric_embeddings", shard, partition=label, columns=["track_id", "embedding"])
        own = rows.filter(pc.field("track_id") == songs.ids[row])
        if not own.num_rows:
            return None
        vectors.append(unit_rows(matrix(own))[0])
    return float(vectors[0] @ vectors[1])


def _listeners(songs: Snapshot, a: str, b: str) -> float | None:
    """Last.fm's, whichever of the two it names."""
    both = ((a, b), (b, a))
    found = [
        row["score"]
        for own, other in both
        for row in rows_of_song(songs.store, "similars", own, ["similar_id", "score"]).to_pylist()
        if row["similar_id"] == other
    ]
    return max(found) if found else None


def _reason(aspect: str, score: float | None, detail: str) -> dict[str, Any]:
    return {
        "aspect": aspect,
        "score": None if score is None or not np.isfinite(score) else round(score, 4),
        "detail": detail,
    }
