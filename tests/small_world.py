"""A tiny catalogue of real files, and the stages run over it without Prefect: what was computed, by part."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import soundfile

from simsong.config import Config
from simsong.config_loader import load
from simsong.parts.song_audio import forget_sounds
from simsong.parts.stages import MFCC, STAGES, RunContext
from storage.store import Store
from tasks.base import Done
from tasks.embed import embed
from tasks.embed_lyrics import embed_lyrics
from tasks.fetch_audio import fetch_audio
from tasks.fetch_lyrics import fetch_lyrics
from tasks.ingest import ingest
from tasks.segments import cut_segments
from tasks.soundprints import soundprints
from tasks.traits import traits
from tasks.trim import trim

RATE_HZ = 16_000
Computed = set[tuple[str, int]]
SETTINGS = {"catalogue": {"shard_songs": 2}, "segments": {"length_s": 1.0, "hop_s": 1.0},
            "trim": {"mode": "none"}, "lyrics": {"provider": "none"}}
CHAINS = ((fetch_audio, trim, cut_segments, traits), (fetch_lyrics, embed_lyrics))

VERSE = """The river runs under the bridge at night
and carries the lanterns down to the sea
I counted the stars till the morning light
and none of them ever came back to me"""


def write_song(folder: Path, name: str, seconds: float = 3.0, seed: int | None = None,
               lyrics: str | None = VERSE) -> Path:
    """A song of tones by its own artist, with lyrics beside it."""
    file = folder / name / f"song of {name}.wav"
    file.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(name.encode()) if seed is None else seed)
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    tones = sum(np.sin(2 * np.pi * rng.uniform(100, 2000) * t) for _ in range(3))
    noise = 0.1 * rng.standard_normal(len(t))
    soundfile.write(file, (0.2 * (tones + noise)).astype(np.float32), RATE_HZ)
    if lyrics:
        file.with_suffix(".txt").write_text(f"{lyrics}\nand {name} sang along with the band\n")
    return file


def touch_later(file: Path) -> None:
    """A later modification time, as an edit a while after would leave."""
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))


def configured(folder: Path, store: Path, **settings: dict[str, object]) -> Config:
    merged = {name: {**SETTINGS.get(name, {}), **settings.get(name, {})} for name in {*SETTINGS, *settings}}
    return load(None, {"store": str(store), "sources": {"folder": str(folder)}, **merged}, {})


def refresh(config: Config) -> Computed:
    """All stages but training; (stage, shard) of every part that was computed."""
    computed: Computed = set()
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        catalogue = ingest.fn(run=run)
        computed |= {("ingest", 0)} if catalogue.parts_computed else set()
        for shard in catalogue.shards:
            given = Done(stage="ingest", shards=(shard,))
            for chain in CHAINS:
                for stage in chain:
                    done = stage.fn(done=given, run=run)
                    computed |= {(done.stage, shard)} if done.parts_computed else set()
            for done in (embed.fn(done=given, run=run, labels=[MFCC]), soundprints.fn(done=given, run=run)):
                computed |= {(done.stage, shard)} if done.parts_computed else set()
    forget_sounds()
    return computed


def standing(store: Store) -> dict[tuple[str, str], object]:
    """When each song's outcome at each stage came to be, by the outcomes' partition and the song."""
    return {(partition, row["track_id"]): row["at"]
            for partition in store.partitions("outcomes") if partition.partition("-")[0] in STAGES
            for row in store.read("outcomes", partition=partition, columns=["track_id", "at"]).to_pylist()}


def songs_computed(store: Store, before: dict[tuple[str, str], object]) -> set[tuple[str, str]]:
    """Stage and song of what has been computed since; a stage is called without its lyric model."""
    return {(partition if partition.startswith("embed-") else partition.partition("-")[0], track_id)
            for (partition, track_id), at in standing(store).items()
            if before.get((partition, track_id)) != at}


def contents(store: Store) -> dict[str, dict[str, object]]:
    """What every part holds, volatile columns left out: key → identity, digests of the other columns."""
    from storage.tables import TABLES

    out: dict[str, dict[str, object]] = {}
    for key in store.backend.list("tables"):
        footer, table = store.check(key), TABLES[key.split("/")[1]]
        columns = {name: digest for name, digest in footer.columns.items() if name not in table.volatile}
        out[key] = {"identity": footer.identity, **columns}
    return out
