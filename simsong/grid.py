"""Rows as text: a table that fits a terminal, or a row's values below each other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from rich.cells import cell_len, set_cell_size

CELL, LEAST = 60, 8         # columns of the terminal that a value takes at most, and may be cut down to
SHOWN_NUMBERS = 3           # of a vector
GAP = 2


def grid(names: Sequence[str], rows: Sequence[Sequence[Any]], width: int) -> str:
    """A heading, a rule and a line a row, none wider than `width`. Long values are cut; where that is not
    enough, columns in the middle are left out, and the last line says how many."""
    cells = [[cell(value) for value in row] for row in rows]
    right = [bool(rows) and all(isinstance(row[at], int | float | Decimal) or row[at] is None for row in rows)
             for at in range(len(names))]
    heads = [printable(name) for name in names]
    wanted = [min(max(map(cell_len, (head, *(row[at] for row in cells)))), CELL)
              for at, head in enumerate(heads)]
    shown = _shown(wanted, heads, width)
    widths = _widths([wanted[at] for at in shown], width)
    lines = [_line([heads[at] for at in shown], widths, [right[at] for at in shown]),
             (" " * GAP).join("─" * one for one in widths)]
    lines += [_line([row[at] for at in shown], widths, [right[at] for at in shown]) for row in cells]
    if left := len(names) - len(shown):
        lines.append(f"({left} of {len(names)} columns are not shown; --expanded shows all)")
    return "\n".join(lines)


def expanded(names: Sequence[str], rows: Sequence[Sequence[Any]], width: int) -> str:
    """A row's values below each other, in full but for vectors and bytes; long ones are wrapped."""
    heads = [printable(name) for name in names]
    left = max(map(cell_len, heads), default=0)
    room, lines = max(width - left - 3, LEAST), []
    for number, row in enumerate(rows, 1):
        lines.append(f"─ row {number} ".ljust(min(width, left + 24), "─"))
        for head, value in zip(heads, row, strict=True):
            pieces = _pieces(cell(value), room)
            for at, piece in enumerate(pieces):
                lines.append(f"{set_cell_size('' if at else head, left)} │ {piece}".rstrip())
    return "\n".join(lines)


def cell(value: Any) -> str:
    """A value in a line of text."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.1f}"
    if isinstance(value, list | tuple) and len(value) > 8 and all(isinstance(x, float | int) for x in value):
        return f"[{', '.join(f'{x:.3g}' for x in value[:SHOWN_NUMBERS])}, … {len(value)} numbers]"
    if isinstance(value, list | tuple | dict):
        inner = plain(value)
        value = inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False)
    return "" if value is None else printable(value)


def printable(value: Any) -> str:
    """Without control characters, which a terminal would obey, and line breaks."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def plain(value: Any, other: Callable[[Any], Any] = str) -> Any:
    """A value as JSON has it: what is no number is null, bytes are hexadecimal digits.

    Args: other: for types that JSON and Python do not share."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, dict):
        return {str(name): plain(part, other) for name, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "nanoseconds"):     # an interval, as ISO 8601 has it
        return f"P{value.months}M{value.days}DT{value.nanoseconds / 1e9:g}S"    # pyright: ignore
    if isinstance(value, list | tuple):
        return [plain(part, other) for part in value]
    return value if value is None or isinstance(value, bool | int | str) else other(value)


def _shown(wanted: Sequence[int], heads: Sequence[str], width: int) -> list[int]:
    """The columns that fit, cut to the least: as many from the left as from the right."""
    least = [min(max(LEAST, min(cell_len(head), 16)), own) for head, own in zip(heads, wanted, strict=True)]
    shown = list(range(len(wanted)))
    while len(shown) > 1 and sum(least[at] for at in shown) + GAP * (len(shown) - 1) > width:
        del shown[len(shown) // 2]
    return shown


def _widths(wanted: Sequence[int], width: int) -> list[int]:
    """The widest are cut first."""
    out = list(wanted)
    while sum(out) + GAP * (len(out) - 1) > width and max(out, default=0) > 1:
        out[out.index(max(out))] -= 1
    return out


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    out = []
    for value, width, to_right in zip(cells, widths, right, strict=True):
        text = value if cell_len(value) <= width else set_cell_size(value, max(width - 1, 0)).rstrip() + "…"
        out.append(" " * (width - cell_len(text)) + text if to_right else set_cell_size(text, width))
    return (" " * GAP).join(out).rstrip()


def _pieces(text: str, width: int) -> list[str]:
    out, piece = [], ""
    for c in text:
        if cell_len(piece + c) > width:
            out.append(piece)
            piece = ""
        piece += c
    return [*out, piece]
