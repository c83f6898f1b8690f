"""What a store's catalogue tells of some songs: labels, words, and which of them are similar."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix

from simsong.catalogue.recordings import Recordings
from simsong.config import Config
from simsong.evaluation.ground_truth import (
    EvaluationSongs,
    GroundTruth,
    from_same_artist,
    from_same_genre,
    from_similar_artists,
    from_similars,
)
from simsong.lyrics.words import tfidf, word_matrix
from storage.batches import joined
from storage.catalogue import Catalogue
from storage.store import Store
from storage.tables import TABLES
from storage.vectors import aligned, positions

BATCH_ROWS = 1_000_000


def songs_of(store: Store, ids: pa.Array) -> EvaluationSongs:
    """Those of the songs that the catalogue has, sorted by id, each with its weightiest genre and the one id
    that its artist goes by."""
    columns, recordings = ["track_id", "artist", "title"], Recordings.of(store)
    rows = _among(store, "tracks", columns, track_id=ids).sort_by("track_id").to_pydict()
    genres = _weightiest(_among(store, "genres", ["track_id", "name", "weight"], track_id=ids))
    return EvaluationSongs(rows["track_id"], [recordings.artist(track_id) for track_id in rows["track_id"]],
                           rows["artist"],
                           rows["title"], [genres.get(track_id) for track_id in rows["track_id"]])


def tags_of(store: Store, songs: EvaluationSongs) -> csr_matrix | None:
    """(songs, tags) weights, 1 where a tag has none; None where no song has any."""
    ids = pa.array(songs.track_ids, pa.string())
    rows = _among(store, "tags", ["track_id", "name", "weight"], track_id=ids)
    if not rows.num_rows:
        return None
    names = rows["name"].combine_chunks().dictionary_encode()
    weights = pc.fill_null(rows["weight"], 1.0).to_numpy().astype(np.float64)
    at = positions(rows["track_id"], ids), names.indices.to_numpy()
    return csr_matrix((weights, at), shape=(len(songs), len(names.dictionary)))


def words_of(store: Store, songs: EvaluationSongs) -> csr_matrix | None:
    """(songs, words) TF-IDF of the words of their lyrics; None where no song has any."""
    ids = pa.array(songs.track_ids, pa.string())
    rows = _among(store, "words", ["track_id", "word", "count"], track_id=ids)
    counts, words = word_matrix(rows["track_id"], rows["word"], rows["count"], songs.track_ids)
    return tfidf(counts) if words else None


def similars_of(store: Store, config: Config, songs: EvaluationSongs) -> GroundTruth:
    """Last.fm's, as far as they are among the songs: what it says of any track of a recording counts."""
    song = Recordings.of(store).tracks_of(songs.track_ids)
    ids = pa.array(song, pa.string())
    pairs = _among(store, "similars", ["track_id", "similar_id", "score"], track_id=ids, similar_id=ids)
    sources, targets = ([song[i] for i in pairs[name].to_pylist()] for name in ("track_id", "similar_id"))
    return from_similars(songs.track_ids, sources, targets, pairs["score"].to_numpy(),
                         config.evaluation.similar_at)


def truths_of(store: Store, config: Config, songs: EvaluationSongs) -> list[GroundTruth]:
    """Last.fm's similars, then similar artists, as far as they say anything of these songs; where neither
    does, artist and genre stand in."""
    artists = {artist: artist for artist in songs.artist_ids if artist}
    artists |= {other: artist for other, artist in Recordings.of(store).of_id.items() if artist in artists}
    ids = pa.array(artists, pa.string())
    lists = _among(store, "artist_similars", ["artist_id", "similar_id"], artist_id=ids, similar_id=ids)
    sources, targets = ([artists[i] for i in lists[name].to_pylist()] for name in ("artist_id", "similar_id"))
    truths = [similars_of(store, config, songs), from_similar_artists(songs, sources, targets)]
    usable = [truth for truth in truths if truth.queries.any()]
    return usable or [from_same_artist(songs), from_same_genre(songs)]


def vectors_of(store: Store, table: str, partition: str, songs: EvaluationSongs) -> np.ndarray | None:
    """(songs, dim) float32 of a table of embeddings, NaN rows where a song has none; None where no song has
    any."""
    rows = Catalogue(store).read(table, partition=partition)
    return aligned(rows, pa.array(songs.track_ids, pa.string()))


def _among(store: Store, table: str, columns: list[str], **among: pa.Array) -> pa.Table:
    """The rows of a catalogue table whose columns hold some of these values, with a bounded memory."""
    parts = [TABLES[table].schema.empty_table().select(columns)]
    # Looking up costs by the table as well as by the row.
    for rows in joined(store.scan(table, columns), lambda rows: rows.num_rows, BATCH_ROWS):
        for name, values in among.items():
            rows = rows.filter(pc.field(name).isin(values))
        parts.append(rows)
    return pa.concat_tables(parts)


def _weightiest(labels: pa.Table) -> dict[str, str]:
    """The label of each track that weighs most; of equals, the first."""
    best: dict[str, tuple[float, str]] = {}
    for track_id, name, weight in zip(*labels.to_pydict().values(), strict=True):
        if track_id not in best or (weight or 0.0) > best[track_id][0]:
            best[track_id] = (weight or 0.0, name)
    return {track_id: name for track_id, (_, name) in best.items()}
