"""Trainings compared over seeds: every query of every run, paired, with intervals over artists and seeds.

One training says how good its weights are; whether a method is better than another takes several. So both
the queries' artists and the seeds are drawn with replacement (the pigeonhole bootstrap: Owen, Annals of
Applied Statistics 2007), and all methods see the same draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import norm, t

from simsong.errors import SimSongError
from simsong.evaluation.cells import EVERYTHING
from simsong.evaluation.evaluate import LEARNED
from simsong.evaluation.figures import ORDER, PAIRS
from simsong.evaluation.metrics import draws

KEYS = ("method", "pool", "artist_filter", "truth", "query", "artist_id", "n_relevant")
LEVEL = 0.95


class RunsDiffer(SimSongError):
    """Runs that cannot be compared: `str` says which and why."""


@dataclass(frozen=True)
class RunFigures:
    """One training and its evaluation: the variant's label, the seed, and the table of `evaluate_queries`
    (of which the rows of other pools, truths and filters than are compared may be left out)."""

    label: str
    seed: int
    queries: pa.Table


def compare(runs: Sequence[RunFigures], pairs: Sequence[tuple[str, str]] | None = None, *,
            metrics: Sequence[str] | None = None, pool: str = EVERYTHING, artist_filter: bool = False,
            truth: str | None = None, common: bool = False, resamples: int = 1000,
            seed: int = 0) -> dict[str, Any]:
    """Each method of each variant, and paired differences, with 95 % intervals over artists and seeds.

    With one seed the intervals are over artists alone, and tell nothing of another training. With few seeds
    plain percentiles are too narrow; the seeds' part of a draw's deviation is therefore widened as
    Hesterberg's expanded percentiles are (The American Statistician, 2015), to the width of Student's t.

    Args:
        runs: one for each variant and seed; all variants have the same seeds.
        pairs: of "label/method"; None takes those of `usual_pairs`.
        metrics: columns of the tables; None takes all.
        truth: None takes the tables' only one.
        common: compare on the queries that all runs share, where they differ, instead of refusing.
    Returns: JSON-able: "protocol", "seeds", "variants" → [{"label", "methods": {method: {metric: cell}}}] and
        "differences" → [{"a", "b", "metrics": {metric: cell}}] for a − b, each cell
        {"value", "low", "high", "by_seed": [as "seeds"]}; low and high null where there is nothing to draw.
    Raises: RunsDiffer where seeds, methods or queries (or what is relevant to them) are not the same.
    """
    seeds, labels = _design(runs)
    tables = {(run.label, run.seed): _of(run, pool, artist_filter, truth) for run in runs}
    truths = {name for table in tables.values() for name in table["truth"].unique().to_pylist()}
    if len(truths) != 1:
        raise RunsDiffer(f"{', '.join(sorted(truths)) or 'no rows'}: name the ground truth to compare by")
    names = list(metrics or [name for name in runs[0].queries.schema.names if name not in KEYS])
    queries, left_out = _shared(tables, common)
    codes, clusters = np.unique(queries["artist_id"].to_numpy(zero_copy_only=False).astype(str),
                                return_inverse=True)
    methods = {label: _methods(tables, label, seeds) for label in labels}
    sums = {f"{label}/{method}": np.stack([_sums(tables[label, s], method, queries, clusters, names)
                                           for s in seeds])              # (seeds, artists, metrics)
            for label in labels for method in methods[label]}
    usual = usual_pairs(labels, list(sums)) if pairs is None else pairs
    if unknown := sorted({name for pair in usual for name in pair} - set(sums)):
        raise RunsDiffer(f"{', '.join(unknown)}: not among the runs; there are {', '.join(sums)}")

    columns = np.concatenate([*sums.values(), *(sums[a] - sums[b] for a, b in usual)], axis=2)
    cells = iter(_cells(columns, np.bincount(clusters, minlength=len(codes)), names, resamples, seed))
    return {
        "protocol": {"ground_truth": truths.pop(), "pool": pool, "artist_filter": artist_filter,
                     "queries": len(queries), "query_artists": len(codes), "left_out": left_out,
                     "seeds": len(seeds), "bootstrap": resamples, "seed": seed,
                     "interval": "95 %, percentile bootstrap over the queries' artists"
                                 + (" and the seeds" if len(seeds) > 1 else "; one seed")},
        "seeds": seeds,
        "variants": [{"label": label, "methods": {method: next(cells) for method in methods[label]}}
                     for label in labels],
        "differences": [{"a": a, "b": b, "metrics": next(cells)} for a, b in usual],
    }


def usual_pairs(labels: Sequence[str], names: Sequence[str]) -> list[tuple[str, str]]:
    """Within each variant those of `evaluate`; between the first variant and each other the learned methods,
    as other minus first. `names`: "label/method"."""
    inside = [(f"{label}/{a}", f"{label}/{b}") for label in labels for a, b in PAIRS]
    across = [(f"{label}/{m}", f"{labels[0]}/{m}") for label in labels[1:] for m in ORDER if m in LEARNED]
    return [(a, b) for a, b in inside + across if a in names and b in names]


def two_way(sums: np.ndarray, counts: np.ndarray, resamples: int,
            seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means over queries and seeds, their intervals, and the means of each seed.

    Args:
        sums: (s, c, m) of each metric over each artist's queries, by seed; counts: (c,) queries of each.
    Returns: value (m,), low (m,), high (m,), by_seed (s, m); low and high NaN where there is one artist, or
        none.
    """
    (n_seeds, n, m), total = sums.shape, counts.sum()
    by_seed = sums.sum(axis=1) / total if total else np.full((n_seeds, m), np.nan)
    value = by_seed.mean(axis=0)
    if n < 2:
        return value, np.full(m, np.nan), np.full(m, np.nan), by_seed
    flat = np.concatenate(list(sums), axis=1)                            # (c, s · m)
    means = np.empty((resamples, m))
    of_seeds = np.concatenate([weights for _, weights in draws(n_seeds, resamples, seed + 1)])
    for part, weights in draws(n, resamples, seed):
        each = ((weights @ flat) / (weights @ counts)[:, None]).reshape(len(weights), n_seeds, m)
        plain = each.mean(axis=1)
        shift = np.einsum("bs,bsm->bm", of_seeds[part], each) / n_seeds - plain
        means[part] = plain + _expansion(n_seeds) * shift
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return value, low, high, by_seed


def _cells(columns: np.ndarray, counts: np.ndarray, names: Sequence[str], resamples: int,
           seed: int) -> list[dict[str, Any]]:
    """By metric {"value", "low", "high", "by_seed"}, for each group of as many columns as there are names."""
    value, low, high, by_seed = two_way(columns, counts, resamples, seed)
    cells = [{"value": _number(value[i]), "low": _number(low[i]), "high": _number(high[i]),
              "by_seed": [_number(v) for v in by_seed[:, i]]} for i in range(len(value))]
    step = len(names)
    return [dict(zip(names, cells[at:at + step], strict=True)) for at in range(0, len(cells), step)]


def _expansion(n: int) -> float:
    """How much wider Student's interval of the mean of n is than that of the bootstrap."""
    if n < 2:
        return 0.0
    upper = (1 + LEVEL) / 2
    return float(np.sqrt(n / (n - 1)) * t.ppf(upper, n - 1) / norm.ppf(upper))


def _design(runs: Sequence[RunFigures]) -> tuple[list[int], list[str]]:
    """The seeds, ascending, and the labels as they come."""
    if not runs:
        raise RunsDiffer("there are no runs to compare")
    labels = list(dict.fromkeys(run.label for run in runs))
    of = {label: sorted(run.seed for run in runs if run.label == label) for label in labels}
    seeds = of[labels[0]]
    for label, mine in of.items():
        if len(set(mine)) < len(mine):
            raise RunsDiffer(f"{label}: a seed is there twice ({', '.join(map(str, mine))})")
        if mine != seeds:
            raise RunsDiffer(f"{label} has seeds {', '.join(map(str, mine))}, {labels[0]} has "
                             f"{', '.join(map(str, seeds))}; runs are paired by seed")
    return seeds, labels


def _of(run: RunFigures, pool: str, artist_filter: bool, truth: str | None) -> pa.Table:
    """The rows to compare; a song of no known artist stands for one of its own."""
    condition = (pc.field("pool") == pool) & (pc.field("artist_filter") == artist_filter)
    if truth is not None:
        condition &= pc.field("truth") == truth
    table = run.queries.filter(condition)
    for name in ("method", "truth", "query", "artist_id"):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.string()))
    if not table.num_rows:
        raise RunsDiffer(f"{_name(run.label, run.seed)}: no query in the pool {pool}"
                         + (" with the artist filter" if artist_filter else "")
                         + (f" by {truth}" if truth else ""))
    alone = pc.call_function("binary_join_element_wise", [pa.scalar("song"), table["query"], pa.scalar(" ")])
    at = table.schema.get_field_index("artist_id")
    return table.set_column(at, "artist_id", pc.call_function("coalesce", [table["artist_id"], alone]))


def _shared(tables: dict[tuple[str, int], pa.Table], common: bool) -> tuple[pa.Table, int]:
    """(q,) query, artist_id and n_relevant that are the same in all runs, sorted by query; how many other
    queries there were."""
    queries = [table.select(["query", "artist_id", "n_relevant"]).group_by(["query"], use_threads=False)
               .aggregate([("artist_id", "first"), ("n_relevant", "first")]).sort_by("query")
               for table in tables.values()]
    first, every = queries[0], set(queries[0]["query"].to_pylist())
    shared = set(every)
    for (label, seed), other in zip(tables, queries, strict=True):
        mine = set(other["query"].to_pylist())
        every, shared = every | mine, shared & mine
        if not common and not other.equals(first):
            many, against = len(mine ^ set(first["query"].to_pylist())), _name(*next(iter(tables)))
            raise RunsDiffer(f"{_name(label, seed)}: " + (
                f"{many} queries are not those of {against}" if many else
                f"other songs are relevant to its queries than in {against}"))
    if not shared:
        raise RunsDiffer("the runs share no query")
    rows = first.filter(pc.field("query").isin(pa.array(sorted(shared), pa.string())))
    return rows.rename_columns({"artist_id_first": "artist_id"}), len(every - shared)


def _methods(tables: dict[tuple[str, int], pa.Table], label: str, seeds: Sequence[int]) -> list[str]:
    by_seed = [set(tables[label, seed]["method"].unique().to_pylist()) for seed in seeds]
    for seed, mine in zip(seeds, by_seed, strict=True):
        if mine != by_seed[0]:
            raise RunsDiffer(f"{_name(label, seed)}: it has not the methods of seed {seeds[0]} "
                             f"({', '.join(sorted(mine ^ by_seed[0]))})")
    return [m for m in ORDER if m in by_seed[0]] + sorted(by_seed[0] - set(ORDER))


def _sums(table: pa.Table, method: str, queries: pa.Table, clusters: np.ndarray,
          names: Sequence[str]) -> np.ndarray:
    """(artists, metrics) float64, over each artist's queries."""
    rows = table.filter(pc.field("method") == method)
    at = pc.call_function("index_in", [queries["query"].combine_chunks()],
                          pc.SetLookupOptions(rows["query"].combine_chunks()))
    if at.null_count:
        raise RunsDiffer(f"{method}: it was not asked by all queries")
    values = rows.select(list(names)).take(at)
    columns = [np.bincount(clusters, values[name].to_numpy().astype(np.float64)) for name in names]
    return np.stack(columns, axis=1)


def _name(label: str, seed: int) -> str:
    return f"{label}, seed {seed}"


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
