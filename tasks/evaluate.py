"""Stage evaluate: every method's embeddings and the ground truth → `reports/evaluation.json`, each query's
figures beside it, and each promoted model's beside the model."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from simsong.config import Config
from simsong.evaluation.evaluate import evaluate_queries
from simsong.evaluation.meaning import meaning
from storage.catalogue import Catalogue
from storage.identity import digest
from storage.store import Store
from tasks.base import Plan, stage_task
from tasks.measured import Embeddings, chosen_join, held_out_of, methods, segments_of, songs_of
from tasks.models import METRICS, NAMES
from tasks.part import Done, commit, once_done
from tasks.recordings import recordings_inputs
from tasks.songs import truths_of
from tasks.stages import Run, config_values, is_whole, lyric_model_label
from tasks.trained_on import folder

VERSION = 8
EVALUATION, QUERIES = "reports/evaluation.json", "reports/queries.parquet"


def _plan(run: Run, **_: Any) -> Plan:
    identity = _identity(run.store, run.config)
    return Plan(identity, is_whole(run.store, "evaluate", identity))


@stage_task("evaluate", _plan, "evaluate")
def evaluate(run: Run, after: list[Done]) -> Done:
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


def evaluation_identity(store: Store, config: Config) -> str:
    """Of all that the figures of single embeddings depend on."""
    inputs: dict[str, Any] = {}
    catalogue = Catalogue(store)
    for table, label in [("lyric_embeddings", lyric_model_label(config)),
                         *(("track_embeddings", label) for label in methods(store, config).values())]:
        inputs[label] = catalogue.rows_digests(table, ("embedding",), label)
    spans = catalogue.rows_digests("segments", ("start_s", "end_s"))
    tracks = [store.rows_digest("tracks", shard, ("artist_id", "artist", "title"))
              for shard in catalogue.parts("segments") or catalogue.shards]
    told = [[footer.columns for footer in store.footers(table)]
            for table in ("similars", "artist_similars", "genres", "words")]
    return digest("evaluate", VERSION, inputs, spans, tracks, told, recordings_inputs(store),
                  config_values(config, ("evaluation",)))


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
