"""The evaluation at scale: time, memory, and whether the figures are those of the definition.

`python -m benchmarks.evaluation.evaluate [--songs 100000] [--dim 256] [--similars 10] [--queries N] [--check
200] [--methods 6]`: embeddings of that many songs, artists of 10 songs on average, each song with that many
similar ones, and all songs asking unless --queries says fewer; in a process of its own, whose largest memory
is told. Then some of the queries are ranked again in float64, each against all songs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.config import EvaluationSettings
from simsong.evaluation.evaluate import evaluate_queries
from simsong.evaluation.ground_truth import EvaluationSongs, GroundTruth
from simsong.evaluation.ranking import Embedding

GROUP_SONGS = 50               # songs about one centre, of which the similar ones are drawn
METHODS: tuple[str, ...] = ("ns", "wns", "mfcc", "untrained", "lyrics", "musicnn")
KS = (1, 10, 100)


@dataclass(frozen=True)
class Outcome:
    seconds: float
    processor_s: float
    megabytes: float           # of the process at its largest
    before_mb: float           # before the evaluation: interpreter, libraries, data
    queries: int
    recall: float              # at 10, over everything
    worst: float               # largest difference of a checked figure from the definition's


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation.evaluate", description=__doc__)
    for name, default in (("songs", 100_000), ("dim", 256), ("similars", 10), ("queries", 0), ("check", 200),
                          ("methods", 6)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        out = pool.submit(measure, args.songs, args.dim, args.similars, args.queries or args.songs,
                          args.check, args.methods).result()
    print(f"{args.songs} × {args.dim}, {args.methods} methods, {args.similars} similar songs each, "
          f"{out.queries} queries: {out.seconds:.0f} s ({out.processor_s:.0f} s of processor), "
          f"{out.megabytes:.0f} MB at most ({out.before_mb:.0f} MB before); "
          f"recall@10 {out.recall:.4f}; {args.check} queries ranked again in float64 differ by "
          f"{out.worst:.1e} at most")


def measure(n: int, dim: int, similars: int, queries: int, check: int, methods: int) -> Outcome:
    songs, truth, matrix = data(n, dim, similars)
    config = EvaluationSettings.model_validate({"ks": KS, "queries": queries})
    before, start, busy = largest_mb(), time.perf_counter(), time.process_time()
    figures, table = evaluate_queries(Made(matrix, methods), songs, [truth], None, config)
    seconds, busy, after = time.perf_counter() - start, time.process_time() - busy, largest_mb()
    return Outcome(seconds, busy, after, before, figures["protocol"]["queries"],
                   figures["methods"]["ns"]["recall@10"]["value"], worst(table, songs, truth, matrix, check))


class Made(Mapping[str, Embedding]):
    """Method → embedding, made each time that it is asked for, as those of a store are read."""

    def __init__(self, matrix: np.ndarray, methods: int) -> None:
        self._matrix, self._noise = matrix, dict(zip(METHODS[:methods], range(methods), strict=False))

    def __getitem__(self, name: str) -> np.ndarray:
        rng, out = np.random.default_rng(self._noise[name]), self._matrix.copy()
        for part in np.array_split(out, max(1, len(out) // 10_000)) if self._noise[name] else ():
            part += rng.standard_normal(part.shape, dtype=np.float32)
        return out

    def __iter__(self) -> Iterator[str]:
        return iter(self._noise)

    def __len__(self) -> int:
        return len(self._noise)


def data(n: int, dim: int, similars: int) -> tuple[EvaluationSongs, GroundTruth, np.ndarray]:
    """Songs about centres, the similar ones about the same centre; artists and centres have nothing to do
    with each other."""
    rng = np.random.default_rng(0)
    groups = max(1, n // GROUP_SONGS)
    group = np.sort(rng.integers(groups, size=n))
    matrix = rng.standard_normal((groups, dim), dtype=np.float32)[group]
    for part in np.array_split(matrix, max(1, n // 10_000)):
        part += 1.5 * rng.standard_normal(part.shape, dtype=np.float32)
    first, count = np.searchsorted(group, np.arange(groups)), np.bincount(group, minlength=groups)
    songs = first[group][:, None] + rng.integers(count[group][:, None], size=(n, similars))
    relevant = [np.unique(row) for row in songs]
    asking = np.array([(row != i).any() for i, row in enumerate(relevant)])
    artists = [f"AR{artist}" for artist in rng.integers(max(1, n // 10), size=n).tolist()]
    ids, none = [f"TR{i}" for i in range(n)], [None] * n
    return EvaluationSongs(ids, artists, none, none, none), GroundTruth("similars", relevant, asking), matrix


def worst(table: pa.Table, songs: EvaluationSongs, truth: GroundTruth, matrix: np.ndarray,
          check: int) -> float:
    """The largest difference of recall, hit rate and MRR of some queries from what the definitions give."""
    rows = table.filter(pc.field("method") == "ns")
    some = np.random.default_rng(1).permutation(rows.num_rows)[:check]
    artists, unit = songs.artist_codes(), matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    differences = [0.0]
    for query_row in rows.take(pa.array(some)).to_pylist():
        query = int(query_row["query"][2:])
        cosine = np.concatenate([part.astype(np.float64) @ unit[query].astype(np.float64)
                                 for part in np.array_split(unit, max(1, len(unit) // 50_000))])
        out = artists == artists[query] if query_row["artist_filter"] else np.arange(len(unit)) == query
        cosine[out] = -9
        wanted = truth.relevant[query][~out[truth.relevant[query]]]
        ranks = np.array([1 + np.count_nonzero(cosine > cosine[row]) for row in wanted])
        metrics = {"mrr": 1 / ranks.min() if ranks.min() <= max(KS) else 0.0}
        for k in KS:
            metrics |= {f"recall@{k}": float(np.mean(ranks <= k)), f"hit_rate@{k}": float((ranks <= k).any())}
        differences += [abs(value - query_row[name]) for name, value in metrics.items()]
    return max(differences)


def largest_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
