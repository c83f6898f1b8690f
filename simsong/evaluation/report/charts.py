"""The report's pictures, as inline SVG that stretches with the page: lines, curves with intervals, and a map.

Sizes of text and strokes are the page's (CSS), so both stay readable from 400 px up, by day and by night."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from simsong.evaluation.report.words import number

SIZE = 1000                         # of the viewBox either way; the page decides the aspect
POINTS = 400                        # of a drawn line; more are averaged
LABEL_GAP = 0.058                   # of the height, between the names of two lines


@dataclass(frozen=True)
class Line:
    """A series (n,) over (n,), in the colour of a CSS class; `marked` is the index of a point to ring."""

    name: str
    css: str
    x: np.ndarray
    y: np.ndarray
    marked: int | None = None


@dataclass(frozen=True)
class Curve:
    """Values (n,) with their intervals over (n,); NaN in `low` and `high` where there is none."""

    name: str
    css: str
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Chart:
    """An SVG without its labels, which the page sets beside it: (text, share of the axis 0..1), and for the
    ends of lines (text, CSS class, share of the height)."""

    svg: Markup
    x_ticks: list[tuple[str, float]]
    y_ticks: list[tuple[str, float]]
    ends: list[tuple[str, str, float]] = field(default_factory=list)


def line_chart(lines: Sequence[Line], smooth: bool = True) -> Chart | None:
    """Each series faint as it is and strong as its running mean, or, not `smooth`, as it is with its points;
    None where there is nothing finite to draw."""
    lines = [finite for line in lines if len((finite := _finite(line)).x) > smooth]
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

    shapes = [_rule(up(y)) for y in y_ticks]
    for faint in (True, False) if smooth else (False,):
        for line in lines:
            x, y = _thin(line.x, line.y if faint or not smooth else _running_mean(line.y))
            shapes.append(_path([across(a) for a in x.tolist()], [up(b) for b in y.tolist()],
                                f"line {line.css}{' faint' if faint else ''}", title=line.name))
    for line in lines if not smooth else []:
        shapes += [_dot(across(x), up(y), f"point {line.css}{' best' if i == line.marked else ''}",
                        f"{line.name}: {number(round(y, 4))} at {number(x)}"
                        f"{', the best' if i == line.marked else ''}")
                   for i, (x, y) in enumerate(zip(line.x.tolist(), line.y.tolist(), strict=True))]
    return Chart(_svg(", ".join(line.name for line in lines), shapes),
                 [(number(x), across(x)) for x in x_ticks if x0 <= x <= x1],
                 [(number(y), up(y)) for y in y_ticks])


def curve_chart(name: str, x: np.ndarray, curves: Sequence[Curve],
                ceiling: np.ndarray | None = None) -> Chart | None:
    """Values in 0..1 over a logarithmic axis of (n,) ascending positive x, with bands for their intervals,
    and dashed the most that they can be; None where there are fewer than two x, or no curve.

    The axis reaches the ceiling only where the values come near it."""
    tops = [float(np.nanmax(np.fmax(curve.y, curve.high))) for curve in curves if np.isfinite(curve.y).any()]
    if len(x) < 2 or not tops:
        return None
    y_ticks = ticks(0.0, 1.0 if max(tops) > 0.5 else 1.05 * max(max(tops), 1e-6))
    top = y_ticks[-1]
    across = (np.log(x / x[0]) / np.log(x[-1] / x[0])).tolist()

    def up(y: float) -> float:
        return y / top

    shapes = [_rule(up(y)) for y in y_ticks]
    if ceiling is not None:
        shapes.append(_clipped(across, [up(y) for y in ceiling.tolist()], "line ceiling"))
    shapes += [_series(curve, x, across, up) for curve in curves]
    ends = [(curve.name, curve.css, up(float(curve.y[-1]))) for curve in curves if np.isfinite(curve.y[-1])]
    return Chart(_svg(name, shapes), [(number(k), at) for k, at in zip(x.tolist(), across, strict=True)],
                 [(number(y), up(y)) for y in y_ticks], spread(ends))


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
    """Round numbers that enclose low and high; a range that is but rounding is widened."""
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        half = min(abs(low) / 2, 0.5) or 0.5
        low, high = low - half, low + half
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * unit >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def spread(ends: Sequence[tuple[str, str, float]], gap: float = LABEL_GAP) -> list[tuple[str, str, float]]:
    """The same from the highest to the lowest, moved apart to at least `gap`, and no further than needed, but
    into 0..1 as far as there is room."""
    ordered = sorted(ends, key=lambda end: -end[2])
    groups: list[list[float]] = []                  # [wanted middle of the group, its size]
    for *_, at in ordered:
        groups.append([at, 1])
        while len(groups) > 1 and groups[-2][0] - groups[-1][0] < gap * (groups[-2][1] + groups[-1][1]) / 2:
            (a, m), (b, n) = groups[-2:]
            groups[-2:] = [[(a * m + b * n) / (m + n), m + n]]
    places = [middle + gap * ((size - 1) / 2 - i) for middle, size in groups for i in range(round(size))]
    for i in range(len(places)):
        places[i] = min(places[i], places[i - 1] - gap if i else 1.0)
    for i in reversed(range(len(places))):
        places[i] = max(places[i], places[i + 1] + gap if i + 1 < len(places) else 0.0)
    return [(name, css, place) for (name, css, _), place in zip(ordered, places, strict=True)]


def _finite(line: Line) -> Line:
    ok = np.isfinite(line.x) & np.isfinite(line.y)
    marked = int(ok[:line.marked].sum()) if line.marked is not None and ok[line.marked] else None
    return Line(line.name, line.css, line.x[ok], line.y[ok], marked)


def _series(curve: Curve, x: np.ndarray, across: Sequence[float], up: Callable[[float], float]) -> Markup:
    """A curve with its band and points, in one <g>, so that a page can bring it forward."""
    shapes = []
    if (banded := np.isfinite(curve.low) & np.isfinite(curve.high)).any():
        there = np.flatnonzero(banded).tolist()
        edge = [up(float(y)) for y in (*curve.high[there], *curve.low[there[::-1]])]
        shapes.append(_path([across[i] for i in (*there, *there[::-1])], edge, f"band {curve.css}", "Z"))
    there = np.flatnonzero(np.isfinite(curve.y)).tolist()
    at, to = [across[i] for i in there], [up(float(curve.y[i])) for i in there]
    shapes.append(_path(at, to, f"line {curve.css}", title=curve.name))
    shapes += [_dot(a, b, f"point {curve.css}", _tooltip(curve, i, x[i]))
               for i, a, b in zip(there, at, to, strict=True)]
    return Markup('<g class="series">{}</g>').format(Markup("").join(shapes))


def _tooltip(curve: Curve, i: int, x: float) -> str:
    low, high = curve.low[i], curve.high[i]
    band = f" [{number(low, 3)}, {number(high, 3)}]" if np.isfinite(low) and np.isfinite(high) else ""
    return f"{curve.name} at {number(x)}: {number(float(curve.y[i]), 3)}{band}"


def _rule(share: float) -> Markup:
    return Markup('<path class="grid" d="M0 {:.1f}H1000"/>').format(SIZE * (1 - share))


def _dot(across: float, up: float, css: str, title: str) -> Markup:
    return Markup('<path class="{}" d="M{:.1f} {:.1f}h.01"><title>{}</title></path>').format(
        css, SIZE * across, SIZE * (1 - up), title)


def _path(x: Sequence[float], y: Sequence[float], css: str, close: str = "", title: str = "") -> Markup:
    """A line through shares of the axes, 0..1; `close` "Z" makes it an area."""
    points = "L".join(f"{SIZE * a:.1f} {SIZE * (1 - b):.1f}" for a, b in zip(x, y, strict=True))
    tooltip = Markup("<title>{}</title>").format(title) if title else ""
    return Markup('<path class="{}" d="M{}{}">{}</path>').format(css, points, close, tooltip)


def _clipped(x: Sequence[float], y: Sequence[float], css: str) -> Markup:
    """A rising line, ended where it leaves the picture; nothing of one that is never in it."""
    inside = [(a, b) for a, b in zip(x, y, strict=True) if b <= 1]
    if not inside:
        return Markup("")
    if len(inside) < len(x):
        (a0, b0), (a1, b1) = inside[-1], (x[len(inside)], y[len(inside)])
        inside.append((a0 + (a1 - a0) * (1 - b0) / (b1 - b0), 1.0))
    return _path([a for a, _ in inside], [b for _, b in inside], css)


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
