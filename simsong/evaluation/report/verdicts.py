"""What paired differences allow to say, and no more."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simsong.evaluation.evaluate import CLAIM_QUERIES
from simsong.evaluation.report.words import count, label, listed, sized

SETTINGS = (("Among all songs", ()), ("Among all songs, without the query's artist", ("artist_filter",)),
            ("Among held-out songs", ("held_out",)),
            ("Among held-out songs, without the query's artist", ("held_out", "artist_filter")))


@dataclass(frozen=True)
class Verdict:
    """Of method `a` over `b`. `reason`: why nothing is claimed; None where there are queries enough and the
    interval excludes 0."""

    a: str
    b: str
    value: float
    low: float | None
    high: float | None
    reason: str | None

    @property
    def claim(self) -> bool:
        return self.reason is None

    @property
    def pair(self) -> str:
        return f"{label(self.a)} − {label(self.b)}"

    @property
    def sized(self) -> str:
        return sized({"value": self.value, "low": self.low, "high": self.high})

    @property
    def text(self) -> str:
        """Which is better, by how much, or why nothing is claimed."""
        if self.reason is not None:
            return f"No claim: {self.reason}"
        return f"{label(self.ahead.a)} beats {label(self.ahead.b)} by {self.ahead.sized}"

    @property
    def ahead(self) -> Verdict:
        """The same, of the one that found more over the other."""
        return self if self.value > 0 else self.turned()

    def turned(self) -> Verdict:
        """The same of b over a."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return Verdict(self.b, self.a, -self.value, low, high, self.reason)


def verdict(a: str, b: str, cell: Mapping[str, Any], queries: int, enough: bool = True) -> Verdict:
    """Of a difference {"value", "low", "high"} over so many queries; `enough` as the protocol has it."""
    low, high, reason = cell.get("low"), cell.get("high"), None
    if not enough or queries < CLAIM_QUERIES:
        reason = f"{count(queries, 'query', 'queries')}, and a claim needs {CLAIM_QUERIES}"
    elif low is None or high is None:
        reason = "there is no interval"
    elif low <= 0 <= high:
        reason = "the interval includes 0"
    return Verdict(a, b, cell["value"], low, high, reason)


def sentences(some_verdicts: Sequence[Verdict]) -> str:
    """Sentences: the claims, then the other differences with their reason, once."""
    out = [f"{v.text}." for v in some_verdicts if v.claim]
    for reason in dict.fromkeys(v.reason for v in some_verdicts if not v.claim):
        some = listed([f"{v.pair} is {v.sized}" for v in some_verdicts if v.reason == reason])
        out.append(f"{some} (no claim: {reason}).")
    return " ".join(out)


def verdicts(evaluation: Mapping[str, Any], path: Sequence[str] = (),
             metric: str = "recall@10") -> list[Verdict]:
    """One for each pair of methods that was compared; `path` as in SETTINGS."""
    protocol, out = evaluation["protocol"], []
    for pair, row in evaluation["differences"].items():
        cell = (at(row, path) or {}).get(metric)
        if cell is not None and cell["value"] is not None:
            out.append(verdict(*_split(pair, evaluation["methods"]), cell, counts(protocol, path)["queries"],
                               protocol["claim"]))
    return out


def counts(protocol: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    """What the protocol tells of a setting: queries, query_artists, ceiling, …"""
    pool = protocol["pools"]["held_out" if "held_out" in path else "everything"]
    return pool["artist_filter"] if "artist_filter" in path else pool


def headline_metric(protocol: Mapping[str, Any]) -> str:
    return "recall@10" if 10 in protocol["ks"] else f"recall@{protocol['ks'][0]}"


def at(row: Any, path: Sequence[str]) -> Any:
    """What lies there; None where nothing does."""
    for key in path:
        row = row.get(key) if row else None
    return row


def _split(pair: str, methods: Mapping[str, Any]) -> tuple[str, str]:
    """The two methods of "a-b", of whose names either may hold a dash."""
    cuts = ((pair[:m.start()], pair[m.end():]) for m in re.finditer("-", pair))
    return next((a, b) for a, b in cuts if a in methods and b in methods)
