"""Embeddings compared on songs that only validated: which is the best, and whether one may follow another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.catalogue import songs as catalogue
from simsong.catalogue.recordings import Recordings
from simsong.config import Config, EvaluationSettings
from simsong.datasets.evaluation import songs_of
from simsong.evaluation import metrics
from simsong.evaluation.cells import EVERYTHING
from simsong.evaluation.evaluate import evaluate_queries
from simsong.evaluation.ground_truth import EvaluationSongs
from simsong.evaluation.ranking import prepare
from simsong.parts.stages import MFCC, TIMBRE
from simsong.registry.models import NAMES, trained_labels
from simsong.registry.trained_on import TRAINED, VALIDATED, tracks_of
from storage.store import Store

LEAST_QUERIES = 20
METRIC, K = "ndcg@10", 10


def asking_settings(config: Config) -> EvaluationSettings:
    """How embeddings are measured to be compared."""
    return EvaluationSettings(ks=(K,), bootstrap=config.evaluation.bootstrap,
                              queries=config.evaluation.queries, seed=config.evaluation.seed)


def compare(store: Store, config: Config, new: Sequence[str], used: Sequence[str]) -> dict[str, Any]:
    """Two embeddings, each of one label or of several joined, on the songs that both embed.

    Returns: JSON-able. "queries"; where these are enough, "scores", the mean METRIC of "new" and of "used",
        and their "difference" with an interval over artists.
    """
    songs = songs_of(store)
    models = [label for label in {*new, *used} if label.partition("-")[0] in NAMES]
    asking = validating(store, config, songs, *models)
    vectors = {name: own for name, labels in (("new", new), ("used", used))
               if (own := _joined(store, songs, labels)) is not None}
    if not asking.any() or len(vectors) < 2:
        return {"queries": 0}
    both = np.all([np.isfinite(own).all(axis=1) for own in vectors.values()], axis=0)
    embeddings = {name: np.where(both[:, None], own, np.nan) for name, own in vectors.items()}
    ask = asking_settings(config)
    _, rows = evaluate_queries(embeddings, songs, catalogue.truths_of(store, config, songs), asking, ask)
    queries, values = query_figures(rows, embeddings, pa.array(np.array(songs.track_ids)[asking]))
    if len(queries) < LEAST_QUERIES or values.keys() != vectors.keys():
        return {"queries": len(queries)}
    codes = dict(zip(songs.track_ids, songs.artist_codes().tolist(), strict=True))
    _, clusters = np.unique([codes[query] for query in queries], return_inverse=True)
    return {"queries": len(queries), "metric": METRIC,
            "scores": {name: float(own.mean()) for name, own in values.items()},
            "difference": artist_interval(values["new"] - values["used"], clusters, ask)}


def _joined(store: Store, songs: EvaluationSongs, labels: Sequence[str]) -> np.ndarray | None:
    """(songs, dim), NaN where a song lacks one of them; None where one is of no song."""
    parts: list[np.ndarray] = []
    for label in labels:
        own = catalogue.vectors_of(store, "track_embeddings", label, songs)
        if own is None:
            return None
        parts.append(prepare({MFCC: "mfcc", TIMBRE: TIMBRE}.get(label, label), own))
    return np.concatenate(parts, axis=1)


def query_figures(rows: pa.Table, methods: Iterable[str],
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


def validating(store: Store, config: Config, songs: EvaluationSongs, *labels: str) -> np.ndarray:
    """(songs,) bool: by artists with songs that validated in some training, and with none that were
    trained on in any: of the promoted models, and of `labels`."""
    recordings = Recordings.of(store)
    uses = [tracks_of(store, label) for label in (*trained_labels(store, config), *labels)]
    if not uses:
        return np.zeros(len(songs), dtype=bool)
    trained = {track_id for use in uses for track_id, what in use.items() if what == TRAINED}
    validated = {track_id for use in uses for track_id, what in use.items() if what == VALIDATED}
    artists = recordings.artists_of(validated) - recordings.artists_of(trained)
    return np.array([recordings.artists[track_id] in artists for track_id in songs.track_ids], dtype=bool)


def artist_interval(values: np.ndarray, clusters: np.ndarray, config: EvaluationSettings) -> dict[str, float]:
    n = int(clusters.max()) + 1
    sums = metrics.by_cluster(values[:, None], clusters, n)
    low, high = metrics.bootstrap(sums, np.bincount(clusters, minlength=n), config.bootstrap, config.seed)
    low, high = np.nan_to_num(low, nan=-1.0), np.nan_to_num(high, nan=1.0)
    return {"value": float(values.mean()), "low": float(low[0]), "high": float(high[0])}
