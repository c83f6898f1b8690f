"""A published store of 60 songs for questions in SQL, whose answers are always the same.

Twelve artists of four genres; two embeddings (MFCC, published, and MSD's timbre), windows, lyrics, labels,
failures with reasons, an evaluation's queries; one song is there twice, and one name is hostile.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from simsong.config_loader import load
from simsong.parts.stages import MFCC, TIMBRE, RunContext
from storage.exports import published_content, read_published
from storage.store import Store
from tasks.artists import artists
from tasks.export import export
from tasks.map import song_map as lay_songs
from tasks.neighbours import neighbours

AT = datetime(2026, 1, 1, tzinfo=UTC)
GENRES = ("Electronic", "Folk", "Jazz", "Rock")
ARTISTS = ("Ada Bell", "Blue Comet", "Carla's 9\" Nails", "Dune [live]", "Echo run=3", "Fjord",
           "Gale", "Harbour", "Indigo", "Juniper", "Kestrel", "Lantern")
SONGS, SHARD, DIM = 60, 20, 16
WORDS = ("amber", "birch", "cloud", "dawn", "ember")


def write_asked_store(root: Path, *, song_map: Literal["circle", "umap"] | None = "circle") -> Store:
    config = load(None, {"store": str(root), "publish": {"model": "mfcc"}}, {})
    with Store.writing(str(root)) as store:
        _write_tables(store)
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        export.fn(run=run, after=[])
        neighbours.fn(run=run, after=[])
        artists.fn(run=run, after=[])
        if song_map == "umap":              # compiles for seconds
            lay_songs.fn(run=run, after=[])
        elif song_map == "circle":
            lay_on_circle(store)
    return Store.open(str(root))


def lay_on_circle(store: Store) -> None:
    """In a circle, a region a genre."""
    rows = [{"track_id": one, "x": float(np.cos(i)), "y": float(np.sin(i)),
             "cluster": i % 4 if i % 7 else None, "label": GENRES[i % 4] if i % 7 else None}
            for i, one in enumerate(read_published(store).tracks["track_id"].to_pylist())]
    store.write("map", [rows], "id", facts={"of": published_content(store)})


def track_id(number: int) -> str:
    return f"TR{number:03d}"


def _write_tables(store: Store) -> None:
    rng = np.random.default_rng(13)
    artist_of = np.arange(SONGS) % len(ARTISTS)
    genre_of = artist_of % len(GENRES)
    towards = 1.5 * rng.standard_normal((len(GENRES), DIM))[genre_of] + rng.standard_normal(
        (len(ARTISTS), DIM))[artist_of]
    sound = np.round(towards + rng.standard_normal((SONGS, DIM)), 3)
    sound[47] = sound[11] + 0.001           # the same recording under two ids
    timbre = np.round(towards[:, :12] + 2 * rng.standard_normal((SONGS, 12)), 3)
    lyrics = np.round(rng.standard_normal((SONGS, 8)), 3)
    titles = [f"{WORDS[i % 5].title()} {WORDS[(i // 5) % 5]}" for i in range(SONGS)]
    titles[13], titles[14] = "It's 50% \"off\"; DROP VIEW songs --", "Tab\there\x1b[31m"
    titles[47] = titles[11]
    store.write("tracks", [[{
        "track_id": track_id(i), "artist_id": f"AR{artist_of[i]:02d}", "artist": ARTISTS[artist_of[i]],
        "title": titles[i], "release": f"Album {i % 7}", "year": 1990 + (7 * i) % 30,
        "duration_s": 150.0 + (37 * i) % 120, "source": "table", "shard": i // SHARD,
        "duplicate_of": track_id(11) if i == 47 else None} for i in range(SONGS)]], "id")
    store.write("genres", [sorted(({"track_id": track_id(i), "name": GENRES[genre_of[i]], "weight": 1.0,
                                    "source": "table"} for i in range(SONGS)),
                                  key=lambda row: row["track_id"])], "id")
    store.write("tags", [[{"track_id": track_id(i), "name": name, "weight": 100.0 - 10 * place}
                          for i in range(SONGS)
                          for place, name in enumerate(sorted({WORDS[i % 5], WORDS[(i * i) % 5]}))]], "id")
    store.write("similars", [[{"track_id": track_id(i), "similar_id": track_id((i + 12) % SONGS),
                               "score": 0.9} for i in range(SONGS)]], "id")
    for shard in range(SONGS // SHARD):
        songs = range(shard * SHARD, (shard + 1) * SHARD)
        _write_shard(store, shard, [i for i in songs if i % 15 != 7], songs, sound, lyrics)
    store.write("track_embeddings", [_vectors(range(SONGS), timbre)], "id", partition=TIMBRE)
    _write_queries(store, genre_of)


def _write_shard(store: Store, shard: int, heard: list[int], songs: range, sound: np.ndarray,
                 lyrics: np.ndarray) -> None:
    store.write("audio", [[{"track_id": track_id(i), "url": f"https://example.org/{i}", "title": "a",
                            "match_score": 90.0 - i % 20, "file": f"audio/{i}", "codec": "opus",
                            "duration_s": 151.0 + (37 * i) % 120, "bytes": 1_000_000 + i,
                            "sha256": "0" * 64, "fetched_at": AT} for i in heard]], "id", shard=shard)
    spoken = [i for i in songs if i % 6 != 5]
    store.write("lyrics", [[{"track_id": track_id(i), "kind": "text", "language": "en" if i % 3 else "de",
                             "text": f"{WORDS[i % 5]} words", "fetched_at": AT} for i in spoken]], "id",
                shard=shard)
    store.write("lyric_embeddings", [_vectors(spoken, lyrics)], "id", shard=shard, partition="bert-0")
    store.write("trims", [[{"track_id": track_id(i), "start_s": 2.0, "end_s": 140.0, "mode": "structure"}
                           for i in heard]], "id", shard=shard)
    store.write("segments", [[{"track_id": track_id(i), "segment": n, "start_s": 2.0 + 30 * n,
                               "end_s": 32.0 + 30 * n, "audio": b"fLaC"} for i in heard for n in range(3)]],
                "id", shard=shard)
    rng = np.random.default_rng(shard)
    store.write("segment_embeddings", [[
        {"track_id": track_id(i), "segment": n,
         "embedding": (sound[i] + np.round(rng.standard_normal(DIM), 3)).astype(np.float32)}
        for i in heard for n in range(3)]], "id", shard=shard, partition=MFCC)
    store.write("track_embeddings", [_vectors(heard, sound)], "id", shard=shard, partition=MFCC)
    failed = {i: ("failed", "no_match", "4 candidates, the best scores 41") if i % 2 else
              ("failed", "timeout", "no answer within 30 s") for i in songs if i not in heard}
    for stage in ("fetch_audio", "fetch_lyrics", "trim", "segments", "embed_lyrics-bert-0", f"embed-{MFCC}"):
        given = {"fetch_audio": list(songs), "fetch_lyrics": list(songs), "embed_lyrics-bert-0": spoken}
        rows = []
        for i in given.get(stage, heard):
            status, reason, detail = "ok", None, None
            if stage == "fetch_audio" and i in failed:
                status, reason, detail = failed[i]
            elif stage == "fetch_lyrics" and i not in spoken:
                status, reason, detail = "failed", "no_lyrics", "the site has a page without words"
            rows.append({"track_id": track_id(i), "status": status, "reason": reason, "detail": detail,
                         "attempts": 1, "at": AT})
        store.write("outcomes", [rows], "id", shard=shard, partition=stage)


def _vectors(songs: Any, vectors: np.ndarray) -> list[dict[str, Any]]:
    return [{"track_id": track_id(i), "embedding": vectors[i].astype(np.float32)} for i in songs]


def _write_queries(store: Store, genre_of: np.ndarray) -> None:
    def recall(i: int, method: str, filtered: bool) -> float:
        return ((i * (3 if method == "mfcc" else 1) + genre_of[i]) % 3) / (4 if filtered else 2)

    rows = [{"method": method, "pool": "everything", "artist_filter": filtered, "truth": "similars",
             "query": track_id(i), "artist_id": f"AR{i % len(ARTISTS):02d}", "n_relevant": 2,
             "recall@10": recall(i, method, filtered),
             "ndcg@10": (i % 4) / 4}
            for method in ("mfcc", "random") for filtered in (False, True) for i in range(0, SONGS, 2)]
    path = store.scratch()
    pq.write_table(pa.Table.from_pylist(rows), path)
    store.put("reports/queries.parquet", path)
