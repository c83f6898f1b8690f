"""Fetching stages over a store and sites on loopback: rows before and after any change, and who is asked."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsong.care.reopen import refetch
from simsong.care.verify import remove, verify
from simsong.config import Config
from simsong.config_loader import load
from simsong.errors import AudioGone
from simsong.parts.compute import Done
from simsong.parts.stages import GENIUS_TOKEN, STAGES, RunContext, config_values, lyrics_provider
from storage.identity import column_digests, digest
from storage.store import Store
from tasks.fetch_audio import fetch_audio
from tasks.fetch_lyrics import fetch_lyrics
from tasks.ingest import ingest
from tasks.trim import trim
from tests import faults, lyrics_site
from tests.faults import SECONDS, FaultSite, names
from tests.lyrics.test_lyrics_providers import TEXT
from tests.lyrics_site import Known, LyricsSite, status

FOUND, REMOVED = ("123", "456"), "789"          # by their names on the site
UNKNOWN = ""                                    # what its log calls a song that it does not have
TABLES = ("audio", "candidates", "lyrics", "trims")
Settings = dict[str, dict[str, Any]]


class World:
    """A table of four songs: two have audio and lyrics, the upload of one was removed, one is unknown."""

    def __init__(self, root: Path, site: FaultSite, words: LyricsSite) -> None:
        self.root, self.site, self.words = root, site, words
        self.songs = [(*names(song), "") for song in (*FOUND, REMOVED)] + [("Nobody", "Nowhere", "")]
        self.settings: Settings = {}

    def heal(self) -> None:
        self.site.heal()
        self.site.faults = {REMOVED: "404"}
        self.words.always = None
        self.words.known = [Known(*names(song), f"{TEXT}\nand the {song}th time around") for song in FOUND]

    @property
    def config(self) -> Config:
        base: Settings = {
            "sources": {"table": str(self.root / "songs.csv")}, "catalogue": {"shard_songs": 8},
            "fetch": {"search": self.site.search}, "trim": {"mode": "none"}, "segments": {"length_s": 1.0},
            "lyrics": {"threshold": 95.0, "genius_root": f"{self.words.root}/genius",
                       "lrclib_root": self.words.root},
            "network": {"retries": 0, "pause_s": 0.05, "give_up_s": 0.0, "timeout_s": 20, "attempts": 2}}
        merged = {name: {**base.get(name, {}), **self.settings.get(name, {})}
                  for name in base.keys() | self.settings.keys()}
        return load(None, {"store": str(self.root / "store"), **merged}, {})

    def refresh(self, *stages: Any) -> tuple[set[str], set[str]]:
        """Returns the songs that the music site was asked for, and the paths that the lyrics site was."""
        with (self.root / "songs.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("track_id", "artist", "title", "url", "duration"))
            rows.writerows((f"T{n}", *song, SECONDS) for n, song in enumerate(self.songs))
        self.site.asked.clear()
        self.words.asked.clear()
        self.computed: set[str] = set()
        with Store.writing(self.config.store) as store:
            assert store.generation is not None
            run = RunContext(config=self.config, generation=store.generation)
            for shard in ingest.fn(run=run).shards:
                for stage in stages or (fetch_audio, fetch_lyrics, trim):
                    done = stage.fn(done=Done(stage="ingest", shards=(shard,)), run=run)
                    self.computed |= {done.stage} if done.parts_computed else set()
        return {request.song for request in self.site.asked}, {request.path for request in self.words.asked}

    @property
    def store(self) -> Store:
        return Store.open(str(self.root / "store"))

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        return {table: self.store.read(table).to_pylist() for table in TABLES}

    def outcomes(self, stage: str) -> dict[str, tuple[str, str | None]]:
        return {row["track_id"]: (row["status"], row["reason"])
                for row in self.store.read("outcomes", partition=stage).to_pylist()}

    def again(self, *stages: str, tracks: tuple[str, ...] = ()) -> int:
        with Store.writing(self.config.store) as store:
            return len(refetch(store, stages or ("fetch_audio", "fetch_lyrics"), tracks).songs)


AUDIO = {"T0": ("ok", None), "T1": ("ok", None), "T2": ("failed", "removed"), "T3": ("failed", "no_match")}
WORDS = {"T0": ("ok", None), "T1": ("ok", None), "T2": ("failed", "no_lyrics"), "T3": ("failed", "no_lyrics")}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A store in which all was asked for once, Genius with a token."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv(GENIUS_TOKEN, "tok")
        site, words = stack.enter_context(faults.serve(800)), stack.enter_context(lyrics_site.serve())
        world = World(tmp_path_factory.mktemp("first"), site, words)
        world.heal()
        world.refresh()
        assert (world.outcomes("fetch_audio"), world.outcomes("fetch_lyrics")) == (AUDIO, WORDS)
        yield world


@pytest.fixture
def world(first: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv(GENIUS_TOKEN, "tok")
    return copied(first, tmp_path)


def copied(first: World, root: Path) -> World:
    shutil.copytree(first.root, root, dirs_exist_ok=True)
    world = World(root, first.site, first.words)
    world.heal()
    world.refresh()                     # the table of songs lies elsewhere
    return world


def ill(world: World) -> None:
    world.site.everything = 503
    world.words.always = status(503)


def vanished(world: World) -> None:
    world.site.faults = dict.fromkeys((*FOUND, REMOVED), "404")
    world.words.known = []


def well(world: World) -> None:
    pass


ALL_PATHS = {"/genius/search"}


@pytest.mark.parametrize("sites", [ill, vanished, well])
@pytest.mark.parametrize(("changes", "audio", "lyrics"), [
    ({}, set(), False),
    ({"fetch": {"threshold": 61}, "lyrics": {"threshold": 96}}, set(), False),
    ({"fetch": {"threshold": 59}, "lyrics": {"threshold": 94}}, {UNKNOWN}, True),
    ({"fetch": {"results": 9}}, set(), False),
    ({"fetch": {"results": 11}}, {UNKNOWN}, False),
    ({"fetch": {"format": "worstaudio"}}, set(), False),
    ({"fetch": {"min_duration_s": 1.0, "max_duration_s": 1.0}}, set(), False),
    ({"fetch": {"min_duration_s": 100.0, "max_duration_s": 9999.0}}, set(), False),
    ({"lyrics": {"provider": "none"}}, set(), False),
    ({"lyrics": {"provider": "genius"}}, set(), False),         # as auto, with a token
    ({"lyrics": {"provider": "lrclib"}}, set(), True),
    ({"lyrics": {"provider": "genius,lrclib"}}, set(), True),
    ({"lyrics": {"lrclib_root": "http://127.0.0.1:9"}}, set(), False),
])
def test_rows_stay_and_only_what_could_be_mended_is_asked_for(
        world: World, sites: Any, changes: Settings, audio: set[str], lyrics: bool) -> None:
    before = world.rows()
    sites(world)
    world.settings = changes
    songs, paths = world.refresh()
    assert (songs, bool(paths)) == (audio, lyrics)
    for query in (request.query for request in world.words.asked):
        said = str(query)
        assert names(REMOVED)[0] in said or "Nobody" in said, "a song that has lyrics was asked for"
    assert world.rows() == before
    assert {i for i, (what, _) in world.outcomes("fetch_audio").items() if what == "ok"} == {"T0", "T1"}
    assert {i for i, (what, _) in world.outcomes("fetch_lyrics").items() if what == "ok"} == {"T0", "T1"}
    assert "trim" not in world.computed


def test_another_search_asks_for_what_it_could_find(world: World) -> None:
    before = world.rows()
    world.settings = {"fetch": {"search": f"{world.site.root}/search?from=elsewhere&q={{query}}"}}
    world.site.heal()
    assert world.refresh()[0] == {REMOVED, UNKNOWN}
    assert world.outcomes("fetch_audio") == {**AUDIO, "T2": ("ok", None)}
    assert [row for row in world.rows()["audio"] if row["track_id"] != "T2"] == before["audio"]


@pytest.mark.parametrize("provider", ["auto", "genius"])
def test_a_token_that_is_missing_for_a_while_changes_nothing(
        world: World, monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    world.settings = {"lyrics": {"provider": provider}}
    world.refresh()
    before = world.rows(), world.store.read("outcomes", partition="fetch_lyrics").to_pylist()
    monkeypatch.delenv(GENIUS_TOKEN)
    assert world.refresh() == (set(), set())
    monkeypatch.setenv(GENIUS_TOKEN, "tok")
    assert world.refresh() == (set(), set())
    assert before == (world.rows(), world.store.read("outcomes", partition="fetch_lyrics").to_pylist())


def test_a_token_that_comes_asks_for_all_that_nobody_was_asked_for(
        tmp_path: Path, first: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GENIUS_TOKEN, raising=False)
    world = World(tmp_path, first.site, first.words)
    world.heal()
    assert world.refresh(fetch_lyrics)[1] == set()
    assert set(world.outcomes("fetch_lyrics").values()) == {("failed", "no_provider")}
    monkeypatch.setenv(GENIUS_TOKEN, "tok")
    world.refresh(fetch_lyrics)
    assert world.outcomes("fetch_lyrics") == WORDS


def test_another_spelling_is_asked_for_and_the_old_row_stays_until_there_is_a_new_one(world: World) -> None:
    before = world.rows()
    artist, title, _ = world.songs[0]
    world.songs[0] = (artist, f"{title} entirely elsewhere named", "")
    ill(world)
    world.refresh()
    assert world.rows() == before
    assert world.outcomes("fetch_audio")["T0"] == ("ok", "server_error")
    world.heal()
    songs, paths = world.refresh()
    assert UNKNOWN in songs and "/genius/search" in paths           # asked again, under the new name
    assert world.rows() == before
    assert world.outcomes("fetch_audio")["T0"] == ("ok", "no_match")
    assert world.refresh() == (set(), set())
    world.songs[0] = (artist, title, "")
    world.refresh()
    assert world.outcomes("fetch_audio") == AUDIO and "trim" not in world.computed


def test_a_page_that_is_given_takes_the_place_of_what_was_found(world: World) -> None:
    old = world.rows()["audio"][0]
    world.songs[0] = (*names(FOUND[0]), f"{world.site.root}/watch/{FOUND[1]}")
    ill(world)
    world.refresh(fetch_audio)
    assert world.rows()["audio"][0] == old
    world.heal()
    world.refresh(fetch_audio, trim)
    new = world.rows()["audio"][0]
    assert (new["url"], new["match_score"]) == (f"{world.site.root}/watch/{FOUND[1]}", None)
    assert new["sha256"] != old["sha256"] and world.computed == {"fetch_audio", "trim"}
    world.songs[0] = (*names(FOUND[0]), f"{world.site.root}/watch/{REMOVED}")
    world.refresh(fetch_audio)          # other audio was meant, and there is none
    assert world.outcomes("fetch_audio")["T0"] == ("failed", "removed")
    assert [row["track_id"] for row in world.rows()["audio"]] == ["T1"]


# ---- --refetch ----

def test_refetch_asks_for_all_again_and_the_same_bytes_cost_nothing_below(world: World) -> None:
    before = world.rows()
    assert world.again() == 4
    songs, paths = world.refresh()
    assert songs == {*FOUND, REMOVED, UNKNOWN} and paths == {"/genius/search", "/genius/0", "/genius/1"}
    after = world.rows()
    assert world.computed == {"fetch_audio", "fetch_lyrics"}
    for table in ("audio", "lyrics"):
        assert all(new["fetched_at"] > old["fetched_at"]
                   for old, new in zip(before[table], after[table], strict=True))
        assert [{**row, "fetched_at": None} for row in before[table]] == \
            [{**row, "fetched_at": None} for row in after[table]]
    assert (world.outcomes("fetch_audio"), world.outcomes("fetch_lyrics")) == (AUDIO, WORDS)
    assert world.refresh() == (set(), set())


def test_refetch_keeps_what_is_there_until_there_is_something_new(world: World) -> None:
    before = world.rows()
    assert world.again("fetch_audio", tracks=("T0", "T9")) == 1
    assert world.again("fetch_audio", tracks=("T0",)) == 0          # it is marked already
    assert world.outcomes("fetch_audio") == {**AUDIO, "T0": ("ok", "refetch")}
    ill(world)
    assert world.refresh()[0] == {FOUND[0]}
    assert world.rows() == before and world.outcomes("fetch_audio")["T0"] == ("ok", "server_error")
    world.heal()
    vanished(world)
    world.refresh()
    assert world.rows() == before and world.outcomes("fetch_audio")["T0"] == ("ok", "removed")
    assert world.refresh() == (set(), set())


def test_refetch_gets_pruned_audio_again_and_nothing_is_computed_without_it(world: World) -> None:
    before = world.rows()
    for row in before["audio"]:
        (world.root / "store" / row["file"]).unlink()
    assert world.refresh() == (set(), set()) and not world.computed     # it is not missed
    world.settings = {"trim": {"mode": "fixed", "intro_s": 0.1, "outro_s": 0.1}}
    with pytest.raises(AudioGone, match=r"audio of 2 songs is gone \(audio/.*--refetch --stage fetch_audio"):
        world.refresh()
    assert world.rows() == before
    world.again("fetch_audio")
    world.refresh()
    after = world.rows()
    assert [row["mode"] for row in after["trims"]] == ["fixed", "fixed"]
    assert [row["sha256"] for row in after["audio"]] == [row["sha256"] for row in before["audio"]]


def test_what_cannot_be_fetched_again_does_not_hold_up_the_rest(world: World) -> None:
    (world.root / "store" / world.rows()["audio"][0]["file"]).unlink()
    world.settings = {"trim": {"mode": "fixed", "intro_s": 0.1, "outro_s": 0.1}}
    world.again("fetch_audio")
    world.site.faults[FOUND[0]] = "404"
    world.refresh()
    assert world.outcomes("trim") == {"T0": ("failed", "missing_file"), "T1": ("ok", None)}
    assert [row["track_id"] for row in world.rows()["audio"]] == ["T0", "T1"]


# ---- damage, and stores of before ----

def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def mend(world: World) -> tuple[set[str], set[str]]:
    """As `verify --mend` does it."""
    findings = list(verify(world.store, world.config))
    assert {finding.fault for finding in findings} == {"damaged"}
    with Store.writing(world.config.store) as store:
        remove(store, findings)
    computed = world.refresh()
    assert list(verify(world.store, world.config)) == []
    return computed


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("lost", ["audio", "candidates", "outcomes/stage=fetch_audio"])
def test_damage_to_a_part_downloads_nothing_that_lies_in_the_store(world: World, lost: str,
                                                                  share: float) -> None:
    before = world.rows()
    path = world.root / f"store/tables/{lost}/00000.parquet"
    flip(path, int(path.stat().st_size * share))
    songs, _ = mend(world)
    assert not songs & set(FOUND)
    assert [(row["track_id"], row["file"], row["sha256"]) for row in world.rows()["audio"]] == \
        [(row["track_id"], row["file"], row["sha256"]) for row in before["audio"]]
    assert world.outcomes("fetch_audio") == AUDIO
    assert "trim" not in world.computed
    assert world.refresh() == (set(), set())


def test_a_lost_row_is_not_taken_from_a_file_that_is_another(world: World) -> None:
    store, row = world.root / "store", world.rows()["audio"][0]
    (store / "tables/audio/00000.parquet").unlink()
    file = store / row["file"]
    file.write_bytes(b"no sound at all")
    assert world.refresh()[0] == {FOUND[0]}
    assert world.rows()["audio"][0]["sha256"] == row["sha256"]


def test_lyrics_outlive_damage_beside_their_words(world: World) -> None:
    before = {row["track_id"]: row["text"] for row in world.rows()["lyrics"]}
    path = world.root / "store/tables/lyrics/00000.parquet"
    size, kept = path.stat().st_size, 0
    for at in range(4, size, size // 5):
        flip(path, min(at, path.stat().st_size - 1))
        _, paths = mend(world)
        kept += not paths
        assert {row["track_id"]: row["text"] for row in world.rows()["lyrics"]} == before
    assert kept


def as_before(world: World) -> None:
    """Make the store's fetching parts those of the version before: one digest over song and settings."""
    ways: dict[str, list[Any]] = {
        "fetch_audio": [1, config_values(world.config, ("fetch",)), None],
        "fetch_lyrics": [1, config_values(world.config, (
            "lyrics.threshold", "lyrics.genius_root", "lyrics.lrclib_root")), lyrics_provider(world.config)]}
    with Store.writing(world.config.store) as store:
        tracks = store.read("tracks", 0)
        for stage, how in ways.items():
            columns = ["track_id", *STAGES[stage].reads["tracks"]]
            inputs = {tracks["track_id"][at].as_py(): digest(digest(*how), column_digests(
                tracks.slice(at, 1), columns)) for at in range(tracks.num_rows)}
            rows = store.read("outcomes", 0, partition=stage).to_pylist()
            facts = store.footers("outcomes", 0, stage)[0].facts
            store.write("outcomes", [[{**row, "input": inputs[row["track_id"]], "policy": None}
                                      for row in rows]], f"before {stage}", shard=0, partition=stage,
                        facts={"outputs": facts["outputs"], "open": 0})


def test_a_store_of_before_costs_no_request(world: World) -> None:
    before = world.rows()
    as_before(world)
    assert world.refresh() == (set(), set())
    assert world.rows() == before and world.computed == {"fetch_audio", "fetch_lyrics"}
    assert (world.outcomes("fetch_audio"), world.outcomes("fetch_lyrics")) == (AUDIO, WORDS)
    assert world.refresh() == (set(), set()) and not world.computed


def test_what_a_store_of_before_has_found_outlives_other_settings(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.rows()
    as_before(world)
    monkeypatch.delenv(GENIUS_TOKEN)
    world.settings = {"fetch": {"results": 3, "threshold": 80}, "lyrics": {"threshold": 99}}
    vanished(world)
    songs, paths = world.refresh()
    assert not songs & set(FOUND) and not paths
    assert world.rows()["audio"] == before["audio"] and world.rows()["lyrics"] == before["lyrics"]
    assert world.refresh() == (set(), set())


# ---- whatever happens ----

CHANGES = st.sampled_from([
    ("fetch", "threshold", 20), ("fetch", "threshold", 95), ("fetch", "results", 3), ("fetch", "results", 20),
    ("fetch", "max_duration_s", 60), ("fetch", "max_duration_s", 5000), ("fetch", "min_duration_s", 60),
    ("fetch", "min_duration_s", 0), ("fetch", "format", "worst"), ("fetch", "format", "bestaudio/best"),
    ("lyrics", "threshold", 20), ("lyrics", "threshold", 99), ("lyrics", "provider", "none"),
    ("lyrics", "provider", "genius"), ("lyrics", "provider", "lrclib"),
    ("lyrics", "provider", "lrclib,genius"),
    ("lyrics", "lrclib_root", "http://127.0.0.1:9"), ("network", "attempts", 1), ("network", "attempts", 3)])
STEPS = st.tuples(st.lists(CHANGES, max_size=2), st.sampled_from([ill, vanished, well]),
                  st.sampled_from(["as it is", "spelled otherwise", "refetched", "killed between its parts"]))


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, min_size=1, max_size=3))
def test_no_sequence_of_settings_and_faults_removes_a_row(first: World, steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv(GENIUS_TOKEN, "tok")
        world = copied(first, Path(folder) / "world")
        before = world.rows()
        for number, (changes, sites, what) in enumerate(steps):
            for section, key, value in changes:
                world.settings.setdefault(section, {})[key] = value
            world.heal()
            sites(world)
            if what == "spelled otherwise":
                artist, title = names(FOUND[0])
                world.songs[0] = (f"{artist} and others", f"{title} {number}", "")
            elif what == "refetched":
                world.again()
            elif what == "killed between its parts":
                for stage in ("fetch_audio", "fetch_lyrics"):
                    (world.root / f"store/tables/outcomes/stage={stage}/00000.parquet").unlink()
            world.refresh()
            after = world.rows()
            for table, columns in (("audio", ("track_id", "sha256")), ("lyrics", ("track_id", "text"))):
                has = {tuple(row[name] for name in columns) for row in after[table]}
                assert {tuple(row[name] for name in columns) for row in before[table]} <= has
            for stage in ("fetch_audio", "fetch_lyrics"):
                assert {world.outcomes(stage)[track_id][0] for track_id in ("T0", "T1")} == {"ok"}
