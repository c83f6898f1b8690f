"""Stage evaluate: every method's embeddings and the ground truth → `reports/evaluation.json`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
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
from storage.tables import TABLES
from tasks.base import Plan, stage_task
from tasks.models import UNTRAINED, promoted
from tasks.part import Done, commit, once_done
from tasks.stages import MFCC, TIMBRE, Run, config_values, ingested_shards, is_whole, lyric_model_label

VERSION = 3
EVALUATION = "reports/evaluation.json"
WORDS = "words"
BATCH_ROWS = 1_000_000


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
              for shard in store.shards("segments") or ingested_shards(store)]
    told = [[footer.columns for footer in store.footers(table)]
            for table in ("similars", "artist_similars", "genres", "words")]
    return digest("evaluate", VERSION, inputs, tracks, told,
                  config_values(config, ("evaluation",)))


def methods(store: Store) -> dict[str, str]:
    """Method → the partition of `track_embeddings` that holds its vectors."""
    found = {name: promoted(store, name) for name in (UNTRAINED, "ns", "wns")}
    return {MFCC: MFCC, TIMBRE: TIMBRE, **{name: label for name, label in found.items() if label}}


def songs_of(store: Store) -> Songs:
    """The songs that have an embedding of their audio (where none has, of MSD's timbre), sorted by id, each
    with its weightiest genre."""
    found = (store.read("track_embeddings", partition=label, columns=["track_id"])["track_id"]
             for label in (MFCC, TIMBRE))
    ids = next((column.combine_chunks() for column in found if len(column)), pa.array([], pa.string()))
    columns = ["track_id", "artist_id", "artist", "title"]
    rows = _among(store, "tracks", columns, track_id=ids).sort_by("track_id").to_pydict()
    genres = _weightiest(_among(store, "genres", ["track_id", "name", "weight"], track_id=ids))
    return Songs(rows["track_id"], rows["artist_id"], rows["artist"], rows["title"],
                 [genres.get(track_id) for track_id in rows["track_id"]])


def _among(store: Store, table: str, columns: list[str], **among: pa.Array) -> pa.Table:
    """The rows of a catalogue table whose columns hold some of these values, with a bounded memory."""
    found = [TABLES[table].schema.empty_table().select(columns)]
    for rows in _batched(store.scan(table, columns)):
        for name, values in among.items():
            rows = rows.filter(pc.field(name).isin(values))
        found.append(rows)
    return pa.concat_tables(found)


def _batched(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Fewer and larger ones: looking up costs by the table as well as by the row."""
    held: list[pa.Table] = []
    for rows in tables:
        held.append(rows)
        if sum(table.num_rows for table in held) >= BATCH_ROWS:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _weightiest(labels: pa.Table) -> dict[str, str]:
    """The label of each track that weighs most; of equals, the first."""
    best: dict[str, tuple[float, str]] = {}
    for track_id, name, weight in zip(*labels.to_pydict().values(), strict=True):
        if track_id not in best or (weight or 0.0) > best[track_id][0]:
            best[track_id] = (weight or 0.0, name)
    return {track_id: name for track_id, (_, name) in best.items()}


def embeddings_of(store: Store, config: Config, songs: Songs) -> dict[str, np.ndarray]:
    """Method → (songs, dim) float32, NaN rows where a song has none."""
    parts = [(name, "track_embeddings", label) for name, label in methods(store).items()]
    out: dict[str, np.ndarray] = {}
    for name, table, label in [*parts, ("lyrics", "lyric_embeddings", lyric_model_label(config))]:
        rows = store.read(table, partition=label)
        at = pc.call_function("index_in", [pa.array(songs.track_ids, pa.string())],
                              pc.SetLookupOptions(rows["track_id"].combine_chunks()))
        if rows.num_rows and at.null_count < len(at):
            column = rows["embedding"].combine_chunks()
            vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(rows.num_rows, -1)
            out[name] = np.full((len(songs), vectors.shape[1]), np.nan, np.float32)
            there = at.is_valid().to_numpy(zero_copy_only=False)
            out[name][there] = vectors[at.drop_null().to_numpy()]
    return out


def words_of(store: Store, songs: Songs) -> dict[str, Embedding]:
    """Method "words", (songs, words) sparse: TF-IDF of the words of their lyrics; {} where none has any."""
    ids = pa.array(songs.track_ids, pa.string())
    rows = _among(store, "words", ["track_id", "word", "count"], track_id=ids)
    counts, words = word_matrix(rows["track_id"], rows["word"], rows["count"], songs.track_ids)
    return {WORDS: tfidf(counts)} if words else {}


def truths_of(store: Store, config: Config, songs: Songs) -> list[GroundTruth]:
    """Last.fm's similars, then similar artists, as far as they say anything of these songs; where neither
    does, artist and genre stand in."""
    ids = pa.array(songs.track_ids, pa.string())
    artists = pa.array(songs.artist_ids, pa.string()).unique()
    pairs = _among(store, "similars", ["track_id", "similar_id", "score"], track_id=ids, similar_id=ids)
    lists = _among(store, "artist_similars", ["artist_id", "similar_id"],
                   artist_id=artists, similar_id=artists)
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
