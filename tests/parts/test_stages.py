"""What the stages write: each hands the right song's thing to the domain, and keeps what comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from simsong.audio.loudness import gain_to
from simsong.audio.segments import decode_segment
from simsong.config_loader import load
from simsong.datasets.evaluation import held_out_of, songs_of
from simsong.lyrics.embed import LyricEncoder
from simsong.parts.stages import RunContext, lyric_model_label
from simsong.registry.models import promoted
from simsong.registry.trained_on import tracks_seen
from simsong.training.split import held_out_artists
from storage.exports import read_published
from storage.store import Store
from tasks.export import export
from tasks.fetch_audio import fetch_audio
from tasks.ingest import ingest
from tasks.train import train
from tests.small_world import RATE_HZ, configured, refresh, write_song

ARTISTS = ("ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal", "ida", "jon")


def test_trims_are_of_the_song(tmp_path: Path) -> None:
    file = write_song(tmp_path / "music", "quiet start", seconds=4.0)
    samples, rate = soundfile.read(file)
    samples[:rate] = 0.0
    soundfile.write(file, samples, rate)
    config = configured(tmp_path / "music", tmp_path / "store", trim={"mode": "silence"})
    refresh(config)
    row = Store.open(config.store).read("trims").to_pylist()[0]
    assert row["start_s"] == pytest.approx(1.0, abs=0.1)
    assert row["end_s"] == pytest.approx(4.0, abs=0.1)


def test_segments_begin_where_the_trim_says(tmp_path: Path) -> None:
    file = write_song(tmp_path / "music", "ann", seconds=4.0)
    config = configured(tmp_path / "music", tmp_path / "store",
                        trim={"mode": "fixed", "intro_s": 0.5, "outro_s": 0.25})
    refresh(config)
    rows = Store.open(config.store).read("segments").to_pylist()
    assert [(row["start_s"], row["end_s"]) for row in rows] == [(0.5, 1.5), (1.5, 2.5), (2.5, 3.5)]
    samples = soundfile.read(file)[0].astype(np.float32)
    samples *= gain_to(samples[round(0.5 * RATE_HZ):round(3.75 * RATE_HZ)], -23.0)
    for row in rows:
        part = samples[round(row["start_s"] * RATE_HZ):round(row["end_s"] * RATE_HZ)]
        np.testing.assert_allclose(decode_segment(row["audio"]), part, atol=1e-4)


def test_vectors_belong_to_their_songs(tmp_path: Path) -> None:
    for name in ARTISTS[:3]:
        verse = f"{name} " * 3 + "walks along the harbour wall\n" * 4 + name * 3
        write_song(tmp_path / "music", name, lyrics=verse)
    config = configured(tmp_path / "music", tmp_path / "store")
    refresh(config)
    store = Store.open(config.store)
    texts = {row["track_id"]: row["text"] for row in store.read("lyrics").to_pylist()}
    words = store.read("lyric_embeddings", partition=lyric_model_label(config)).to_pylist()
    assert {row["track_id"] for row in words} == set(texts)
    encoder = LyricEncoder(config.lyric_model)
    for row in words:
        np.testing.assert_allclose(row["embedding"], encoder.encode([texts[row["track_id"]]])[0], atol=1e-5)
    windows = store.read("segment_embeddings", partition="mfcc-2").to_pylist()
    for row in store.read("track_embeddings", partition="mfcc-2").to_pylist():
        own = [w["embedding"] for w in windows if w["track_id"] == row["track_id"]]
        assert len(own) == 3
        np.testing.assert_allclose(row["embedding"], np.mean(own, axis=0), rtol=1e-4)


def test_training_never_sees_a_held_out_artist(tmp_path: Path) -> None:
    for name in ARTISTS:
        write_song(tmp_path / "music", name)
    write_song(tmp_path / "music", "short", seconds=1.2)
    config = configured(tmp_path / "music", tmp_path / "store", catalogue={"shard_songs": 6},
                        training={"steps": 2, "batch": 4, "held_out": 0.4}, publish={"model": "ns"})
    refresh(config)
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        train.fn(name="ns", run=run)
        artists = {row["track_id"]: row["artist_id"] for row in store.read("tracks").to_pylist()}
        held_out = held_out_artists(list(artists.values()), 0.4, config.training.seed)
        outcomes = store.read("outcomes", partition="train-ns").to_pylist()
        seen = {artists[track_id] for track_id in tracks_seen(store, str(promoted(store, "ns")))}
        assert len(held_out) >= 2
        assert not seen & held_out
        assert [row["reason"] for row in outcomes] in ([], ["one_segment"])     # no row says that all is well
        songs = songs_of(store)
        result = held_out_of(store, config, songs)
        assert result is not None
        assert {a for a, out in zip(songs.artist_ids, result, strict=True) if not out} == seen

        label = promoted(store, "ns")
        assert label is not None
        shards = {row["track_id"]: row["shard"] for row in store.read("tracks").to_pylist()}
        vectors = [{"track_id": i, "embedding": np.full(3, n, np.float32)}
                   for n, i in enumerate(sorted(artists))]
        for shard in (0, 1):
            some = [vector for vector in vectors if shards[vector["track_id"]] == shard]
            windows = [{**vector, "segment": 0} for vector in some]
            store.write("track_embeddings", [some], "id", shard=shard, partition=label)
            store.write("segment_embeddings", [windows], "id", shard=shard, partition=label)
        assert export.fn(run=run, after=[]).ok == len(artists)
        published = read_published(store)
        assert published.model == label
        assert published.tracks["track_id"].to_pylist() == sorted(artists)
        assert published.embeddings[:, 0].tolist() == list(range(len(artists)))
        table = pq.read_table(tmp_path / "store" / "exports" / label / "tracks.parquet")
        assert not {"text", "audio", "url"} & set(table.column_names)


def test_what_is_too_short_for_a_song_is_not_looked_for(tmp_path: Path) -> None:
    """MSD has an entry of 0.57 s. A search would go to a port where nobody listens, and end as connection."""
    table = tmp_path / "songs.csv"
    table.write_text("artist,title,duration_s\nGob,Blip,0.57\n")
    config = load(None, {"store": str(tmp_path / "store"), "sources": {"table": str(table)},
                         "fetch": {"search": "http://127.0.0.1:9/?q={query}"}}, {})
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        done = fetch_audio.fn(done=ingest.fn(run=run), run=run)
        assert done.failed == {"too_short": 1}
        detail = store.read("outcomes", 0, partition="fetch_audio")["detail"][0].as_py()
        assert detail == "0.6 s by the catalogue; it is not looked for"
