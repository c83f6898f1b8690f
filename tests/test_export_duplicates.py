"""The export marks the same recording: by its sound, by its names, and what both join."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import soundfile

from simsong.config import Config
from storage.exports import CURRENT, read_published
from storage.store import Store
from tasks.base import Done
from tasks.export import export
from tasks.ingest import ingest
from tasks.stages import TIMBRE, Run
from tests.small_world import RATE_HZ, configured, refresh

NOTE_S = 0.25
WINDOWS: dict[str, object] = {"length_s": 10.0, "hop_s": 10.0}


def melody(seed: int, seconds: float = 30.0) -> np.ndarray:
    """Two voices of random notes."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(NOTE_S * RATE_HZ)) / RATE_HZ
    notes = [sum(0.2 * np.sin(2 * np.pi * hz * t) for hz in rng.uniform(120, 3500, 2))
             for _ in range(int(seconds / NOTE_S))]
    return (np.concatenate(notes) + 0.02 * rng.standard_normal(len(t) * len(notes))).astype(np.float32)


def write(file: Path, samples: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, samples, RATE_HZ)


def exported(config: Config) -> Done:
    """Publish every track, with no model but vectors given by hand."""
    with Store.writing(config.store) as store:
        assert store.generation is not None
        ids = store.read("tracks")["track_id"].to_pylist()
        vectors = [{"track_id": track_id, "embedding": [1.0, 0.0]} for track_id in ids]
        store.write("track_embeddings", [vectors], "id", partition=TIMBRE)
        return export.fn(run=Run(config=config, generation=store.generation), after=[])


def marks(config: Config) -> dict[str, tuple[str | None, str | None]]:
    """By title: the title of the recording, and by what it was found."""
    rows = read_published(Store.open(config.store)).tracks.to_pylist()
    title = {row["track_id"]: row["title"] for row in rows} | {None: None}
    return {row["title"]: (title[row["duplicate_of"]], row["duplicate_by"]) for row in rows}


def test_the_same_sound_under_two_names_is_marked(tmp_path: Path) -> None:
    music = tmp_path / "music"
    write(music / "Ann" / "Sea.wav", melody(1))
    write(music / "Bob" / "Road.wav", melody(2))
    config = configured(music, tmp_path / "store", publish={"model": TIMBRE}, segments=WINDOWS)
    refresh(config)
    assert exported(config).parts_computed == 1
    assert marks(config) == {"Sea": (None, None), "Road": (None, None)}
    assert (exported(config).parts_computed, exported(config).parts_reused) == (0, 1)

    # In a later shard: late, softer, in another codec; and another one that is called as a song is.
    write(music / "Cat" / "Ocean.ogg", np.pad(0.5 * melody(1), (RATE_HZ // 2, 0)))
    write(music / "Bob" / "Road (Remastered).wav", melody(3))
    refresh(config)
    assert exported(config).parts_computed == 1
    found = marks(config)
    assert found == {"Sea": (None, None), "Ocean": ("Sea", "sound"),
                     "Road": (None, None), "Road (Remastered)": ("Road", "names")}
    store = Store.open(config.store)
    current = store.get_json(CURRENT)
    assert current is not None and current["duplicates"] == {"names": 1, "sound": 1}
    assert store.shards("soundprints") == [0, 1]
    assert exported(config).parts_computed == 0


def test_names_and_sound_join_what_they_chain(tmp_path: Path) -> None:
    """One is as another by name, which is as a third by sound: all three are one recording."""
    music = tmp_path / "music"
    for name, seed in (("Ann/Sea", 1), ("Ann/Sea (Remastered)", 2), ("Bob/Road", 2), ("Cat/Other", 4)):
        write(music / f"{name}.wav", melody(seed))
    config = configured(music, tmp_path / "store", publish={"model": TIMBRE}, segments=WINDOWS,
                        catalogue={"shard_songs": 10})
    refresh(config)
    exported(config)
    rows = read_published(Store.open(config.store)).tracks.to_pylist()
    ids = sorted(row["track_id"] for row in rows if row["title"] != "Other")
    assert {row["track_id"]: row["duplicate_of"] for row in rows if row["title"] != "Other"} == {
        ids[0]: None, ids[1]: ids[0], ids[2]: ids[0]}
    assert [row["duplicate_of"] for row in rows if row["title"] == "Other"] == [None]


def test_a_store_without_audio_has_the_marks_by_names(tmp_path: Path) -> None:
    table = tmp_path / "songs.csv"
    table.write_text("artist,title\nAnn,Sea\nAnn,Sea (Remastered)\nBob,Road\n")
    config = configured(tmp_path, tmp_path / "store", publish={"model": TIMBRE}, fetch={"audio": False},
                        sources={"folder": (), "table": str(table)})
    with Store.writing(config.store) as store:
        assert store.generation is not None
        ingest.fn(run=Run(config=config, generation=store.generation))
    exported(config)
    assert sorted(filter(None, (by for _, by in marks(config).values()))) == ["names"]
    shutil.rmtree(tmp_path / "store" / "exports")
    assert exported(config).parts_computed == 1
    columns = pq.read_schema(tmp_path / "store" / "exports" / TIMBRE / "tracks.parquet").names
    assert columns[-3:] == ["duplicate_of", "duplicate_by", "embedding"]
