"""How well similar songs are found: curves, bars, forests and tables of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simsong.evaluation.report.charts import Chart, Curve, curve_chart
from simsong.evaluation.report.verdicts import SETTINGS, Verdict, at, counts, headline_metric, verdicts
from simsong.evaluation.report.words import css, label

TABLE = ("recall@1", "recall@10", "recall@100", "hit_rate@10", "ndcg@10", "map", "mrr", "hubness", "coverage",
         "cosine_relevant", "cosine_random")
# What the sound alone is compared by; other pairs are folded away where there are many.
MAIN = ("adapted", "wns", "ns", "wns_shuffled", "musicnn", "pretrained", "mfcc", "timbre", "untrained")
FEW = 10


def evaluations(evaluation: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The headline ground truth, then the others, each with all that its section shows."""
    if evaluation is None:
        return []
    return [_shown(one) for one in (evaluation, *evaluation.get("others", {}).values())]


def settings_of(one: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    """Those that were measured. Where a ground truth leaves the query's artist out, the settings that do not
    are no different."""
    plain = not one["protocol"].get("without_artist")
    return [(name, path) for name, path in SETTINGS
            if ("artist_filter" in path or plain)
            and (not path or any(at(figures, path) for figures in one["methods"].values()))]


def extent(rows: Sequence[Verdict], more: Sequence[float] = ()) -> tuple[float, float]:
    """(start, length) of an axis that holds 0 and all intervals, and more values, with a margin."""
    ends = [0.0, *more, *(end for v in rows for end in (v.low, v.high, v.value) if end is not None)]
    length = (max(ends) - min(ends)) or 1.0
    return min(ends) - 0.04 * length, 1.08 * length


def _shown(one: Mapping[str, Any]) -> dict[str, Any]:
    metric, settings = headline_metric(one["protocol"]), settings_of(one)
    forests = [(name, verdicts(one, path, metric)) for name, path in settings]
    panels = [_panel(one, name, path, metric) for name, path in settings]
    return {"protocol": one["protocol"], "methods": one["methods"], "metric": metric, "settings": settings,
            "counts": {path: counts(one["protocol"], path) for _, path in settings},
            "curves": [(name, chart) for name, path in settings if (chart := _curves(one, path)) is not None],
            "panels": [panel for panel in panels if panel["rows"]],
            "forests": [(name, *_parted(rows), *extent(rows)) for name, rows in forests if rows]}


def _parted(rows: Sequence[Verdict]) -> tuple[list[tuple[str, Verdict, tuple[()]]], ...]:
    """The main pairs and the others, as a forest takes them."""
    main = [v for v in rows if len(rows) <= FEW or {v.a, v.b} <= set(MAIN)]
    return tuple([(v.pair, v, ()) for v in some] for some in (main, [v for v in rows if v not in main]))


def _curves(one: Mapping[str, Any], path: Sequence[str]) -> Chart | None:
    """Recall over k of every method, as far as there is anything left to find."""
    candidates = one["protocol"]["pools"]["held_out" if "held_out" in path else "everything"]["candidates"]
    ks = [k for k in sorted(one["protocol"]["ks"]) if k < candidates]
    names = [f"recall@{k}" for k in ks]
    curves = []
    for method, figures in one["methods"].items():
        cells = [(at(figures, path) or {}).get(name) or {} for name in names]
        y, low, high = (np.array([cell.get(key) for cell in cells], dtype=float)
                        for key in ("value", "low", "high"))
        if np.isfinite(y).any():
            curves.append(Curve(label(method), css(method), y, low, high))
    most = counts(one["protocol"], path)["ceiling"]
    ceiling = np.array([most.get(name) for name in names], dtype=float)
    return curve_chart("recall by k", np.array(ks, dtype=float), curves,
                       ceiling if np.isfinite(ceiling).all() else None)


def _panel(one: Mapping[str, Any], name: str, path: Sequence[str], metric: str) -> dict[str, Any]:
    """A metric of every method as bars, in per cent of the panel's width."""
    rows = [(method, cell) for method, figures in one["methods"].items()
            if (cell := (at(figures, path) or {}).get(metric)) and cell["value"] is not None]
    numbers = counts(one["protocol"], path)
    most = numbers["ceiling"].get(metric)
    widest = 1.08 * max((cell["high"] or cell["value"] for _, cell in rows), default=0.0) or 1.0
    return {"name": name, "queries": numbers["queries"], "ceiling": most,
            "ceiling_at": 100 * most / widest if most and most <= widest else None,
            "rows": [bar(method, cell, widest) for method, cell in rows]}


def bar(method: str, cell: Mapping[str, Any], widest: float) -> dict[str, Any]:
    """A value with its interval, in per cent of a width that stands for `widest`."""
    return {"method": method, "value": cell["value"], "low": cell["low"], "high": cell["high"],
            "width": max(0.0, 100 * cell["value"] / widest),
            "from": 100 * (cell["low"] or 0) / widest, "to": 100 * (cell["high"] or 0) / widest}
