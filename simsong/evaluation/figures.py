"""What came of each method, cell by cell, put into figures: means with intervals, paired differences, and a
table with a row a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from simsong.config import EvaluationSettings
from simsong.evaluation import metrics
from simsong.evaluation.cells import EVERYTHING, HELD_OUT, CandidatePool, Cell
from simsong.evaluation.ground_truth import SIMILARS, EvaluationSongs, GroundTruth

CLAIM_QUERIES = 100          # fewer: figures, but no claim
HUB_K = 10
PUBLISHED = "published"      # in a study: whatever was found best for the run
ORDER = ("random", "same_artist", "mfcc", "timbre", "lyrics", "words", "untrained", "ns", "wns_shuffled",
         "wns", "musicnn", "pretrained", "adapted", "final", "fusion", PUBLISHED)
PAIRS = (*((PUBLISHED, name) for name in ("adapted", "untrained", "musicnn", "pretrained", "mfcc", "random")),
         ("adapted", "untrained"), ("adapted", "musicnn"), ("adapted", "mfcc"), ("adapted", "wns"),
         ("adapted", "ns"),
         ("adapted", "pretrained"), ("adapted", "random"), ("fusion", "adapted"),
         *((name, plain) for name in ("wns", "ns") for plain in ("musicnn", "pretrained")),
         *((name, plain) for name in ("musicnn", "pretrained") for plain in ("mfcc", "random")),
         ("wns", "ns"), ("wns", "wns_shuffled"), ("wns_shuffled", "ns"), ("wns", "mfcc"), ("ns", "mfcc"),
         ("wns", "untrained"), ("ns", "untrained"), ("wns", "lyrics"), ("wns", "words"), ("fusion", "wns"),
         ("fusion", "ns"), ("fusion", "lyrics"), ("wns", "same_artist"), ("ns", "same_artist"),
         ("wns", "random"), ("ns", "random"), ("untrained", "random"), ("mfcc", "random"),
         ("timbre", "random"), ("words", "random"), ("same_artist", "random"))
BROUGHT_AGAINST = ("wns", "ns", "mfcc", "random")     # what a method of another name is compared with


@dataclass(frozen=True)
class Measured:
    """A cell and what came of it, by method: the metrics of each query (q, m) float32, and single figures."""

    cell: Cell
    values: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    single: dict[str, dict[str, float | None]] = field(default_factory=dict[str, dict[str, float | None]])


def assemble(truth: GroundTruth, i: int, measurements: Mapping[str, Sequence[Measured]],
             pools: Mapping[str, CandidatePool], songs: int, trained: bool,
             config: EvaluationSettings) -> dict[str, Any]:
    """Protocol, methods and differences of the i-th ground truth, as `evaluate` gives them.

    Args: trained: whether any method learned from songs: else nothing is transductive."""
    protocol: dict[str, Any] = {"pools": {EVERYTHING: None, HELD_OUT: None}}
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for pool, done in measurements.items():
        plain, filtered = done[2 * i], done[2 * i + 1]
        protocol["pools"][pool] = {"candidates": len(pools[pool].rows), **_counts(plain.cell, config.ks),
                                   "artist_filter": _counts(filtered.cell, config.ks)}
        tables[pool], inner = _figures(plain, config), _figures(filtered, config)
        for kind, rows in tables[pool].items():
            for name in rows:
                rows[name]["artist_filter"] = inner[kind].get(name)
    for kind, rows in tables[EVERYTHING].items():
        for name in rows:
            rows[name]["held_out"] = tables[HELD_OUT][kind].get(name) if HELD_OUT in tables else None
    headline = protocol["pools"][EVERYTHING]
    protocol |= {
        "ground_truth": truth.name, "similar_at": config.similar_at if truth.name == SIMILARS else None,
        "without_artist": truth.without_artist,
        **{key: headline[key] for key in ("candidates", "queries", "query_artists", "askable")},
        "queries_at_most": config.queries,
        "songs": songs, "trained": trained,
        "transductive": trained and HELD_OUT not in pools, "claim": headline["queries"] >= CLAIM_QUERIES,
        "ks": list(config.ks), "cutoff": max(config.ks),
        "hubness_k": HUB_K, "seed": config.seed, "bootstrap": config.bootstrap,
        "interval": "95 %, percentile bootstrap over the queries' artists",
    }
    return {"protocol": protocol, **tables[EVERYTHING]}


def _counts(cell: Cell, ks: Sequence[int]) -> dict[str, Any]:
    n = len(cell.queries)
    most = metrics.ceiling(cell.n_relevant, ks) if n else dict.fromkeys(f"recall@{k}" for k in ks)
    return {"queries": n, "query_artists": len(cell.counts), "askable": cell.askable, "ceiling": most,
            "relevant_mean": float(cell.n_relevant.mean()) if n else None}


def _figures(done: Measured, config: EvaluationSettings) -> dict[str, dict[str, Any]]:
    """{"methods": …, "differences": …} of a cell; each table's rows are dicts of {"value", "low", "high"}."""
    methods, cell, names = list(done.values), done.cell, metrics.names(config.ks)
    pairs = [(a, b) for a, b in PAIRS if a in methods and b in methods]
    pairs += [(m, b) for m in methods if m not in ORDER for b in BROUGHT_AGAINST if b in methods]
    if not len(cell.queries):
        return {"methods": {m: {} for m in methods}, "differences": {f"{a}-{b}": {} for a, b in pairs}}
    sums = {m: metrics.by_cluster(done.values[m], cell.clusters, len(cell.counts)) for m in methods}
    columns = np.concatenate([sums[m] for m in methods] + [sums[a] - sums[b] for a, b in pairs], axis=1)
    value = columns.sum(axis=0) / cell.counts.sum()
    low, high = metrics.bootstrap(columns, cell.counts, config.bootstrap, config.seed)
    rows = [{name: {"value": _number(value[at]), "low": _number(low[at]), "high": _number(high[at])}
             for at, name in enumerate(names, start=start)}
            for start in range(0, len(value), len(names))]
    for method, row in zip(methods, rows, strict=False):
        row |= {name: {"value": _number(single), "low": None, "high": None}
                for name, single in done.single[method].items()}
    return {"methods": dict(zip(methods, rows, strict=False)),
            "differences": {f"{a}-{b}": row for (a, b), row in zip(pairs, rows[len(methods):], strict=True)}}


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def query_table(measurements: Mapping[str, Sequence[Measured]], pools: Mapping[str, CandidatePool],
                songs: EvaluationSongs,
                ks: Sequence[int]) -> pa.Table:
    """A row a method, pool, truth, with and without the artist filter, and query: what a study pairs.

    Columns: method, pool, artist_filter, truth, query (track_id), artist_id, n_relevant, then the metrics,
    float32. Names are dictionary-encoded, and the numbers those of `measurements`, not copies.
    """
    cells = [(pool, done) for pool, several in measurements.items() for done in several]
    labels = {"method": sorted({m for _, done in cells for m in done.values}), "pool": sorted(measurements),
              "truth": sorted({done.cell.truth for _, done in cells}),
              "query": list(songs.track_ids), "artist_id": list(songs.artist_ids)}
    artist_ids = pa.array(labels.pop("artist_id"), pa.string()).dictionary_encode()
    words = {name: pa.array(values, pa.string()) for name, values in labels.items()}
    metric_names = metrics.names(ks)
    schema = pa.schema([("method", _WORD), ("pool", _WORD), ("artist_filter", pa.bool_()), ("truth", _WORD),
                        ("query", _WORD), ("artist_id", _WORD), ("n_relevant", pa.int32()),
                        *((name, pa.float32()) for name in metric_names)])
    batches: list[pa.RecordBatch] = []
    for pool, done in cells:
        cell = done.cell
        rows = pools[pool].rows[cell.queries]
        for method, values in done.values.items():
            same = {"method": method, "pool": pool, "truth": cell.truth}
            columns = {name: _coded(np.full(len(rows), labels[name].index(word)), words[name])
                       for name, word in same.items()}
            columns |= {"artist_filter": pa.array(np.full(len(rows), cell.filtered)),
                        "query": _coded(rows, words["query"]),
                        "artist_id": artist_ids.take(pa.array(rows)),
                        "n_relevant": pa.array(cell.n_relevant, pa.int32())}
            columns |= {name: pa.array(values[:, at]) for at, name in enumerate(metric_names)}
            batches.append(pa.record_batch([columns[name] for name in schema.names], schema=schema))
    return pa.Table.from_batches(batches, schema)


_WORD = pa.dictionary(pa.int32(), pa.string())


def _coded(codes: np.ndarray, words: pa.Array) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), words)
