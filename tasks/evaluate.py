"""Stage evaluate: every method's embeddings and the ground truth → `reports/evaluation.json`, each query's
figures beside it, and each promoted model's beside the model."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from simsong.catalogue.songs import truths_of
from simsong.config import Config
from simsong.datasets.evaluation import (
    Embeddings,
    chosen_join,
    evaluation_identity,
    held_out_of,
    methods,
    segments_of,
    songs_of,
)
from simsong.evaluation.evaluate import evaluate_queries
from simsong.evaluation.meaning import meaning
from simsong.parts.compute import Done, compute_once
from simsong.parts.stages import RunContext
from simsong.registry.models import METRICS, NAMES
from simsong.registry.trained_on import folder
from storage.identity import digest
from storage.reports import EVALUATION, QUERIES
from storage.store import Store
from tasks.base import stage_task


@stage_task("evaluate")
def evaluate(run: RunContext, after: list[Done]) -> Done:
    """Measure all methods on the same queries. `after`: the embed stage's tasks."""
    store, config = run.store, run.config
    return compute_once("evaluate", store, _identity(store, config), lambda: _write(store, config))


def _write(store: Store, config: Config) -> tuple[int, list[str]]:
    songs = songs_of(store)
    embeddings = Embeddings(store, config, songs, words=True, joined=chosen_join(store, config))
    held_out = held_out_of(store, config, songs)
    evaluation, queries = evaluate_queries(embeddings, songs, truths_of(store, config, songs), held_out,
                                           config.evaluation)
    evaluation["meaning"] = meaning(embeddings, songs, config.evaluation,
                                    segments_of(store, config, songs, held_out))
    store.put_json(EVALUATION, evaluation)
    store.put(QUERIES, _written(store, queries))
    of_models = _write_metrics(store, config, evaluation)
    return len(songs), [EVALUATION, QUERIES, *of_models]


def _identity(store: Store, config: Config) -> str:
    of_all = evaluation_identity(store, config)
    joined = chosen_join(store, config)
    return digest(of_all, joined) if joined else of_all


def _write_metrics(store: Store, config: Config, evaluation: dict[str, Any]) -> list[str]:
    """The figures of each promoted model, beside it. Returns the files."""
    protocol = {key: evaluation["protocol"][key]
                for key in ("ground_truth", "candidates", "queries", "transductive", "claim")}
    at, written = datetime.now(UTC).isoformat(timespec="seconds"), []
    for name, label in methods(store, config).items():
        if name in NAMES and name in evaluation["methods"]:
            written.append(f"{folder(label)}/{METRICS}")
            store.put_json(written[-1],
                           {"at": at, "protocol": protocol, "metrics": evaluation["methods"][name],
                                         "meaning": evaluation["meaning"].get(name, {})})
    return written


def _written(store: Store, rows: pa.Table) -> Path:
    path = store.scratch()
    pq.write_table(rows, path, compression="zstd", write_page_checksum=True)
    return path
