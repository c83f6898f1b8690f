"""Stage evaluate: every method's embeddings and the ground truth → `reports/evaluation.json`."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow.compute as pc

from simsong.config import Config
from simsong.evaluation.evaluate import evaluate as measure
from simsong.evaluation.ground_truth import (
    GroundTruth,
    Songs,
    from_same_artist,
    from_same_genre,
    from_similar_artists,
    from_similars,
)
from simsong.evaluation.ranking import Embedding
from simsong.lyrics.words import tfidf, word_matrix
from storage.identity import digest
from storage.store import Store
from tasks.base import Plan, stage_task
from tasks.models import UNTRAINED, promoted
from tasks.part import Done, commit, once_done
from tasks.stages import MFCC, Run, config_values, is_whole, lyric_model_label

VERSION = 2
EVALUATION = "reports/evaluation.json"
WORDS = "words"


def _plan(run: Run, **_: Any) -> Plan:
    identity = evaluation_identity(run.store, run.config)
    return Plan(identity, is_whole(run.store, "evaluate", identity))


@stage_task("evaluate", _plan, "evaluate")
def evaluate(run: Run, after: list[Done]) -> Done:
    """Measure all methods on the same queries. `after`: the embed stage's tasks."""
    start, store = time.monotonic(), run.store
    identity = evaluation_identity(store, run.config)
    if is_whole(store, "evaluate", identity):
        return once_done(store, "evaluate").reused()
    songs = songs_of(store)
    found = measure({**embeddings_of(store, run.config, songs), **words_of(store, songs)}, songs,
                    truths_of(store, run.config, songs), held_out_of(store, songs), run.config.evaluation)
    store.put_json(EVALUATION, found)
    commit(store, "evaluate", identity, songs.track_ids, [EVALUATION])
    return once_done(store, "evaluate").model_copy(update={"seconds": time.monotonic() - start})


def evaluation_identity(store: Store, config: Config) -> str:
    """Of all that the figures depend on."""
    inputs: dict[str, Any] = {}
    for table, label in [("lyric_embeddings", lyric_model_label(config)),
                         *(("track_embeddings", label) for label in methods(store).values())]:
        inputs[label] = [store.rows_digest(table, shard, ("embedding",), label)
                         for shard in store.shards(table, label)]
    tracks = [store.rows_digest("tracks", shard, ("artist_id", "artist", "title"))
              for shard in store.shards("segments")]
    told = [[footer.columns for footer in store.footers(table)]
            for table in ("similars", "artist_similars", "genres", "artist_terms", "words")]
    return digest("evaluate", VERSION, inputs, tracks, told,
                  config_values(config, ("evaluation",)))


def methods(store: Store) -> dict[str, str]:
    """Method → the partition of `track_embeddings` that holds its vectors."""
    found = {name: promoted(store, name) for name in (UNTRAINED, "ns", "wns")}
    return {MFCC: MFCC, **{name: label for name, label in found.items() if label}}


def songs_of(store: Store) -> Songs:
    """The songs that have an embedding, sorted by id, each with its genre, else its artist's top term."""
    ids = set(store.read("track_embeddings", partition=MFCC, columns=["track_id"])["track_id"].to_pylist())
    columns = ["track_id", "artist_id", "artist", "title"]
    rows = [row for row in store.read("tracks", columns=columns).to_pylist() if row["track_id"] in ids]
    rows.sort(key=lambda row: row["track_id"])
    genres, terms = _weightiest(store, "genres", "track_id"), _weightiest(store, "artist_terms", "artist_id")
    return Songs([r["track_id"] for r in rows], [r["artist_id"] for r in rows], [r["artist"] for r in rows],
                 [r["title"] for r in rows],
                 [genres.get(r["track_id"]) or terms.get(r["artist_id"]) for r in rows])


def _weightiest(store: Store, table: str, key: str) -> dict[str, str]:
    """The label of each track or artist that weighs most; of equals, the first."""
    best: dict[str, tuple[float, str]] = {}
    for row in store.read(table, columns=[key, "name", "weight"]).to_pylist():
        weight = row["weight"] or 0.0
        if row[key] not in best or weight > best[row[key]][0]:
            best[row[key]] = (weight, row["name"])
    return {owner: name for owner, (_, name) in best.items()}


def embeddings_of(store: Store, config: Config, songs: Songs) -> dict[str, np.ndarray]:
    """Method → (songs, dim) float32, NaN rows where a song has none."""
    parts = [(name, "track_embeddings", label) for name, label in methods(store).items()]
    out: dict[str, np.ndarray] = {}
    for name, table, label in [*parts, ("lyrics", "lyric_embeddings", lyric_model_label(config))]:
        rows = store.read(table, partition=label)
        if rows.num_rows:
            column = rows["embedding"].combine_chunks()
            vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(rows.num_rows, -1)
            at = {track_id: i for i, track_id in enumerate(rows["track_id"].to_pylist())}
            out[name] = np.full((len(songs), vectors.shape[1]), np.nan, np.float32)
            for row, track_id in enumerate(songs.track_ids):
                if track_id in at:
                    out[name][row] = vectors[at[track_id]]
    return out


def words_of(store: Store, songs: Songs) -> dict[str, Embedding]:
    """Method "words", (songs, words) sparse: TF-IDF of the words of their lyrics; {} where none has any."""
    rows = store.read("words")
    counts, words = word_matrix(rows["track_id"], rows["word"], rows["count"], songs.track_ids)
    return {WORDS: tfidf(counts)} if words else {}


def truths_of(store: Store, config: Config, songs: Songs) -> list[GroundTruth]:
    """Last.fm's similars, then similar artists, as far as they say anything of these songs; where neither
    does, artist and genre stand in."""
    pairs, lists = store.read("similars"), store.read("artist_similars")
    truths = [from_similars(songs.track_ids, pairs["track_id"].to_pylist(), pairs["similar_id"].to_pylist(),
                            pairs["score"].to_numpy(), config.evaluation.similar_at),
              from_similar_artists(songs, lists["artist_id"].to_pylist(), lists["similar_id"].to_pylist())]
    told = [truth for truth in truths if truth.queries.any()]
    return told or [from_same_artist(songs), from_same_genre(songs)]


def held_out_of(store: Store, songs: Songs) -> np.ndarray | None:
    """(songs,) bool: whether training never saw the artist; None where it saw all, or nothing is trained."""
    seen: set[str] = set()
    for name in ("ns", "wns"):
        rows = store.read("outcomes", 0, partition=f"train-{name}", columns=["track_id", "status"])
        seen.update(rows.filter(pc.field("status") == "ok")["track_id"].to_pylist())
    artists = zip(songs.track_ids, songs.artist_ids, strict=True)
    trained = {artist for track_id, artist in artists if track_id in seen}
    held_out = np.array([artist not in trained for artist in songs.artist_ids])
    return held_out if trained and held_out.any() else None
