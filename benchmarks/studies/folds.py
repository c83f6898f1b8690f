"""How each method finds songs of artists that nothing was fitted to, by folds of artists.

`python -m benchmarks.studies.folds DIR… [--folds 5] [--seeds 3] [--methods random,mfcc,…] [--store STORE]`
runs the program on the folders, then two studies of it: heads on pretrained features (`simsong ablate --folds
5 --losses ns,wns`), and `tiny` from scratch, which is dear (`--tiny-seeds 1`). In each fold the songs of its
artists ask among all songs; models are fitted to the others, and what is published is chosen on those that
validate. A table in Markdown: recall@10 of the same artist's songs, precision@10 (of as many as there are) of
the same genre's, and paired differences, with 95 % intervals over artists and seeds. What is finished is not
computed again, so a benchmark may be interrupted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.catalogue.recordings import Recordings
from simsong.catalogue.songs import truths_of
from simsong.config_loader import load
from simsong.datasets.evaluation import songs_of
from simsong.datasets.training import heads_label, song_features_of, training_choice
from simsong.evaluation.evaluate import evaluate_queries
from simsong.evaluation.ground_truth import SAME_ARTIST, SAME_GENRE
from simsong.evaluation.study import RunFigures, compare
from simsong.studies.runs import Place, queries_of
from simsong.studies.study import plan_study
from simsong.training.split import fold_artists
from storage.catalogue import Catalogue
from storage.store import Store

K = 10
METRICS = {SAME_ARTIST: f"recall@{K}", SAME_GENRE: f"precision@{K}"}
METHODS = {"random": "random", "mfcc": "MFCC", "musicnn": "musicnn, as AudioMuse-AI uses it",
           "features": "its features, standardised",
           "tiny": "`tiny` from scratch, NS",
           "adapted": "`adapted`", "ns": "head, NS",
           "wns": "head, WNS", "published": "published, chosen by validation"}
BASELINES = ("random", "mfcc", "musicnn", "features", "tiny")
PAIRS = [*((a, b) for a in ("published", "adapted") for b in BASELINES), ("published", "adapted"),
         ("ns", "adapted"), ("wns", "adapted"), ("wns", "ns"), ("tiny", "mfcc")]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.folds", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tiny-seeds", type=int, default=1)
    parser.add_argument("--tiny-steps", type=int, default=300)
    parser.add_argument("--methods", default=",".join(METHODS), help="those of the table")
    parser.add_argument("--validation", type=float, default=0.25,
                        help="share of a fold's other artists that validate")
    parser.add_argument("--store", default="simsong-folds")
    args = parser.parse_args()
    methods = args.methods.split(",")
    if unknown := set(methods) - set(METHODS):
        parser.error(f"--methods: {', '.join(sorted(unknown))}; there are {', '.join(METHODS)}")
    os.environ["SIMSONG_TRAINING__VALIDATION"] = str(args.validation)
    folders = [str(Path(folder).absolute()) for folder in args.folders]
    if folders:
        program("run", "--store", args.store, "--yes", *(f"--folder={folder}" for folder in folders))
    tables = [studied(args.store, "heads", args.folds, args.seeds, {"model.preset": ["head"]},
                      ["ns", "wns"])]
    if "features" in methods:
        tables.append([of_features(args.store, args.folds)])
    if "tiny" in methods:
        over = {"model.preset": ["tiny"], "training.steps": [str(args.tiny_steps)]}
        study = studied(args.store, "tiny", args.folds, args.tiny_seeds, over, ["ns"])
        tables.append([of_tiny(table) for table in study])
    print(table_text(tables, methods))


def program(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "simsong.cli", *words], stdout=sys.stderr, check=True)


def studied(store: str, name: str, folds: int, seeds: int, over: dict[str, list[str]],
            losses: list[str]) -> list[pa.Table]:
    """Every query's figures of a study, of all folds, by seed."""
    program("ablate", "--store", store, f"--folds={folds}", f"--seeds={seeds}", "--name", f"folds-{name}",
            "--losses", ",".join(losses), *(f"--over={key}={','.join(own)}" for key, own in over.items()))
    study = plan_study(None, {"store": store}, over, seeds, losses, f"folds-{name}", folds)
    place = Place(Store.open(store), study)
    return [queries_of(place, study.variants, seed) for seed in study.seeds]


def of_features(store_at: str, folds: int) -> pa.Table:
    """Every query's figures of the mean and deviation of a song's patches, each dimension standardised."""
    config, store = load(None, {"store": store_at}), Store.open(store_at)
    songs, label = songs_of(store), heads_label(config)
    moments = {track_id: np.concatenate([patches.mean(0), patches.std(0)])
               for shard in Catalogue(store).parts("features", label)
               for track_id, _, patches in song_features_of(store, label, shard)}
    width = len(next(iter(moments.values())))
    rows = np.stack([moments.get(i, np.full(width, np.nan)) for i in songs.track_ids])
    scale = np.nanstd(rows, 0)
    embeddings = {"features": (rows - np.nanmean(rows, 0)) / np.where(scale > 1e-6, scale, 1)}
    truths, artists = truths_of(store, config, songs), Recordings.of(store).artists
    of_all = [artists[track_id] for track_id in training_choice(store, config).use]
    tables: list[pa.Table] = []
    for number in range(1, folds + 1):
        fold = fold_artists(of_all, f"{number}/{folds}", config.training.split_seed)
        held_out = np.array([artists[track_id] in fold for track_id in songs.track_ids])
        tables.append(plain(evaluate_queries(embeddings, songs, truths, held_out, config.evaluation)[1]))
    tiny = pa.concat_tables(tables)
    return tiny.filter(pc.field("method") == "features")


def of_tiny(table: pa.Table) -> pa.Table:
    """Its own figures alone, by its name."""
    table = table.filter(pc.field("method") == "ns")
    names = pa.array(["tiny"] * len(table), pa.string())
    return table.set_column(table.schema.get_field_index("method"), "method", names)


def table_text(studies: Sequence[Sequence[pa.Table]], methods: Sequence[str]) -> str:
    """The table. A study of fewer seeds than the first one stands with its first seed in the place of those
    that it lacks: its intervals are then over artists alone."""
    seeds = range(len(studies[0]))
    runs = [RunFigures("all", seed, joined([tables[seed if seed < len(tables) else 0] for tables in studies],
                                           methods)) for seed in seeds]
    pairs = [(f"all/{a}", f"all/{b}") for a, b in PAIRS if a in methods and b in methods]
    comparisons = {truth: compare(runs, pairs, metrics=[metric], truth=truth, common=True)
                   for truth, metric in METRICS.items()}
    artist, genre = (comparisons[truth]["protocol"] for truth in METRICS)
    lines = [f"{artist['queries']} queries by {artist['query_artists']} artists; {genre['queries']} by "
             f"{genre['query_artists']}; seeds: {', '.join(str(len(tables)) for tables in studies)}", "",
             "| method | same artist, recall@10 | same genre, precision@10 |", "|---|---|---|"]
    of = {truth: result["variants"][0]["methods"] for truth, result in comparisons.items()}
    lines += [f"| {METHODS[name]} | " + " | ".join(cell(of[truth][name][METRICS[truth]]) for truth in METRICS)
              + " |" for name in methods if all(name in rows for rows in of.values())]
    lines += ["", "| difference | same artist | same genre |", "|---|---|---|"]
    for at, (a, b) in enumerate(pairs):
        cells = [comparisons[truth]["differences"][at]["metrics"][metric]
                 for truth, metric in METRICS.items()]
        names = [METHODS[side.rpartition("/")[2]] for side in (a, b)]
        lines.append(f"| {names[0]} − {names[1]} | {cell(cells[0], '+')} | {cell(cells[1], '+')} |")
    return "\n".join(lines)


def joined(tables: Sequence[pa.Table], methods: Sequence[str]) -> pa.Table:
    """The rows of these methods, of the queries that all studies have; with precision@10 of as many relevant
    songs as there are."""
    common = set.intersection(*(set(table["query"].to_pylist()) for table in tables))
    rows = pa.concat_tables(plain(table).filter(pc.field("query").isin(sorted(common))
                                                & pc.field("method").isin(list(methods))) for table in tables)
    relevant = rows["n_relevant"].to_numpy().astype(np.float64)
    precision = rows[f"recall@{K}"].to_numpy() * relevant / np.minimum(relevant, K)
    return rows.append_column(f"precision@{K}", pa.array(precision))


def plain(table: pa.Table) -> pa.Table:
    """Words as such, so that tables join."""
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(at, field.name, table[field.name].cast(pa.string()))
    return table


def cell(estimate: dict[str, Any], sign: str = "") -> str:
    return f"{estimate['value']:{sign}.3f} [{estimate['low']:{sign}.3f}, {estimate['high']:{sign}.3f}]"


if __name__ == "__main__":
    main()
