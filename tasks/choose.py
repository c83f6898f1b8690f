"""Stage choose: which embedding is exported and asked, measured on songs that only validated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from simsong.catalogue.songs import truths_of
from simsong.config import Config
from simsong.datasets.comparison import (
    LEAST_QUERIES,
    METRIC,
    artist_interval,
    asking_settings,
    query_figures,
    validating,
)
from simsong.datasets.evaluation import Embeddings, evaluation_identity, methods, songs_of
from simsong.evaluation.evaluate import evaluate_queries
from simsong.evaluation.ground_truth import EvaluationSongs
from simsong.evaluation.ranking import Embedding
from simsong.parts.compute import Done, compute_once
from simsong.parts.stages import TIMBRE, RunContext
from simsong.registry.models import CONTROL, FINAL, UNTRAINED, trained_labels
from simsong.registry.published import default_method
from storage.identity import digest
from storage.reports import CHOICE
from storage.store import Store
from tasks.base import stage_task

VERSION = 1
NO_CHOICE = (UNTRAINED, CONTROL, TIMBRE, FINAL)     # the latter has heard who asks here


@stage_task("choose")
def choose(run: RunContext, after: list[Done]) -> Done:
    """Measure all embeddings, and joins of them, on artists that validated. `after`: the tasks of embed."""
    return compute_once("choose", run.store, _identity(run), lambda: _write(run.store, run.config))


def _write(store: Store, config: Config) -> tuple[int, list[str]]:
    songs = songs_of(store)
    store.put_json(CHOICE, choice_of(store, config, songs))
    return len(songs), [CHOICE]


def _identity(run: RunContext) -> str:
    store, config = run.store, run.config
    return digest("choose", VERSION, default_method(store, config), trained_labels(store, config),
                  evaluation_identity(store, config))


def choice_of(store: Store, config: Config, songs: EvaluationSongs) -> dict[str, Any]:
    """The best of the embeddings of audio and of their joins with the default one. The default stays unless
    another is better by an interval that excludes 0: of many that are compared, some are better by chance.

    Returns: JSON-able. "methods", those that are joined; "queries" and "truths" that it goes by; "scores",
        the mean nDCG@10 of each; "differences" from the default, with intervals over artists; "why" in words.
    """
    default, asking = default_method(store, config), validating(store, config, songs)
    out: dict[str, Any] = {"methods": [default] if default else [], "queries": 0, "scores": {},
                           "differences": {}, "metric": METRIC}
    if default is None or not asking.any():
        return out | {"why": "no songs validate, so nothing is compared"}
    embeddings = _Candidates(Embeddings(store, config, songs), methods(store, config), default)
    ask = asking_settings(config)
    truths = truths_of(store, config, songs)
    _, rows = evaluate_queries(embeddings, songs, truths, asking, ask)
    queries, values = query_figures(rows, embeddings, pa.array(np.array(songs.track_ids)[asking]))
    if len(queries) < LEAST_QUERIES or default not in values:
        why = f"{len(queries)} queries of songs that validate are too few"
        return out | {"queries": len(queries), "why": why}
    artists = dict(zip(songs.track_ids, songs.artist_codes().tolist(), strict=True))
    _, clusters = np.unique([artists[query] for query in queries], return_inverse=True)
    scores = {name: float(own.mean()) for name, own in values.items()}
    differences = {name: artist_interval(own - values[default], clusters, ask)
                   for name, own in values.items() if name != default}
    best = max((name for name, difference in differences.items() if difference["low"] > 0),
               key=scores.__getitem__,
               default=default)
    why = f"{best} is above {default}" if best != default else f"nothing is surely above {default}"
    return out | {"methods": best.split("+"), "queries": len(queries), "why": why, "scores": scores,
                  "differences": differences, "truths": [truth.name for truth in truths]}


class _Candidates(Mapping[str, Embedding]):
    """Embeddings of audio, and each joined with the default one, which a `+` in the name says."""

    def __init__(self, embeddings: Embeddings, labels: Mapping[str, str], default: str) -> None:
        self._of, self._default = embeddings, default
        alone = [name for name in embeddings if name in labels and name not in NO_CHOICE]
        self._names = [*alone, *(f"{default}+{name}" for name in alone if name != default)]

    def __getitem__(self, name: str) -> Embedding:
        return self._of[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
