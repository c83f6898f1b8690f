"""A picture of one song: its waveform, level and novelty, what trimming cut off, and the segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from simsong.audio.samples import RATE_HZ, Samples
from simsong.audio.trim import BLOCK_S, Floats, Trimmed, analyse, novelty

WIDTH, DPI = 1200, 100           # pixels
COLUMNS = 1000                   # of the waveform: its lowest and highest sample in each
FLOOR_DB = -60.0
INK, SOFT, RULE = "#1d2126", "#5f6872", "#e2dfd8"              # the report's colours
WAVE, LEVEL, NOVELTY, SEGMENT, CUT, EDGE = "#1d5fa8", "#2f855a", "#b7791f", "#dbe7f4", "#8b949e", "#c2410c"
PAPER = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5}        # behind what is written
TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)


def draw(samples: Samples, *, title: str, trimmed: Trimmed | None = None,
         segments: Sequence[tuple[float, float]] = (), marks: Mapping[str, float] | None = None) -> Figure:
    """What was made of a song, over its time in minutes and seconds. `savefig` writes it.

    Args:
        samples: (n,) float32 in [-1, 1] at 16 kHz, the untrimmed song; n > 0.
        trimmed: what is kept; None where that is not known.
        segments: start and end of each, in seconds of the untrimmed song, in its order.
        marks: further times worth a line, by name; drawn where they lie within the song.
    """
    lanes = _lanes(segments)
    duration_s = len(samples) / RATE_HZ
    marks = {name: at_s for name, at_s in (marks or {}).items() if 0 < at_s < duration_s}
    rows = max(lanes, default=0) + 1
    heights = (3.0, 1.7, 1.7, 0.35 + 0.3 * rows)
    figure = Figure(figsize=(WIDTH / DPI, 0.9 + 0.75 * sum(heights)), dpi=DPI, layout="constrained")
    wave, level, change, windows = figure.subplots(4, 1, sharex=True, height_ratios=heights)
    _waveform(wave, samples)
    _level(level, samples)
    _novelty(change, samples)
    _segments(windows, segments, lanes, duration_s)
    for axes in (wave, level, change, windows):
        _plain(axes)
        if trimmed:
            _cuts(axes, trimmed, duration_s)
        for at_s in marks.values():
            axes.axvline(at_s, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    if trimmed:
        _name_cuts(wave, trimmed, duration_s)
    for name, at_s in marks.items():
        late = at_s > duration_s / 2
        wave.annotate(name, (at_s, 0), (-3 if late else 3, 3), ha="right" if late else "left",
                      xycoords=("data", "axes fraction"), textcoords="offset points", color=INK, fontsize=8,
                      zorder=5, bbox=PAPER)
    _time(windows, duration_s)
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=13, fontweight="bold", parse_math=False)
    wave.set_title(_summary(trimmed, segments, duration_s), loc="left", color=SOFT, fontsize=10)
    return figure


def clock(seconds: float, digits: int = 0) -> str:
    """61.26 → "1:01"; with a digit, "1:01.3"."""
    seconds = round(seconds, digits)
    return f"{int(seconds // 60)}:{seconds % 60:0{3 + digits if digits else 2}.{digits}f}"


def _summary(trimmed: Trimmed | None, segments: Sequence[tuple[float, float]], duration_s: float) -> str:
    if not trimmed:
        return f"{clock(duration_s)} long, not trimmed yet"
    intro_s, outro_s = trimmed.start_s, max(duration_s - trimmed.end_s, 0.0)
    lost = f"{intro_s:.1f} s cut from the start and {outro_s:.1f} s from the end"
    count = f"{len(segments)} segment{'' if len(segments) == 1 else 's'}" if segments else "no segments yet"
    return f"{clock(duration_s)} long; trimming ({trimmed.mode}): {lost}; {count}"


def _waveform(axes: Axes, samples: Samples) -> None:
    starts = np.linspace(0, len(samples), min(COLUMNS, len(samples)), endpoint=False).astype(int)
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    peak = max(float(np.abs(samples).max()), 1e-3)
    axes.fill_between(starts / RATE_HZ, low, high, step="post", color=WAVE, linewidth=0)
    axes.set_ylim(-1.1 * peak, 1.1 * peak)
    axes.set_ylabel("waveform")


def _level(axes: Axes, samples: Samples) -> None:
    blocks = _blocks(samples)
    power = np.mean(np.square(blocks, dtype=np.float64), axis=1)
    level_db = 10 * np.log10(np.maximum(power, 1e-12)).clip(FLOOR_DB / 10)
    _stairs(axes, level_db, LEVEL, FLOOR_DB)
    axes.set_ylim(FLOOR_DB, 0)
    axes.set_ylabel("level (dB FS)")


def _novelty(axes: Axes, samples: Samples) -> None:
    if len(_blocks(samples)) > 1:
        _stairs(axes, novelty(analyse(samples).sound), NOVELTY, 0.0)
    axes.set_ylim(0, None)
    axes.set_ylabel("novelty")


def _blocks(samples: Samples) -> Floats:
    """(whole blocks, samples of each)"""
    length = round(BLOCK_S * RATE_HZ)
    return samples[:len(samples) // length * length].reshape(-1, length)


def _stairs(axes: Axes, values: Floats, color: str, base: float) -> None:
    if len(values):
        axes.stairs(values, np.arange(len(values) + 1) * BLOCK_S, baseline=base, fill=True, color=color)


def _lanes(segments: Sequence[tuple[float, float]]) -> list[int]:
    """The lane of each: those that overlap lie in different ones."""
    ends: list[float] = []
    out: list[int] = []
    for start_s, end_s in segments:
        lane = next((i for i, taken_s in enumerate(ends) if taken_s <= start_s + 1e-6), len(ends))
        ends[lane:lane + 1] = [end_s]
        out.append(lane)
    return out


def _segments(axes: Axes, segments: Sequence[tuple[float, float]], lanes: Sequence[int],
              duration_s: float) -> None:
    for number, ((start_s, end_s), lane) in enumerate(zip(segments, lanes, strict=True)):
        axes.barh(lane, end_s - start_s, 0.8, start_s, color=SEGMENT, edgecolor=WAVE, linewidth=1)
        if end_s - start_s > 0.02 * duration_s:
            axes.text((start_s + end_s) / 2, lane, str(number), ha="center", va="center", color=INK,
                      fontsize=9)
    axes.set_ylim(max(lanes, default=0) + 0.6, -0.6)
    axes.set_yticks([])
    axes.set_ylabel("segments", rotation=0, ha="right", va="center")


def _cuts(axes: Axes, trimmed: Trimmed, duration_s: float) -> None:
    for start_s, end_s, edge_s in ((0.0, trimmed.start_s, trimmed.start_s),
                                   (trimmed.end_s, duration_s, trimmed.end_s)):
        if end_s > start_s:
            axes.axvspan(start_s, end_s, facecolor="white", alpha=0.6, zorder=3)
            axes.axvspan(start_s, end_s, facecolor=CUT, alpha=0.25, linewidth=0, zorder=3)
            axes.axvline(edge_s, color=EDGE, linewidth=1.5, zorder=4)


def _name_cuts(axes: Axes, trimmed: Trimmed, duration_s: float) -> None:
    for at_s, cut, side in ((trimmed.start_s, trimmed.start_s > 0, "left"),
                            (trimmed.end_s, trimmed.end_s < duration_s, "right")):
        if cut:
            axes.annotate(clock(at_s, 1), (at_s, 1), (4 if side == "left" else -4, -4), ha=side, va="top",
                          xycoords=("data", "axes fraction"), textcoords="offset points", color=EDGE,
                          fontsize=10, fontweight="bold", zorder=5, bbox=PAPER)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(colors=SOFT, labelsize=9)
    axes.yaxis.label.set_color(INK)
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)


def _time(axes: Axes, duration_s: float) -> None:
    """The axis that all share."""
    step_s = next((s for s in TICKS_S if duration_s / s <= 16), TICKS_S[-1])
    axes.xaxis.set_major_locator(MultipleLocator(step_s))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
    axes.set_xlim(0, duration_s)
    axes.set_xlabel("time (min:s)", color=INK)
