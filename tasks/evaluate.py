"""Stage evaluate: every method's embeddings and the ground truth → `reports/evaluation.json`, each query's
figures beside it, and each promoted model's beside the model."""

from __future__ import annotations

import time
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
from simsong.parts.compute import Done, commit, once_done
from simsong.parts.stages import RunContext, is_whole
from simsong.registry.models import METRICS, NAMES
from simsong.registry.trained_on import folder
from storage.identity import digest
from storage.reports import EVALUATION, QUERIES
from storage.store import Store
from tasks.base import TaskPlan, stage_task


def _plan(run: RunContext, **_: Any) -> TaskPlan:
    identity = _identity(run.store, run.config)
    return TaskPlan(identity, is_whole(run.store, "evaluate", identity))


@stage_task("evaluate", _plan)
def evaluate(run: RunContext, after: list[Done]) -> Done:
    """Measure all methods on the same queries. `after`: the embed stage's tasks."""
    start, store = time.monotonic(), run.store
    identity = _identity(store, run.config)
    if is_whole(store, "evaluate", identity):
        return once_done(store, "evaluate").reused()
    songs, config = songs_of(store), run.config
    embeddings = Embeddings(store, config, songs, words=True, joined=chosen_join(store, config))
    held_out = held_out_of(store, config, songs)
    found, queries = evaluate_queries(embeddings, songs, truths_of(store, config, songs), held_out,
                                      config.evaluation)
    found["meaning"] = meaning(embeddings, songs, config.evaluation,
                               segments_of(store, config, songs, held_out))
    store.put_json(EVALUATION, found)
    store.put(QUERIES, _written(store, queries))
    of_models = _write_metrics(store, config, found)
    commit(store, "evaluate", identity, len(songs), [EVALUATION, QUERIES, *of_models])
    return once_done(store, "evaluate").model_copy(update={"seconds": time.monotonic() - start})


def _identity(store: Store, config: Config) -> str:
    of_all = evaluation_identity(store, config)
    joined = chosen_join(store, config)
    return digest(of_all, joined) if joined else of_all


def _write_metrics(store: Store, config: Config, found: dict[str, Any]) -> list[str]:
    """The figures of each promoted model, beside it. Returns the files."""
    protocol = {key: found["protocol"][key]
                for key in ("ground_truth", "candidates", "queries", "transductive", "claim")}
    at, written = datetime.now(UTC).isoformat(timespec="seconds"), []
    for name, label in methods(store, config).items():
        if name in NAMES and name in found["methods"]:
            written.append(f"{folder(label)}/{METRICS}")
            store.put_json(written[-1], {"at": at, "protocol": protocol, "metrics": found["methods"][name],
                                         "meaning": found["meaning"].get(name, {})})
    return written


def _written(store: Store, rows: pa.Table) -> Path:
    path = store.scratch()
    pq.write_table(rows, path, compression="zstd", write_page_checksum=True)
    return path
