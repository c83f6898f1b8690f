"""The song is the unit of computing: what is edited is computed, song by song, and nothing else is."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutagen import id3
from mutagen.wave import WAVE

from benchmarks.parts import song_unit
from simsong.audio.mfcc import mfcc_statistics
from simsong.audio.segments import decode_segment
from simsong.care.funnel import funnel
from simsong.care.reopen import Chosen, failures, reopen
from simsong.config import Config
from simsong.config_loader import load
from simsong.datasets.evaluation import held_out_of, songs_of
from simsong.datasets.training import training_choice
from simsong.parallel import once
from simsong.parts import song_audio as of_sound
from simsong.parts.compute import Done, commit, compute_parts, once_done
from simsong.parts.observe import observe_parts
from simsong.parts.stages import MFCC, RunContext
from simsong.records import Outcome
from simsong.registry.models import follow
from simsong.registry.planned import plan_model, record
from simsong.registry.trained_on import HELD_OUT, TRAINED, tracks_of, write_tracks
from storage.catalogue import Catalogue
from storage.exports import CURRENT, read_published
from storage.identity import digest
from storage.store import Store
from tasks import fetch_audio as of_fetching
from tasks.train import train
from tests import lyrics_site
from tests.small_world import (
    RATE_HZ,
    VERSE,
    configured,
    contents,
    refresh,
    songs_computed,
    standing,
    touch_later,
    write_song,
)

OF_SEGMENTS = {"segments", "embed-mfcc-2", "soundprints"}
OF_SOUND = {"trim", "traits", *OF_SEGMENTS}
SONGS, SHARD = 24, 8


@dataclass
class World:
    root: Path
    settings: dict[str, dict[str, Any]]

    @property
    def music(self) -> Path:
        return self.root / "music"

    @property
    def config(self) -> Config:
        return configured(self.music, self.root / "store", catalogue={"shard_songs": SHARD}, **self.settings)

    @property
    def store(self) -> Store:
        return Store.open(str(self.root / "store"))

    def file(self, name: str) -> Path:
        return self.music / name / f"song of {name}.wav"

    def ids(self) -> dict[str, str]:
        """By artist, the id of the song."""
        rows = self.store.read("tracks", columns=["artist", "track_id"]).to_pydict()
        return dict(zip(rows["artist"], rows["track_id"], strict=True))

    def refresh(self) -> dict[str, set[str]]:
        """By song's artist, the stages that computed it."""
        before = standing(self.store)
        refresh(self.config)
        artists = {track_id: artist for artist, track_id in self.ids().items()}
        stages_of: dict[str, set[str]] = {}
        for stage, track_id in songs_computed(self.store, before):
            stages_of.setdefault(artists.get(track_id, track_id), set()).add(stage)
        return stages_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """24 songs by an artist each, with words, in three shards."""
    training = {"validation": 0.0, "held_out": 0.2, "steps": 2, "batch": 4}
    world = World(tmp_path_factory.mktemp("songs"), {"training": training})
    for i in range(SONGS):
        write_song(world.music, f"a{i:02}", seed=2000 + i)
    refresh(world.config)
    return world


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """The same, to be edited; its music lies where it lay when the store was made."""
    shutil.copytree(made.root, tmp_path / "world")
    copy = World(tmp_path / "world", {name: dict(values) for name, values in made.settings.items()})
    refresh(copy.config)
    return copy


def edited(world: World, name: str, seed: int) -> None:
    """Other audio, of the same names and words."""
    write_song(world.music, name, seed=seed, lyrics=None)
    touch_later(world.file(name))


def of_one_shard(world: World) -> list[str]:
    """The artists of the first shard."""
    rows = world.store.read("tracks", columns=["artist", "shard"]).to_pylist()
    return sorted(row["artist"] for row in rows if row["shard"] == 0)


def trained(config: Config) -> Done:
    with Store.writing(config.store) as store:
        assert store.generation is not None
        return train.fn(name="ns", run=RunContext(config=config, generation=store.generation))


OF_NEW = {"fetch_audio", "fetch_lyrics", "embed_lyrics", *OF_SOUND}


def test_each_edit_costs_its_own_songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By song, the stages that computed it. The first five have no words beside them, but a site has some."""
    decoded: list[str] = []

    def counted(decode: Callable[..., Any]) -> Callable[..., Any]:
        def counting(path: Path, *of: Any, **named: Any) -> Any:
            decoded.append(path.parent.name)
            return decode(path, *of, **named)
        return counting

    for module, name in ((of_sound, "decode"), (of_fetching, "decode_with_info"),
                         (of_fetching, "probe")):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    with lyrics_site.serve() as site:
        world = World(tmp_path, {"lyrics": {"provider": "lrclib", "lrclib_root": site.root}})
        for number in range(SONGS):
            name = f"a{number:02}"
            write_song(world.music, name, lyrics=VERSE if number > 4 else None)
            site.known.append(lyrics_site.Known(name, f"song of {name}", VERSE, duration_s=3.0))
        site.known.append(lyrics_site.Known("renamed", "song of a00", VERSE, duration_s=3.0))
        refresh(world.config)
        before = world.ids()
        assert {i for _, i in standing(world.store)} == set(before.values()) and len(before) == SONGS
        assert set(decoded) == set(before)
        decoded.clear()
        site.asked.clear()

        (world.music / "a00").rename(world.music / "renamed")           # the artist's name, that is
        (world.music / "a01/album").mkdir()
        world.file("a01").rename(world.music / "a01/album/song of a01.wav")
        tagged = WAVE(world.file("a02"))
        tagged.add_tags()
        tagged["TDRC"] = id3.TDRC(text="1999")
        tagged.save()
        for name, seed in (("a03", 1000), ("a10", 1001), ("a20", 1002)):
            edited(world, name, seed)
        write_song(world.music, "new")
        shutil.rmtree(world.music / "a05")
        table = {"renamed": {"fetch_lyrics"}, "a03": OF_NEW, "a10": OF_NEW, "a20": OF_NEW, "new": OF_NEW}
        assert world.refresh() == table
        assert set(decoded) == {"a03", "a10", "a20", "new"}
        assert {request.query["artist_name"] for request in site.asked} == {"renamed", "a03"}
        after = world.ids()
        assert after["renamed"] == before["a00"]
        assert {name for name in before.keys() & after.keys() if before[name] != after[name]} == {
            "a03", "a10", "a20"}, "other audio is another song"
        assert before.keys() - after.keys() == {"a00", "a05"} and len(after) == SONGS
        row_of = {row["artist"]: row for row in world.store.read("tracks").to_pylist()}
        assert row_of["a02"]["year"] == 1999 and "/album/" in row_of["a01"]["url"]
        decoded.clear()
        site.asked.clear()
        assert world.refresh() == {} and not decoded and not site.asked


def test_settings_compute_all_songs_of_what_depends_on_them(world: World) -> None:
    world.settings["segments"] = {"hop_s": 1.5}
    computed = world.refresh()
    assert computed == dict.fromkeys(world.ids(), OF_SEGMENTS)


def test_what_is_carried_over_is_as_it_was(world: World) -> None:
    """A part of which one song was edited, and edited back, holds the same bytes of every song."""
    before = contents(world.store)
    kept = world.root / "kept.wav"
    shutil.copy2(world.file("a02"), kept)
    edited(world, "a02", 77)
    world.refresh()
    assert contents(world.store) != before
    shutil.copy2(kept, world.file("a02"))
    world.refresh()
    after = contents(world.store)
    parts = [key for key in before if key.startswith("tables/soundprints/")]
    assert parts and [after[key] for key in parts] == [before[key] for key in parts]


@pytest.mark.parametrize("table", ["trims"])
def test_a_damaged_part_is_not_carried_over(world: World, table: str) -> None:
    before = contents(world.store)
    part = world.root / "store/tables" / table / "00000.parquet"
    whole = bytearray(part.read_bytes())
    whole[len(whole) // 3] ^= 1                 # a song's row, not the footer
    part.write_bytes(whole)
    name = of_one_shard(world)[0]
    lyrics = world.file(name).with_suffix(".txt")
    lyrics.unlink()
    edited(world, name, 1234)
    computed = world.refresh()
    stage = {"trims": "trim", "segments": "segments", "soundprints": "soundprints"}.get(table, "embed-mfcc-2")
    assert all(stage in computed[artist] for artist in of_one_shard(world))
    assert part.read_bytes() != bytes(whole)
    others = Catalogue(world.store).ids(0).to_pylist()
    assert all(world.store.check(key) for key in before if f"/{table}/" in key)
    assert set(world.store.read(table.partition("/")[0], 0, partition=MFCC if "=" in table else None)
               ["track_id"].to_pylist()) >= set(others)


# ---- songs that left ----

def left(world: World, name: str) -> Path:
    """Take a song's folder out of the music."""
    aside = world.root / f"aside {name}"
    (world.music / name).rename(aside)
    return aside


def test_what_left_is_nowhere_and_costs_nothing_when_it_is_back(world: World) -> None:
    trained(world.config)
    rows = len(world.store.read("segments", columns=["track_id"]))
    name = next(artist for artist, track_id in sorted(world.ids().items())
                if tracks_of(world.store, _label(world)).get(track_id) == TRAINED)
    gone = world.ids()[name]
    aside = left(world, name)
    assert world.refresh() == {}
    store, config = world.store, world.config
    assert len(store.read("segments", columns=["track_id"])) == rows, "its rows stay"
    assert gone not in Catalogue(store).ids().to_pylist()
    assert gone not in training_choice(store, config).use
    assert gone not in songs_of(store).track_ids
    stages = {"ingest", "fetch_audio", "fetch_lyrics", "embed_lyrics", "embed", *OF_SOUND} - {"embed-mfcc-2"}
    counts = {stage: counts_of_stage["ok"] for stage, counts_of_stage in funnel(store).items()
              if stage != "train"}
    assert counts == dict.fromkeys(stages, SONGS - 1)
    assert plan_model(store, config, "ns").changed == 1
    aside.rename(world.music / name)
    assert world.refresh() == {}
    assert world.ids()[name] == gone
    assert plan_model(world.store, world.config, "ns").changed == 0


def _label(world: World) -> str:
    return plan_model(world.store, world.config, "ns").label


def test_what_changed_meanwhile_is_made_up_for_when_it_is_back(world: World) -> None:
    name = of_one_shard(world)[0]
    aside = left(world, name)
    world.refresh()
    world.settings["segments"] = {"hop_s": 1.5}
    assert name not in world.refresh()
    aside.rename(world.music / name)
    assert world.refresh() == {name: OF_SEGMENTS}
    assert world.refresh() == {}


def test_a_shard_whose_songs_all_left_is_left_alone(world: World) -> None:
    names = of_one_shard(world)
    asides = {name: left(world, name) for name in names}
    files = {path: path.read_bytes() for path in (world.root / "store/tables").rglob("00000.parquet")
             if path.parent.name in ("trims", "segments", "audio")}
    assert len(files) == 3
    world.settings["run"] = {"may_shrink": True} if "may_shrink" in Config().run.model_dump() else {}
    world.settings["segments"] = {"hop_s": 1.5}
    assert not set(names) & set(world.refresh())
    assert {path: path.read_bytes() for path in files} == files
    assert not any(set(counts_of_stage["failed"]) for counts_of_stage in funnel(world.store).values())
    for name, aside in asides.items():
        aside.rename(world.music / name)
    computed = world.refresh()
    assert computed == dict.fromkeys(names, OF_SEGMENTS)


def test_failures_of_what_left_are_told_and_tried_no_more(world: World) -> None:
    world.file("a03").write_bytes(b"no music")
    touch_later(world.file("a03"))
    world.refresh()
    assert [failure.songs for failure in failures(world.store, 3) if failure.stage == "fetch_audio"] == [1]
    left(world, "a03")
    world.refresh()
    assert [failure for failure in failures(world.store, 3) if failure.stage == "fetch_audio"] == []
    with Store.writing(world.config.store) as store:
        assert reopen(store, Chosen("fetch_audio")).songs == set()


# ---- training ----

def test_a_training_counts_songs(world: World) -> None:
    trained(world.config)
    assert plan_model(world.store, world.config, "ns").changed == 0
    use = tracks_of(world.store, _label(world))
    assert set(use.values()) >= {TRAINED, HELD_OUT} and len(use) == SONGS
    names = of_one_shard(world)[:3]
    for number, name in enumerate(names):
        edited(world, name, 1000 + number)
    write_song(world.music, "new")
    world.refresh()
    edits, ids = 0, world.ids()
    for name in names:
        edits += 1 if ids[name] in use else 2   # where other audio is another song, one is gone as well
    plan = plan_model(world.store, world.config, "ns")
    assert plan.changed == edits + 1
    counted = edits + 1
    for share, kept in ((counted / SONGS, True), (counted / SONGS - 0.001, False)):
        config = world.config.model_copy(update={"training": world.config.training.model_copy(
            update={"retrain_at": share})})
        assert (plan_model(world.store, config, "ns").kept is not None) == kept


def test_a_training_of_before_counts_shards(world: World) -> None:
    """Its version has no inputs of songs beside it: all songs of a shard that differs count."""
    trained(world.config)
    path = world.root / "store" / f"models/ns/{_label(world).partition('-')[2]}" / "tracks.parquet"
    rows = pq.read_table(path).select(["track_id", "use"])
    planned = plan_model(world.store, world.config, "ns")
    with Store.writing(world.config.store) as store:
        pq.write_table(rows, path, write_page_checksum=True)
        facts = {name: planned.facts[name] for name in ("settings", "tables")}
        facts["inputs"] = {str(shard): [digest([store.rows_digest("segments", shard, ("audio",)),
                                                store.rows_digest("tracks", shard, ("artist_id",))]), SHARD]
                           for shard in range(SONGS // SHARD)}
        record(store, replace(planned, facts=facts), SONGS)
    assert plan_model(world.store, world.config, "ns").changed == 0
    edited(world, of_one_shard(world)[0], 1000)
    world.refresh()
    assert (plan_model(world.store, world.config, "ns").changed or 0) >= SHARD


# ---- many songs, of which nothing is heard ----

OF_A_SHARD = 500


def _rows(stage: str, track_id: str, sound: str) -> dict[str, list[dict[str, Any]]]:
    if stage == "fetch_audio":
        return {"audio": [{"file": f"file:///{track_id}", "sha256": sound}]}
    if stage == "trim":
        return {"trims": [{"start_s": 0.0, "end_s": 30.0 + int(sound), "mode": "none"}]}
    if stage == "segments":
        return {"segments": [{"segment": 0, "start_s": 0.0, "end_s": 30.0, "audio": sound.encode()}]}
    return {"soundprints": [{"segment": 0, "start_s": 0.0, "embedding": [float(sound)]}]}


def _catalogued(store: Store, sounds: dict[str, str]) -> list[int]:
    rows = [{"track_id": i, "artist": i, "title": i, "source": "table", "fingerprint": sound,
             "url": f"file:///{i}",
             "shard": int(i[1:]) // OF_A_SHARD} for i, sound in sounds.items()]
    store.write("tracks", [rows], "|".join(sounds.values()))
    return Catalogue(store).shards


def _run_all(store: Store, config: Config, sounds: dict[str, str]) -> set[tuple[str, str]]:
    """Stage and song of what was computed, by stages that hear nothing."""
    done: list[tuple[str, str]] = []

    def work(stage: str) -> Callable[[Store, int], Callable[[list[str]], Iterator[Outcome]]]:
        def of(todo: list[str]) -> Iterator[Outcome]:
            for track_id in todo:
                done.append((stage, track_id))
                yield Outcome(track_id, "ok", rows=_rows(stage, track_id, sounds[track_id]))

        return lambda store, shard: of

    assert store.generation is not None
    run, shards = RunContext(config=config, generation=store.generation), _catalogued(store, sounds)
    observe_parts("fetch_audio", shards, run, lambda store, shard: lambda todo, beside: (
        work("fetch_audio")(store, shard)(todo)))
    for stage in STAGES_OF_SOUND[1:]:
        compute_parts(stage, shards, run, work(stage))
    assert len(done) == len(set(done)), "no song twice"
    return set(done)


FEW = [f"T{i:05}" for i in (0, 1, 2, OF_A_SHARD, OF_A_SHARD + 1)]       # in two shards
EDITS = st.one_of(st.tuples(st.just("sound"), st.sampled_from(FEW), st.integers(0, 9)),
                  st.tuples(st.just("leave or return"), st.sampled_from(FEW), st.just(0)),
                  st.tuples(st.sampled_from(("trim", "segments")), st.just(""), st.integers(1, 9)),
                  st.tuples(st.sampled_from(("trims", "segments lost", "soundprints")), st.just(""),
                            st.integers(0, 1)))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EDITS, min_size=4, max_size=8))
def test_whatever_happens_a_song_is_computed_where_its_own_input_is_another(
        edits: list[tuple[str, str, int]]) -> None:
    """Against a model that keeps, of each stage and song, what it was last computed from."""
    now, away = dict.fromkeys(FEW, "5"), dict[str, str]()
    values = {"trim": 5.0, "segments": 5.0}
    made: dict[tuple[str, str], tuple[Any, ...]] = {}

    def expected() -> set[tuple[str, str]]:
        pairs = set[tuple[str, str]]()
        for track_id, sound in now.items():
            inputs = {"fetch_audio": (sound,), "trim": (sound, values["trim"]),
                      "segments": (sound, values["segments"]), "soundprints": (sound,)}
            for stage, of in inputs.items():
                if made.get((stage, track_id)) != of:
                    made[stage, track_id] = of
                    pairs.add((stage, track_id))
        return pairs

    with tempfile.TemporaryDirectory() as folder, Store.writing(folder) as store:
        for what, track_id, number in [("", "", 0), *edits]:
            if what == "sound":
                now |= {track_id: str(number)} if track_id in now else {}
            elif what == "leave or return":
                source, target = (now, away) if track_id in now else (away, now)
                if len(source) > 1 or source is away:
                    target[track_id] = source.pop(track_id)
            elif what in values:
                values[what] = float(number)
            elif what:
                table = what.partition(" ")[0]
                store.delete_part(table, number)
                stage = {"trims": "trim"}.get(table, table)
                for song in FEW:
                    if int(song[1:]) // OF_A_SHARD == number:
                        made.pop((stage, song), None)
            config = load(None, {"store": folder, "trim": {"intro_s": values["trim"]},
                                 "segments": {"hop_s": values["segments"]}}, {})
            sounds = dict(sorted(now.items()))
            assert _run_all(store, config, sounds) == expected(), (what, track_id, number)
            assert _run_all(store, config, sounds) == set()


def test_among_many_songs_each_edit_costs_its_own(tmp_path: Path) -> None:
    """What the benchmark tells of 10,000 songs."""
    first, same, edited, after = song_unit.edits(tmp_path, 300, shard_songs=100)
    for stage in song_unit.STAGES:
        assert len(first[stage].artists) == 300
        assert not same[stage].artists and not after[stage].artists
        assert edited[stage].artists == song_unit.expected()[stage], stage


@pytest.fixture
def half_gone(tmp_path: Path) -> Iterator[Store]:
    """Two shards, of which T1 and T3 have left, and a shard whose song has left; each has rows everywhere."""
    shards = {0: ["T0", "T1"], 1: ["T2", "T3"], 2: ["T4"]}
    with Store.writing(str(tmp_path / "store")) as store:
        rows = [{"track_id": i, "artist": i, "artist_id": i, "title": i, "source": "table", "shard": shard}
                for shard, ids in shards.items() for i in ids if i in ("T0", "T2")]
        store.write("tracks", [rows], "id")
        for shard, ids in shards.items():
            windows = [{"track_id": i, "segment": n, "start_s": float(n), "end_s": n + 1.0, "audio": b"x"}
                       for i in ids for n in range(2)]
            store.write("segments", [windows], "id", shard=shard)
            vectors = [{"track_id": i, "embedding": [1.0, 2.0]} for i in ids]
            for table, of in (("track_embeddings", MFCC), ("lyric_embeddings", "words")):
                store.write(table, [vectors], "id", shard=shard, partition=of)
            outcomes = [{"track_id": i, "status": "failed", "reason": "undecodable", "attempts": 1}
                        for i in ids]
            store.write("outcomes", [outcomes], "id", shard=shard, partition="trim",
                        facts={"outputs": {}, "open": 0})
        exported = pa.table({"track_id": ["T0", "T1", "T4"], "embedding": pa.FixedSizeListArray.from_arrays(
            pa.array(np.zeros(6, np.float32)), 2)})
        path = store.scratch()
        pq.write_table(exported, path)
        store.put("exports/m/tracks.parquet", path)
        store.put_json(CURRENT, {"model": "m"})
        yield store


def test_no_reader_sees_what_left(half_gone: Store) -> None:
    store, there = half_gone, ["T0", "T2"]
    config = load(None, {"store": store.backend.url, "training": {"held_out": 0.0, "validation": 0.0}}, {})
    catalogue = Catalogue(store)
    assert catalogue.shards == [0, 1] and catalogue.ids().to_pylist() == there
    for table, partition in (("segments", None), ("track_embeddings", MFCC), ("lyric_embeddings", "words")):
        assert catalogue.parts(table, partition) == [0, 1]
        rows = catalogue.read(table, partition=partition, columns=["track_id"])
        assert sorted(set(rows["track_id"].to_pylist())) == there
    assert sorted(training_choice(store, config).train) == sorted(training_choice(store, config).use) == there
    assert songs_of(store).track_ids == there
    assert plan_model(store, config, "ns").facts["inputs"].keys() == {"0", "1"}
    assert funnel(store)["trim"]["failed"] == {"undecodable": 2}
    assert [(failure.reason, failure.songs) for failure in failures(store, 3)] == [("undecodable", 2)]
    assert reopen(store, Chosen("trim")).songs == set(there)
    assert read_published(store).tracks["track_id"].to_pylist() == ["T0"]
    assert len(store.read("segments", columns=["track_id"])) == 10, "the rows stay"


def test_an_artist_is_heard_when_the_song_that_was_heard_has_left(half_gone: Store) -> None:
    """T1 was trained on, and has left; T0 is by the same artist, and new."""
    store = half_gone
    config = load(None, {"store": store.backend.url, "training": {"losses": ["ns"]}}, {})
    write_tracks(store, "ns-aa1", {"T1": TRAINED, "T3": HELD_OUT}, [
        (0, {"T1": "of then"}, {"T1": "T0"}), (1, {"T3": "of then"}, {"T3": "T2"})])
    follow(store, "ns", "aa1")
    held_out = held_out_of(store, config, songs_of(store))
    assert held_out is not None and held_out.tolist() == [False, True]


def test_a_stage_of_all_songs_keeps_no_row_of_those_that_came_through(tmp_path: Path) -> None:
    with Store.writing(str(tmp_path / "store")) as store:
        commit(store, "train-ns", "id", 7, failed={"T1": ("one_segment", "short"), "T2": ("one_segment", "")})
        assert store.read("outcomes", partition="train-ns")["track_id"].to_pylist() == ["T1", "T2"]
        done = once_done(store, "train", "ns")
        assert (done.ok, done.failed) == (7, {"one_segment": 2})
        assert funnel(store)["train"] == {"ok": 7, "failed": {"one_segment": 2}, "pending": {}}
        rows = [{"track_id": f"T{i}", "status": "ok", "attempts": 1} for i in range(3)]     # as before
        store.write("outcomes", [rows], "id", partition="export", facts={"open": 0, "files": {}})
        assert once_done(store, "export").ok == funnel(store)["export"]["ok"] == 3


STAGES_OF_SOUND = ("fetch_audio", "trim", "segments", "soundprints")


# ---- what all threads share ----

def test_what_is_shared_is_made_once() -> None:
    from threading import Barrier

    together, made = Barrier(6), list[str]()

    @once(maxsize=1)
    def slow(name: str) -> object:
        import time

        made.append(name)
        time.sleep(0.05)
        return object()

    def ask(_: int) -> object:
        together.wait()
        return slow("model")

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(ask, range(6)))) == 1
    assert made == ["model"]


def test_six_shards_in_six_threads_load_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class is counted, not replaced: each one made is a real one."""
    from simsong.lyrics.embed import LyricEncoder
    from tasks import embed_lyrics as stage
    from tasks.fetch_lyrics import fetch_lyrics
    from tasks.ingest import ingest

    made: list[LyricEncoder] = []

    def counted(config: Any) -> LyricEncoder:
        made.append(LyricEncoder(config))
        return made[-1]

    monkeypatch.setattr(stage, "LyricEncoder", counted)
    for i in range(6):
        write_song(tmp_path / "music", f"a{i}")
    # a batch of its own: no other test has made this encoder
    config = configured(tmp_path / "music", tmp_path / "store", catalogue={"shard_songs": 1},
                        lyric_model={"batch": 7})
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        shards = ingest.fn(run=run).shards
        fetch_lyrics.fn(done=Done(stage="ingest", shards=shards), run=run)
        with ThreadPoolExecutor(6) as pool:
            done = list(pool.map(lambda shard: stage.embed_lyrics.fn(
                done=Done(stage="fetch_lyrics", shards=(shard,)), run=run), shards))
    assert [one.ok for one in done] == [1] * 6
    assert len(made) == 1


def test_short_songs_alone_are_done_when_they_are_kept(tmp_path: Path) -> None:
    """In a store of before, where they were left out; parts without any keep their identities."""
    for name in ("ann", "bob", "cat", "dan"):
        write_song(tmp_path / "music", name, lyrics=None)
    write_song(tmp_path / "music", "eve", seconds=1.5, lyrics=None)

    def with_short(short: str) -> Config:
        return configured(tmp_path / "music", tmp_path / "store", catalogue={"shard_songs": 2},
                          segments={"length_s": 2.0, "hop_s": 2.0, "short": short})

    refresh(with_short("skip"))
    store = Store.open(str(tmp_path / "store"))
    before = standing(store)
    identities = {shard: store.footers("outcomes", shard, "segments")[0].identity
                  for shard in store.shards("outcomes", "segments")}
    assert len(identities) == 3
    short, = [row["track_id"] for row in store.read("outcomes", partition="segments").to_pylist()
              if row["reason"] == "too_short"]
    assert {stage for stage, _ in refresh(with_short("repeat"))} == {"segments", "embed", "soundprints"}
    assert songs_computed(store, before) == {(stage, short) for stage in OF_SEGMENTS}
    changed = {shard for shard, identity in identities.items()
               if store.footers("outcomes", shard, "segments")[0].identity != identity}
    rows = store.read("segments").to_pylist()
    window, = (row for row in rows if row["track_id"] == short)
    assert len(changed) == 1
    vector, = (row["embedding"] for row in store.read("track_embeddings", partition=MFCC).to_pylist()
               if row["track_id"] == short)
    own = decode_segment(window["audio"])[:round(1.5 * RATE_HZ)]
    np.testing.assert_allclose(vector, mfcc_statistics(own), rtol=1e-5)
    assert with_short("pad") == with_short("repeat") and refresh(with_short("pad")) == set()
