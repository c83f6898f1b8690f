"""Training: the curves of all models side by side, and a card for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simsong.evaluation.report.charts import Chart, Line, line_chart
from simsong.evaluation.report.words import css, duration, label

CURVES = (("loss", "Loss", "in nats; what training lowers"),
          ("learning_rate", "Learning rate", "how far a step goes"),
          ("sd_log_w", "Spread of the weights", "sd(log w): lyrics weigh from 0.3 on"),
          ("alignment", "Alignment", "mean squared distance of two segments of one song; less is closer"),
          ("uniformity", "Uniformity", "how evenly songs fill the space; less is more even"),
          ("views_per_s", "Throughput", "segments a second, learning included"))
# The tables of a card in their order; others follow.
TITLES = {"data": "Data", "cost": "Cost", "validated": "Validation", "weighting": "Weights of the negatives",
          "training": "Configuration", "model": "Model", "preset": "Preset", "seeds": "Seeds",
          "versions": "Versions"}
LEFT_OUT = ("loss", "curves", "epochs", "validation", "warnings", "key")
LONG = 12                       # a list of more is no fact of a card


def training_charts(cards: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, Chart]]:
    """(title, what it is, chart) of each figure that any training logged, over its steps."""
    out = []
    for key, title, about in CURVES:
        lines = [_line(card, card.get("curves") or [], key) for card in cards]
        if chart := line_chart(lines):
            out.append((title, about, chart))
    metric = _validated(cards)
    if metric is not None:
        lines = []
        for card in cards:
            line = _line(card, card.get("validation") or [], metric)
            lines.append(Line(line.name, line.css, line.x, line.y, best_validation(card, metric)))
        if chart := line_chart(lines, smooth=False):
            validation = (f"Validation {metric}", "of artists that no step heard; the best is large", chart)
            out.insert(1, validation)
    return out


def best_validation(card: Mapping[str, Any], metric: str) -> int | None:
    """The index of the point that the card says is the best, else of the first of the highest."""
    points = card.get("validation") or []
    best = (card.get("validated") or {}).get("best")
    if best is not None and best in points:
        return points.index(best)
    values = [point.get(metric) for point in points]
    numbers = [value for value in values if value is not None]
    return values.index(max(numbers)) if numbers else None


def training_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a card shows folded (method, summary, warnings), and the tables under it: (title, rows)."""
    loose = {key: value for key, value in card.items()
             if key not in LEFT_OUT and value is not None and not isinstance(value, Mapping)}
    inner = {key: value for key, value in card.items() if isinstance(value, Mapping) and key not in LEFT_OUT}
    order = [*(key for key in TITLES if key in inner), *(key for key in inner if key not in TITLES)]
    tables = [("Model", _facts(loose))] if loose and "model" not in inner else []
    for key in order:
        facts = _facts(inner[key]) | (_facts(loose) if key == "model" else {})
        tables.append((TITLES.get(key, key.replace("_", " ").capitalize()), facts))
    return {"method": card["loss"], "summary": _summary(card), "warnings": list(card.get("warnings") or []),
            "tables": [(title, facts) for title, facts in tables if facts]}


def _summary(card: Mapping[str, Any]) -> list[str]:
    """In a few words: how long, on how much."""
    curve, data, cost = card.get("curves") or [], card.get("data") or {}, card.get("cost") or {}
    out = []
    if steps := card.get("steps"):
        out.append(f"{steps:,} steps")
    if songs := data.get("songs_used", data.get("songs")):
        out.append(f"{songs:,} songs")
    if cost.get("seconds"):
        out.append(duration(cost["seconds"]))
    if curve and curve[-1].get("loss") is not None:
        out.append(f"last loss {curve[-1]['loss']:.3f}")
    return out


def _line(card: Mapping[str, Any], points: Sequence[Mapping[str, Any]], key: str) -> Line:
    points_of_key = [point for point in points if point.get(key) is not None]
    x, y = (np.array([point[name] for point in points_of_key], dtype=float) for name in ("step", key))
    return Line(label(card["loss"]), css(card["loss"]), x, y)


def _validated(cards: Sequence[Mapping[str, Any]]) -> str | None:
    """The recall that validation logged: at 10, else the first."""
    logged = [key for card in cards for point in card.get("validation") or [] for key in point
              if key.startswith("recall@")]
    return "recall@10" if "recall@10" in logged else logged[0] if logged else None


def _facts(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Names a person reads → values; inner ones under "outer: inner", long lists left out."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        name = before + key.replace("_", " ")
        if isinstance(value, Mapping):
            out |= _facts(value, f"{name}: ")
        elif not _large(value):
            out[name] = value
    return out


def _large(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and (
        len(value) > LONG or any(isinstance(v, (Mapping, list, tuple)) for v in value))
