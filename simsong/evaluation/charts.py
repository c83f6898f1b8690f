"""The report's pictures, as inline SVG that stretches with the page: lines, and a map of points.

Sizes of text and strokes are the page's (CSS), so both stay readable from 400 px up, by day and by night."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

SIZE = 1000                         # of the viewBox either way; the page decides the aspect
POINTS = 400                        # of a drawn line; more are averaged


@dataclass(frozen=True)
class Line:
    """A series (n,) over (n,), in the colour of a CSS class."""

    name: str
    css: str
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Chart:
    """An SVG without its labels, which the page sets beside it: (text, share of the axis 0..1)."""

    svg: Markup
    x_ticks: list[tuple[str, float]]
    y_ticks: list[tuple[str, float]]


def line_chart(lines: Sequence[Line]) -> Chart | None:
    """Each series faint as it is, and strong as its running mean; None where there is nothing finite to
    draw."""
    lines = [Line(line.name, line.css, line.x[ok], line.y[ok]) for line in lines
             if (ok := np.isfinite(line.x) & np.isfinite(line.y)).sum() > 1]
    if not lines:
        return None
    x_ticks = ticks(min(line.x.min() for line in lines), max(line.x.max() for line in lines))
    y_ticks = ticks(min(line.y.min() for line in lines), max(line.y.max() for line in lines))
    x0, x1 = float(min(line.x.min() for line in lines)), float(max(line.x.max() for line in lines))
    y0, y1 = y_ticks[0], y_ticks[-1]

    def across(x: float) -> float:
        return (x - x0) / ((x1 - x0) or 1)

    def up(y: float) -> float:
        return (y - y0) / (y1 - y0)

    shapes = [Markup('<path class="grid" d="M0 {:.1f}H1000"/>').format(SIZE * (1 - up(y))) for y in y_ticks]
    for faint in (True, False):
        for line in lines:
            x, y = _thin(line.x, line.y if faint else _running_mean(line.y))
            path = "L".join(f"{SIZE * across(a):.1f} {SIZE * (1 - up(b)):.1f}"
                            for a, b in zip(x.tolist(), y.tolist(), strict=True))
            shapes.append(Markup('<path class="line {}{}" d="M{}"><title>{}</title></path>').format(
                line.css, " faint" if faint else "", path, line.name))
    return Chart(_svg(", ".join(line.name for line in lines), shapes),
                 [(number(x), across(x)) for x in x_ticks if x0 <= x <= x1],
                 [(number(y), up(y)) for y in y_ticks])


def point_map(xy: np.ndarray, groups: Sequence[str], titles: Sequence[str]) -> Markup:
    """Points (n, 2) with a hover title each, in one <g> of a CSS class for each run of equal `groups`."""
    low, span = xy.min(axis=0), np.ptp(xy, axis=0)
    xy = 20 + (xy - low) / np.where(span > 0, span, 1) * (SIZE - 40)
    shapes = []
    for group in sorted(set(groups)):
        # A line of no length with round ends is a dot whose size does not shrink with the page.
        dots = Markup("").join(
            Markup('<path d="M{:.0f} {:.0f}h.01"><title>{}</title></path>').format(x, SIZE - y, title)
            for (x, y), own, title in zip(xy.tolist(), groups, titles, strict=True) if own == group)
        shapes.append(Markup('<g class="dots {}">{}</g>').format(group, dots))
    return _svg("Map of the songs", shapes)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that enclose low and high."""
    if high <= low:
        low, high = low - 0.5, low + 0.5
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * unit >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def number(value: float | None, digits: int | None = None) -> str:
    """As a person writes it: a true minus sign, thousands apart, no trailing zeros; "–" for None."""
    if value is None:
        return "–"
    text = f"{value:,.{digits}f}" if digits is not None else f"{value:,.10g}"
    return str(escape(text.replace("-", "−")))


def _svg(what: str, shapes: Sequence[Markup]) -> Markup:
    return Markup('<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" '
                  'aria-label="{}">{}</svg>').format(what, Markup("").join(shapes))


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = -(-len(x) // POINTS)
    starts = np.arange(0, len(x), size)
    count = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / count, np.add.reduceat(y, starts) / count


def _running_mean(y: np.ndarray) -> np.ndarray:
    """Mean over a window of about a fifteenth of the line, shorter at its ends."""
    half = max(1, len(y) // 30)
    total = np.concatenate([[0.0], np.cumsum(y)])
    left = np.maximum(np.arange(len(y)) - half, 0)
    right = np.minimum(np.arange(len(y)) + half + 1, len(y))
    return (total[right] - total[left]) / (right - left)
