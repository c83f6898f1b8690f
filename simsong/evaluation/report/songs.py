"""Songs one can see and hear: the map, and examples with their neighbours."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from simsong.evaluation.ground_truth import EvaluationSongs
from simsong.evaluation.ranking import prepare
from simsong.evaluation.report.charts import point_map
from simsong.evaluation.report.data import Neighbours, ReportData
from simsong.search.topk import top_k

GENRES, MAP_SONGS = 10, 2000


def examples(embedding: np.ndarray, songs: EvaluationSongs, count: int = 6, k: int = 5,
             name: str = "wns") -> list[Neighbours]:
    """Songs spread over the genres, with their k nearest; the same ones each time.

    Args:
        embedding: (n, d), NaN rows for songs without one; name: the method's, which says how to compare them.
    """
    unit = prepare(name, embedding)
    rows = np.flatnonzero(np.isfinite(embedding).all(axis=1))
    order = np.random.default_rng(0).permutation(rows)
    by_genre: Counter[str | None] = Counter()
    turns = []
    for row in order.tolist():
        turns.append((by_genre[songs.genres[row]], len(turns), row))
        by_genre[songs.genres[row]] += 1
    queries = np.array([row for _, _, row in sorted(turns)[:count]], dtype=np.int64)
    if not len(queries):
        return []
    indices, cosines = top_k(unit[queries], unit, k, exclude=queries)
    neighbours = (list(zip(*row, strict=True))
                  for row in zip(indices.tolist(), cosines.tolist(), strict=True))
    return [Neighbours(query, [(i, cosine) for i, cosine in row if i >= 0])
            for query, row in zip(queries.tolist(), neighbours, strict=True)]


def song_map(report: ReportData) -> dict[str, Any] | None:
    """The map and its legend; None where fewer than five songs are on one."""
    if report.places is None or report.songs is None:
        return None
    rows = np.flatnonzero(np.isfinite(report.places).all(axis=1))
    if len(rows) < 5:
        return None
    of = len(rows)
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:MAP_SONGS])
    genres = [report.songs.genres[i] or "" for i in rows.tolist()]
    common = [g for g, _ in Counter(g for g in genres if g).most_common(GENRES)]
    groups = [f"g{common.index(g)}" if g in common else "other" if g else "none" for g in genres]
    titles = [f"{report.songs.artists[i] or '?'} – {report.songs.titles[i] or '?'}" + (f" ({g})" if g else "")
              for i, g in zip(rows.tolist(), genres, strict=True)]
    count = Counter(groups)
    legend = [(f"g{i}", genre, count[f"g{i}"]) for i, genre in enumerate(common)]
    rest = (("other", "other genres"), ("none", "genre not known"))
    legend += [(css, text, count[css]) for css, text in rest if count[css]]
    svg = point_map(report.places[rows], groups, titles)
    return {"svg": svg, "legend": legend, "shown": len(rows), "of": of}


def neighbour_cards(report: ReportData) -> list[dict[str, Any]]:
    """Each example with what was found: who they are, what they share with the query, and how they sound."""
    songs = report.songs
    if songs is None:
        return []
    artists = songs.artist_codes()

    def song(row: int, query: int, score: float | None = None) -> dict[str, Any]:
        clip = report.clips.get(songs.track_ids[row])
        other = row != query
        return {"artist": songs.artists[row] or "unknown artist", "title": songs.titles[row] or "untitled",
                "genre": songs.genres[row], "score": score, "clip": clip.uri if clip else None,
                "same_genre": other and _same(songs.genres[row], songs.genres[query]),
                "same_artist": other and bool(artists[row] == artists[query])}

    return [{"query": song(n.query, n.query), "found": [song(row, n.query, score) for row, score in n.hits]}
            for n in report.neighbours]


def _same(a: str | None, b: str | None) -> bool:
    return a is not None and a == b
