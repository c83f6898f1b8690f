"""The report: one HTML page that needs nothing but itself (and, to listen, the audio beside it)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from simsong.evaluation.charts import Chart, Line, line_chart, number, point_map
from simsong.evaluation.evaluate import CLAIM_QUERIES
from simsong.evaluation.ground_truth import Songs
from simsong.evaluation.projection import project
from simsong.evaluation.ranking import prepare
from simsong.search.topk import top_k

LABELS = {"wns": "WNS", "ns": "NS", "mfcc": "MFCC", "timbre": "MSD timbre", "lyrics": "Lyrics",
          "words": "Words", "untrained": "Untrained", "random": "Random"}
GENRES, MAP_SONGS = 10, 2000
TABLE = ("recall@1", "recall@10", "recall@100", "hit_rate@10", "ndcg@10", "map", "mrr", "hubness", "coverage",
         "cosine_relevant", "cosine_random")
SETTINGS = (("Among all songs", ()), ("Among all songs, without the query's artist", ("artist_filter",)),
            ("Among held-out songs", ("held_out",)),
            ("Among held-out songs, without the query's artist", ("held_out", "artist_filter")))


@dataclass(frozen=True)
class Neighbours:
    """A song (row of `songs`) and what was found for it: rows and cosines, best first."""

    query: int
    found: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class ReportData:
    """All that the page shows. `funnel`: stage → {"ok": n, "failed": {reason: n}, "pending": {reason: n}},
    in order; `training`: cards with "loss" and "curve"; `evaluation` as `evaluate` gives; `embedding` (n, d)
    for the map, NaN rows for songs without one; `audio`: track_id → path relative to the page, not
    URL-encoded."""

    store: str
    made_at: datetime
    description: str                               # what the songs are, in a sentence
    synthetic: bool
    versions: Mapping[str, str] = field(default_factory=dict)
    funnel: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    training: Sequence[Mapping[str, Any]] = ()
    evaluation: Mapping[str, Any] | None = None
    songs: Songs | None = None
    embedding: np.ndarray | None = None
    embedding_name: str = "wns"
    neighbours: Sequence[Neighbours] = ()
    audio: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a paired difference allows to say. `claim` only where there are queries enough and the interval
    excludes 0."""

    pair: str
    text: str
    claim: bool
    value: float | None
    low: float | None
    high: float | None


def verdicts(evaluation: Mapping[str, Any], path: Sequence[str] = (),
             metric: str = "recall@10") -> list[Verdict]:
    """A sentence for each pair of methods; `path` as in SETTINGS."""
    protocol, out = evaluation["protocol"], []
    for pair, row in evaluation["differences"].items():
        a, b = _split(pair, evaluation["methods"])
        cell = (_at(row, path) or {}).get(metric)
        if cell is None or cell["value"] is None:
            continue
        value, low, high = cell["value"], cell["low"], cell["high"]
        counts = protocol["pools"]["held_out" if "held_out" in path else "everything"]
        queries = (counts["artist_filter"] if "artist_filter" in path else counts)["queries"]
        claim = False
        if not protocol["claim"] or queries < CLAIM_QUERIES:
            text = f"No claim: {number(queries)} queries, and a claim needs {CLAIM_QUERIES}"
        elif low is None or high is None:
            text = "No claim: there is no interval"
        elif low <= 0 <= high:
            text = "No claim: the interval includes 0"
        else:
            claim = True
            winner, loser, size = (a, b, (value, low, high)) if value > 0 else (b, a, (-value, -high, -low))
            text = f"{label(winner)} beats {label(loser)} by {number(size[0], 3)} " \
                   f"[{number(size[1], 3)}, {number(size[2], 3)}]"
        out.append(Verdict(f"{label(a)} − {label(b)}", text, claim, value, low, high))
    return out


def examples(embedding: np.ndarray, songs: Songs, count: int = 6, k: int = 5) -> list[Neighbours]:
    """Songs spread over the genres, with their k nearest; the same ones each time."""
    rows = np.flatnonzero(np.isfinite(embedding).all(axis=1))
    order = np.random.default_rng(0).permutation(rows)
    seen: Counter[str | None] = Counter()
    turns = []
    for row in order.tolist():
        turns.append((seen[songs.genres[row]], len(turns), row))
        seen[songs.genres[row]] += 1
    queries = np.array([row for _, _, row in sorted(turns)[:count]], dtype=np.int64)
    if not len(queries):
        return []
    indices, cosines = top_k(embedding[queries], embedding, k, exclude=queries)
    found = (list(zip(*row, strict=True)) for row in zip(indices.tolist(), cosines.tolist(), strict=True))
    return [Neighbours(query, [(i, cosine) for i, cosine in row if i >= 0])
            for query, row in zip(queries.tolist(), found, strict=True)]


def render(report: ReportData) -> str:
    """The page, as HTML. All text is escaped: titles are other people's."""
    environment = Environment(loader=PackageLoader("simsong.evaluation", "."), autoescape=True,
                              trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"label": label, "number": number, "said": said}
    evaluations = _evaluations(report.evaluation)
    return environment.get_template("report.html.j2").render(
        report=report, funnel=_funnel(report.funnel), evaluations=evaluations, at=_at,
        metrics=TABLE, curves=_curves(report.training), cards=[_card(c) for c in report.training],
        map=_map(report), neighbours=_neighbours(report))


def label(method: str) -> str:
    return LABELS.get(method, method)


def said(value: Any) -> str:
    """A value of a card as text: numbers short, lists with commas."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, (int, float)):
        return number(float(f"{value:.4g}") if isinstance(value, float) and math.isfinite(value) else value)
    return ", ".join(said(v) for v in value) if isinstance(value, (list, tuple)) else str(value)


def _at(row: Any, path: Sequence[str]) -> Any:
    for key in path:
        row = row.get(key) if row else None
    return row


def _split(pair: str, methods: Mapping[str, Any]) -> tuple[str, str]:
    """The two methods of "a-b", of whose names either may hold a dash."""
    cuts = ((pair[:m.start()], pair[m.end():]) for m in re.finditer("-", pair))
    return next((a, b) for a, b in cuts if a in methods and b in methods)


def _funnel(funnel: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for stage, counts in funnel.items():
        row: dict[str, Any] = {"stage": stage.replace("_", " "), "ok": counts.get("ok", 0)}
        for kind in ("failed", "pending"):
            row[kind] = sorted((counts.get(kind) or {}).items(), key=lambda item: -item[1])
            row[f"n_{kind}"] = sum(n for _, n in row[kind])
        rows.append(row)
    most = max((r["ok"] + r["n_failed"] + r["n_pending"] for r in rows), default=0) or 1
    for row in rows:
        row["shares"] = [(kind, 100 * row[key] / most) for kind, key in
                         (("ok", "ok"), ("pending", "n_pending"), ("failed", "n_failed"))]
    return rows


def _evaluations(evaluation: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The headline ground truth, then the others, each with its panels and forest."""
    out = []
    for one in [] if evaluation is None else [evaluation, *evaluation.get("others", {}).values()]:
        metric = "recall@10" if 10 in one["protocol"]["ks"] else f"recall@{one['protocol']['ks'][0]}"
        # Where a ground truth leaves the query's artist out, the other settings are no different.
        settings = [setting for setting in SETTINGS
                    if "artist_filter" in setting[1] or not one["protocol"].get("without_artist")]
        forests = [(name, verdicts(one, path, metric)) for name, path in settings]
        out.append({"protocol": one["protocol"], "methods": one["methods"], "metric": metric,
                    "settings": settings,
                    "forests": [(name, rows, *_extent(rows)) for name, rows in forests if rows],
                    "panels": [_panel(one, k) for k in one["protocol"]["ks"]]})
    return out


def _extent(rows: Sequence[Verdict]) -> tuple[float, float]:
    """(start, length) of an axis that holds 0 and all intervals, with a margin."""
    ends = [0.0, *(end for v in rows for end in (v.low, v.high, v.value) if end is not None)]
    length = (max(ends) - min(ends)) or 1.0
    return min(ends) - 0.04 * length, 1.08 * length


def _panel(evaluation: Mapping[str, Any], k: int) -> dict[str, Any]:
    """Recall@k of every method as bars, in per cent of the panel's width."""
    name = f"recall@{k}"
    rows = [(method, figures[name]) for method, figures in evaluation["methods"].items()
            if figures.get(name, {}).get("value") is not None]
    most = evaluation["protocol"]["pools"]["everything"]["ceiling"].get(name)
    widest = 1.08 * max((cell["high"] or cell["value"] for _, cell in rows), default=0.0) or 1.0
    ceiling_at = 100 * most / widest if most and most <= widest else None
    return {"name": name, "ceiling": most, "ceiling_at": ceiling_at, "rows": [
        {"method": method, **cell, "width": 100 * cell["value"] / widest,
         "from": 100 * (cell["low"] or 0) / widest, "to": 100 * (cell["high"] or 0) / widest}
        for method, cell in rows]}


def _curves(cards: Sequence[Mapping[str, Any]]) -> Chart | None:
    lines = []
    for card in cards:
        curve = [p for p in card.get("curve") or [] if p.get("loss") is not None]
        x, y = (np.array([point[key] for point in curve], dtype=float) for key in ("step", "loss"))
        lines.append(Line(label(card["loss"]), card["loss"], x, y))
    return line_chart(lines)


def _card(card: Mapping[str, Any]) -> dict[str, Any]:
    """A training card's facts, nested ones one level down, without its curve."""
    facts = {}
    for key, value in card.items():
        if isinstance(value, Mapping):
            facts |= {f"{key}: {inner}".replace("_", " "): v for inner, v in value.items() if not _large(v)}
        elif key != "loss" and not _large(value):
            facts[key.replace("_", " ")] = value
    curve = card.get("curve") or []
    return {"loss": card["loss"], "facts": facts, "last": curve[-1].get("loss") if curve else None,
            "steps": curve[-1].get("step") if curve else None}


def _large(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) > 12 or any(isinstance(v, (Mapping, list, tuple)) for v in value)
    return isinstance(value, Mapping)


def _map(report: ReportData) -> dict[str, Any] | None:
    if report.embedding is None or report.songs is None:
        return None
    rows = np.flatnonzero(np.isfinite(report.embedding).all(axis=1))
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
    xy = project(np.nan_to_num(prepare(report.embedding_name, report.embedding[rows])))
    return {"svg": point_map(xy, groups, titles), "legend": legend, "shown": len(rows), "of": of}


def _neighbours(report: ReportData) -> list[dict[str, Any]]:
    songs = report.songs
    if songs is None:
        return []

    def song(row: int, score: float | None = None, genre: str | None = None) -> dict[str, Any]:
        own = songs.genres[row]
        href = report.audio.get(songs.track_ids[row])
        return {"artist": songs.artists[row] or "unknown artist", "title": songs.titles[row] or "untitled",
                "genre": own, "score": score, "same": (own == genre) if own and genre else None,
                "audio": quote(href, safe="/") if href and not re.match(r"[/\\]|[\w+.-]*:", href) else None}

    return [{"query": song(n.query),
             "found": [song(row, score, songs.genres[n.query]) for row, score in n.found]}
            for n in report.neighbours]
