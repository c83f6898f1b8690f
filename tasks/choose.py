"""Stage choose: which embedding is exported and asked, measured on songs that only validated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.catalogue.recordings import Recordings
from simsong.catalogue.songs import truths_of
from simsong.config import Config, EvaluationSettings
from simsong.datasets.evaluation import Embeddings, evaluation_identity, methods, songs_of
from simsong.evaluation import metrics
from simsong.evaluation.cells import EVERYTHING
from simsong.evaluation.evaluate import evaluate_queries
from simsong.evaluation.ground_truth import EvaluationSongs
from simsong.evaluation.ranking import Embedding
from simsong.parts.compute import Done, compute_once
from simsong.parts.stages import TIMBRE, RunContext
from simsong.registry.models import CONTROL, FINAL, UNTRAINED, trained_labels
from simsong.registry.published import default_method
from simsong.registry.trained_on import TRAINED, VALIDATED, tracks_of
from storage.identity import digest
from storage.reports import CHOICE
from storage.store import Store
from tasks.base import stage_task

VERSION = 1
LEAST_QUERIES = 20
NO_CHOICE = (UNTRAINED, CONTROL, TIMBRE, FINAL)     # the latter has heard who asks here
METRIC, K = "ndcg@10", 10


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
    ask = EvaluationSettings(ks=(K,), bootstrap=config.evaluation.bootstrap,
                             queries=config.evaluation.queries, seed=config.evaluation.seed)
    truths = truths_of(store, config, songs)
    _, rows = evaluate_queries(embeddings, songs, truths, asking, ask)
    queries, values = _figures(rows, embeddings, pa.array(np.array(songs.track_ids)[asking]))
    if len(queries) < LEAST_QUERIES or default not in values:
        why = f"{len(queries)} queries of songs that validate are too few"
        return out | {"queries": len(queries), "why": why}
    artists = dict(zip(songs.track_ids, songs.artist_codes().tolist(), strict=True))
    _, clusters = np.unique([artists[query] for query in queries], return_inverse=True)
    scores = {name: float(own.mean()) for name, own in values.items()}
    differences = {name: _interval(own - values[default], clusters, ask)
                   for name, own in values.items() if name != default}
    best = max((name for name, found in differences.items() if found["low"] > 0), key=scores.__getitem__,
               default=default)
    why = f"{best} is above {default}" if best != default else f"nothing is surely above {default}"
    return out | {"methods": best.split("+"), "queries": len(queries), "why": why, "scores": scores,
                  "differences": differences, "truths": [truth.name for truth in truths]}


def _figures(rows: pa.Table, methods: Iterable[str],
             asking: pa.Array) -> tuple[list[str], dict[str, np.ndarray]]:
    """The queries among all candidates, a row a truth, and each method's figures of them."""
    rows = rows.select(["method", "pool", "artist_filter", "truth", "query", METRIC])
    for at, name in enumerate(rows.column_names):
        if pa.types.is_dictionary(rows.schema.field(name).type):
            rows = rows.set_column(at, name, rows[name].cast(pa.string()))
    rows = rows.filter((pc.field("pool") == EVERYTHING) & ~pc.field("artist_filter")
                       & pc.field("query").isin(asking))
    rows = rows.sort_by([("truth", "ascending"), ("query", "ascending")])
    queries: list[str] = []
    values: dict[str, np.ndarray] = {}
    for name in methods:
        own = rows.filter(pc.field("method") == name)
        if own.num_rows:
            queries, values[name] = own["query"].to_pylist(), own[METRIC].to_numpy().astype(np.float64)
    return queries, values


def validating(store: Store, config: Config, songs: EvaluationSongs) -> np.ndarray:
    """(songs,) bool: by artists with songs that validated in some training, and with none that were
    trained on in any."""
    known = Recordings.of(store)
    labels = trained_labels(store, config)
    uses = [tracks_of(store, label) for label in labels]
    if not uses:
        return np.zeros(len(songs), dtype=bool)
    trained = {track_id for use in uses for track_id, what in use.items() if what == TRAINED}
    validated = {track_id for use in uses for track_id, what in use.items() if what == VALIDATED}
    artists = known.artists_of(validated) - known.artists_of(trained)
    return np.array([known.artists[track_id] in artists for track_id in songs.track_ids], dtype=bool)


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


def _interval(values: np.ndarray, clusters: np.ndarray, config: EvaluationSettings) -> dict[str, float]:
    n = int(clusters.max()) + 1
    sums = metrics.by_cluster(values[:, None], clusters, n)
    low, high = metrics.bootstrap(sums, np.bincount(clusters, minlength=n), config.bootstrap, config.seed)
    low, high = np.nan_to_num(low, nan=-1.0), np.nan_to_num(high, nan=1.0)
    return {"value": float(values.mean()), "low": float(low[0]), "high": float(high[0])}
