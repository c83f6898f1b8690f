"""What is kept of a song's search, and how `simsong explain` tells it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from simsong.config import Config
from simsong.config_loader import load
from storage.store import Store
from storage.views import connect
from tests.audio.test_fetch_audio import Site
from tests.small_world import SETTINGS, refresh

HOSTILE = "[red]Adele[/red]\x1b[2J\u202e '); DROP TABLE candidates; -- karaoke"


@dataclass
class World:
    site: Site
    config: Config

    @property
    def store(self) -> Store:
        return Store.open(self.config.store)

    def explain(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        process = subprocess.run([sys.executable, "-m", "simsong.cli", "explain", *words, "--store",
                                  self.config.store], capture_output=True, text=True, check=False,
                                 env={**os.environ, "COLUMNS": "120"}, timeout=120)
        assert process.returncode == code, process.stderr
        return process


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three songs refreshed once: one found, one that nothing found is good enough for, one whose place is
    known and that fails for now; and a row without a title."""
    site, folder = Site(), tmp_path_factory.mktemp("explain")
    threading.Thread(target=site.serve_forever, args=(0.01,), daemon=True).start()
    site.results = [("Adele - Hello (Live)", "/song/1.wav", "4:55"), ("Adele - Hello", "/song/2.wav", "4:55"),
                    ("Adele - Hello [1 hour]", "/song/3.wav", "1:00:00")]
    site.faults = 1
    (folder / "songs.csv").write_text(
        "track_id,artist,title,duration_s,url\n"
        f"A,Adele,Hello,295,\nB,Nobody,Nothing at all,100,\nC,Cat,Road,1,{site.root}/heals/x.wav\n"
        "D,Dan,,1,\n")
    config = load(None, {"store": str(folder / "store"), "sources": {"table": str(folder / "songs.csv")},
                         **SETTINGS, "catalogue": {"shard_songs": 8}, "network": {"retries": 0},
                         "fetch": {"search": f"{site.root}/search?q={{query}}", "results": 3}}, {})
    refresh(config)
    yield World(site, config)
    site.over.set()
    site.shutdown()
    site.server_close()


def test_every_result_of_a_search_is_a_row(world: World) -> None:
    rows = world.store.read("candidates").to_pylist()
    assert [(row["track_id"], row["rank"], row["chosen"]) for row in rows] == [
        ("A", 0, False), ("A", 1, True), ("A", 2, False),
        ("B", 0, False), ("B", 1, False), ("B", 2, False)]          # also where none was good enough
    assert [row["why"] for row in rows[:3]] == ["live", "the best", "loop, 3305 s too long"]
    assert rows[1] == {"track_id": "A", "rank": 1, "url": f"{world.site.root}/song/2.wav", "channel": None,
                       "title": "Adele - Hello", "duration_s": 295.0, "score": pytest.approx(90.9),
                       "chosen": True, "why": "the best"}
    audio = world.store.read("audio").to_pylist()
    assert {row["track_id"]: row["match_score"] for row in audio} == {"A": pytest.approx(90.9)}
    with connect(world.store) as db:
        assert db.execute("SELECT track_id, url FROM candidates WHERE chosen").fetchall() == [
            ("A", f"{world.site.root}/song/2.wav")]


def test_a_song_is_told_from_the_catalogue_to_its_last_stage(world: World) -> None:
    answer = json.loads(world.explain("adele - hello", "--json").stdout)
    assert (answer["track_id"], answer["artist"], answer["duration_s"]) == ("A", "Adele", 295.0)
    stages = {row["stage"]: (row["status"], row["reason"]) for row in answer["stages"]}
    assert stages["ingest"] == stages["fetch_audio"] == ("ok", None)
    assert stages["fetch_lyrics"] == ("failed", "no_provider")
    assert stages["train"] == stages["export"] == (None, None)
    assert answer["audio"]["url"] == f"{world.site.root}/song/2.wav"
    assert [(c["score"] > 60, c["chosen"], c["why"]) for c in answer["candidates"]] == [
        (True, True, "the best"), (False, False, "live"), (False, False, "loop, 3305 s too long")]

    text = world.explain("A").stdout
    assert text.startswith("Adele - Hello (A, 295.0 s, from table)\n")
    assert f"audio: {world.site.root}/song/2.wav (pcm_s16le, 1.0 s, score 90.9)" in text
    assert next(line for line in text.splitlines() if " * " in line).split()[:5] == [
        "90.9", "*", "Adele", "-", "Hello"]
    assert "[1 hour]" in text                                       # a title is no markup


def test_no_match_says_what_was_found_and_why_it_is_not_it(world: World) -> None:
    answer = json.loads(world.explain("B", "--json").stdout)
    fetched = next(row for row in answer["stages"] if row["stage"] == "fetch_audio")
    assert (fetched["status"], fetched["reason"], fetched["attempts"]) == ("failed", "no_match", 1)
    assert fetched["detail"].startswith("none of 3 reaches 60")
    assert answer["audio"] is None and len(answer["candidates"]) == 3
    assert all("other title" in c["why"] for c in answer["candidates"])


def test_records_that_became_no_song_and_songs_unknown(world: World) -> None:
    text = world.explain("D").stdout
    assert text.startswith("no song of the catalogue (D)")
    assert "no_title" in text
    assert "no song is called 'zzzz qqqq'" in world.explain("zzzz qqqq", code=1).stderr


def test_songs_carried_over_keep_their_candidates(world: World) -> None:
    """After the others, since it changes the world: the third song heals, and is alone asked for again."""
    before, searches = world.store.read("candidates"), world.site.count("/search")
    assert next(row for row in json.loads(world.explain("C", "--json").stdout)["stages"]
                if row["stage"] == "fetch_audio")["reason"] == "server_error"
    assert ("fetch_audio", 0) in refresh(world.config)
    assert world.store.read("audio")["track_id"].to_pylist() == ["A", "C"]
    assert world.store.read("candidates").equals(before)
    assert world.site.count("/search") == searches == 2
    assert refresh(world.config) == set()
    assert json.loads(world.explain("C", "--json").stdout)["candidates"] == []      # it was never searched


def test_a_hostile_title_is_only_data(world: World) -> None:
    rows: list[dict[str, Any]] = world.store.read("candidates").to_pylist()
    rows[0]["title"] = HOSTILE
    with Store.writing(world.config.store) as store:
        store.write("candidates", [rows], "id")
    assert HOSTILE in {c["title"] for c in json.loads(world.explain("A", "--json").stdout)["candidates"]}
    text = world.explain("A").stdout
    assert "\x1b" not in text and "\u202e" not in text
    assert "[red]" in text


def test_it_imports_neither_prefect_nor_torch(world: World) -> None:
    code = ("import sys; from simsong.cli import main; sys.argv = ['simsong', *sys.argv[1:]]\n"
            "try: main()\nexcept SystemExit: pass\n"
            "print([n for n in ('prefect', 'torch', 'transformers') if n in sys.modules], file=sys.stderr)")
    process = subprocess.run([sys.executable, "-c", code, "explain", "A", "--store", world.config.store],
                             capture_output=True, text=True, check=True)
    assert process.stderr.splitlines()[-1] == "[]"
