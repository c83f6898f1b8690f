"""What the page is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from simsong.evaluation.ground_truth import EvaluationSongs
from simsong.evaluation.report.clips import Clip


@dataclass(frozen=True)
class Neighbours:
    """A song (row of `songs`) and what was found for it: rows and cosines, best first."""

    query: int
    hits: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class ReportData:
    """All that the page shows; what is missing, it says or leaves out.

    `funnel`: stage → {"ok": n, "failed": {reason: n}, "pending": {reason: n}}, in order; `training`: the
    models' cards (training.json); `evaluation` as `evaluate` gives, with "meaning" where that was measured;
    `studies`: reports/studies/*.json; `places` (n, 2) on the published map, NaN rows for songs not on it;
    `clips`: track_id → a piece of the song.
    """

    store: str
    made_at: datetime
    description: str                               # what the songs are, in a sentence
    synthetic: bool
    versions: Mapping[str, str] = field(default_factory=dict)
    funnel: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    training: Sequence[Mapping[str, Any]] = ()
    evaluation: Mapping[str, Any] | None = None
    studies: Sequence[Mapping[str, Any]] = ()
    songs: EvaluationSongs | None = None
    places: np.ndarray | None = None
    embedding_name: str = "wns"
    neighbours: Sequence[Neighbours] = ()
    clips: Mapping[str, Clip] = field(default_factory=dict)
