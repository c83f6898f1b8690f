"""The export marks the same recording: by its sound, by its names, and what both join."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import soundfile

from simsong.audio.soundprint import soundprint
from simsong.catalogue.duplicates import duplicates
from simsong.config import Config
from simsong.parts.stages import TIMBRE, RunContext
from storage.exports import CURRENT, read_published
from storage.store import Store
from tasks.base import Done
from tasks.export import export
from tasks.ingest import ingest
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
        return export.fn(run=RunContext(config=config, generation=store.generation), after=[])


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

    # In a later shard: late, softer, in another codec; and another recording that is called as a song is.
    write(music / "Cat" / "Ocean.ogg", np.pad(0.5 * melody(1), (RATE_HZ // 2, 0)))
    write(music / "Bob" / "Road (Remastered).wav", melody(3))
    refresh(config)
    assert exported(config).parts_computed == 1
    of_song = marks(config)
    assert of_song == {"Sea": (None, None), "Ocean": ("Sea", "sound"),
                       "Road": (None, None), "Road (Remastered)": (None, None)}
    store = Store.open(config.store)
    current = store.get_json(CURRENT)
    assert current is not None and current["duplicates"] == {"names": 0, "sound": 1}
    assert store.shards("soundprints") == [0, 1]
    assert exported(config).parts_computed == 0


Marked = dict[str, tuple[str, str]]


def found_in(tmp_path: Path, songs: dict[str, np.ndarray]) -> tuple[list[str], Marked]:
    """Places of the songs (artist/album/title) in the order of cataloguing; of the marked ones, the place
    that they are the same as, and by what."""
    music = tmp_path / "music"
    for place, samples in songs.items():
        write(music / f"{place}.wav", samples)
    config = configured(music, tmp_path / "store", publish={"model": TIMBRE}, segments=WINDOWS,
                        catalogue={"shard_songs": 10})
    refresh(config)
    exported(config)
    store = Store.open(config.store)
    rows = store.read("tracks", columns=["track_id", "url"]).sort_by("track_id").to_pylist()
    place = {row["track_id"]: unquote(row["url"]).split("/music/")[1].removesuffix(".wav") for row in rows}
    published = read_published(store).tracks.filter(pc.field("duplicate_of").is_valid()).to_pylist()
    return list(place.values()), {place[row["track_id"]]: (place[row["duplicate_of"]], row["duplicate_by"])
                                  for row in published}


def test_names_and_sound_join_what_they_chain(tmp_path: Path) -> None:
    """One is as another by name, whose sound is too short to tell; that is as a third by its file's."""
    short = melody(2, 5.0)
    order, result = found_in(tmp_path, {"Ann/Sea": short[:-8000], "Ann/Sea (Remastered)": short,
                                        "Bob/Road": short, "Cat/Other": melody(4)})
    first, *others = [place for place in order if place != "Cat/Other"]
    assert {place: of for place, (of, _) in result.items()} == dict.fromkeys(others, first)


@pytest.mark.parametrize("places", [
    ("Ann/Op 1/Adagio", "Ann/Op 1/02 Adagio"),                          # of one album
    ("Ann/Adagio", "Ann/02 Adagio"), ("Ann/Op 1/Adagio", "Ann/02 Adagio"),      # of an unknown album
    ("Ann/Op 1/Adagio", "Ann/Op 1/Adagio (Remastered)")])
def test_equal_names_of_another_sound_are_another_recording(tmp_path: Path, places: tuple[str, str]) -> None:
    one, other = places
    longer = np.pad(melody(1), (RATE_HZ, RATE_HZ // 2))
    assert found_in(tmp_path / "differ", {one: melody(1), other: melody(2, 31.0)})[1] == {}
    _, result = found_in(tmp_path / "same", {one: melody(1), other: 0.5 * longer})
    assert {by for _, by in result.values()} == {"names"}


def test_of_one_name_each_is_with_what_it_sounds_as(tmp_path: Path) -> None:
    """Two recordings, two tracks of each."""
    album = "Ann/Op 1"
    order, result = found_in(tmp_path, {
        f"{album}/01 Part": melody(1), f"{album}/02 Part": melody(2), f"{album}/03 Part": 0.4 * melody(1),
        f"{album}/04 Part": 0.4 * melody(2)})
    same = [{f"{album}/0{n} Part" for n in pair} for pair in ((1, 3), (2, 4))]
    marked = {frozenset((place, of)) for place, (of, _) in result.items()}
    assert marked == {frozenset(pair) for pair in same}
    by = {how for place, (_, how) in result.items() if order[0] in (place, result[place][0])}
    assert by == {"names"}


def test_a_track_that_is_not_heard_goes_by_its_names_and_joins_no_two_recordings(tmp_path: Path) -> None:
    ids = ["T0", "T1", "T2", "T3"]
    with Store.writing(str(tmp_path / "store")) as store:
        rows = [{"track_id": i, "artist": "Ann", "title": "Part", "source": "table", "shard": 0,
                 "duplicate_of": "T0" if i != "T0" else None} for i in ids]
        store.write("tracks", [rows], "id")
        for silent, want in (("T0", {"T1": "T0"}), ("T1", {"T1": "T0"}), ("T2", {"T2": "T0"})):
            sounds = dict(zip([i for i in ids if i != silent], (1, 2, 3), strict=True))
            rows = [{"track_id": i, "segment": 0, "start_s": 0.0, "embedding": soundprint(melody(seed))}
                    for i, seed in sounds.items()]
            store.write("soundprints", [rows], silent, shard=0)
            marks = duplicates(store).to_pylist()
            assert {row["track_id"]: row["duplicate_of"] for row in marks} == want, silent


def test_a_store_without_audio_has_the_marks_by_names(tmp_path: Path) -> None:
    table = tmp_path / "songs.csv"
    table.write_text("artist,title\nAnn,Sea\nAnn,Sea (Remastered)\nBob,Road\n")
    config = configured(tmp_path, tmp_path / "store", publish={"model": TIMBRE}, fetch={"audio": False},
                        sources={"folder": (), "table": str(table)})
    with Store.writing(config.store) as store:
        assert store.generation is not None
        ingest.fn(run=RunContext(config=config, generation=store.generation))
    exported(config)
    assert sorted(filter(None, (by for _, by in marks(config).values()))) == ["names"]
    shutil.rmtree(tmp_path / "store" / "exports")
    assert exported(config).parts_computed == 1
    columns = pq.read_schema(tmp_path / "store" / "exports" / TIMBRE / "tracks.parquet").names
    assert columns[-3:] == ["duplicate_of", "duplicate_by", "embedding"]
