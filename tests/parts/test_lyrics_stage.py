"""Stage fetch_lyrics: what lies with the music wins, then providers in their order; ill sites."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simsong.config import Config
from simsong.parts.compute import Done
from simsong.parts.stages import GENIUS_TOKEN, RunContext
from storage.store import Store
from tasks.fetch_lyrics import fetch_lyrics
from tasks.ingest import ingest
from tests import lyrics_site
from tests.lyrics.test_lyrics_providers import FRENCH, TEXT
from tests.lyrics_site import Known, LyricsSite, status
from tests.small_world import VERSE, configured, write_song


@pytest.fixture
def site() -> Iterator[LyricsSite]:
    with lyrics_site.serve() as site:
        yield site


class World:
    def __init__(self, root: Path, site: LyricsSite) -> None:
        self.root, self.site = root, site

    def song(self, name: str, lyrics: str | None = None, known: str | None = None) -> None:
        """A song in the folder, with lyrics beside it, and others that the site knows of it."""
        write_song(self.root / "music", name, seconds=0.2, lyrics=None)
        if lyrics is not None:
            (self.root / "music" / name / f"song of {name}.txt").write_text(lyrics)
        if known is not None:
            self.site.known.append(Known(name, f"song of {name}", known))

    def config(self, provider: Any, **network: Any) -> Config:
        roots = {"genius_root": f"{self.site.root}/genius", "lrclib_root": self.site.root}
        return configured(self.root / "music", self.root / "store", catalogue={"shard_songs": 64},
                          lyrics={"provider": provider, **roots},
                          network={"retries": 0, "pause_s": 0.05, "give_up_s": 0.0, **network})

    def refresh(self, provider: Any, **network: Any) -> dict[str, tuple[str, str | None]]:
        """Artist → its lyrics' first line, or its status and reason."""
        config = self.config(provider, **network)
        with Store.writing(config.store) as store:
            assert store.generation is not None
            run = RunContext(config=config, generation=store.generation)
            for shard in ingest.fn(run=run).shards:
                fetch_lyrics.fn(done=Done(stage="ingest", shards=(shard,)), run=run)
        store = Store.open(config.store)
        artist = {row["track_id"]: row["artist"] for row in store.read("tracks").to_pylist()}
        first = {row["track_id"]: (row["text"] or row["kind"]).split("\n")[0]
                 for row in store.read("lyrics").to_pylist()}
        return {artist[row["track_id"]]: (row["status"], row["reason"] or first[row["track_id"]])
                for row in store.read("outcomes", partition="fetch_lyrics").to_pylist()}


@pytest.fixture
def world(tmp_path: Path, site: LyricsSite, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv(GENIUS_TOKEN, "tok")
    return World(tmp_path, site)


FIRST, FIRST_FRENCH, FIRST_LOCAL = (text.split("\n")[0] for text in (TEXT, FRENCH, VERSE))


def test_lyrics_beside_the_music_win_and_nobody_is_asked(world: World) -> None:
    world.song("ann", lyrics=VERSE, known=TEXT)
    world.song("bob", lyrics="[Instrumental]", known=TEXT)
    assert world.refresh("lrclib") == {"ann": ("ok", FIRST_LOCAL), "bob": ("ok", "instrumental")}
    assert world.site.asked == []


def test_junk_beside_the_music_is_passed_over_for_what_a_provider_has(world: World) -> None:
    world.song("ann", lyrics="ripped by xXx", known=TEXT)
    world.song("bob", lyrics="ripped by xXx")
    assert world.refresh("lrclib") == {"ann": ("ok", FIRST), "bob": ("failed", "junk_lyrics")}


@pytest.mark.parametrize(("provider", "paths"), [
    ("genius", {"/genius/search", "/genius/0"}), ("lrclib", {"/api/search"}),
    (["genius", "lrclib"], {"/genius/search", "/genius/0"}), ("lrclib,genius", {"/api/search"}),
    ("auto", {"/genius/search", "/genius/0"}), ("none", set()),
])
def test_who_is_asked(world: World, provider: Any, paths: set[str]) -> None:
    world.song("ann", known=TEXT)
    expected = ("ok", FIRST) if paths else ("failed", "no_provider")
    assert world.refresh(provider) == {"ann": expected}
    assert {request.path for request in world.site.asked if request.path != "/api/get"} == paths


def test_the_second_is_asked_for_what_the_first_does_not_have(world: World) -> None:
    world.song("ann", known=TEXT)
    world.song("bob")
    assert world.refresh(["genius", "lrclib"]) == {"ann": ("ok", FIRST), "bob": ("failed", "no_lyrics")}
    searched = [request.query for request in world.site.asked if request.path == "/api/search"]
    assert [query["artist_name"] for query in searched] == ["bob"]


def test_the_second_is_asked_where_the_first_is_ill_and_what_both_lack_is_tried_again(world: World) -> None:
    world.song("ann", known=TEXT)
    world.song("bob")
    world.site.faults = [status(429)]                       # Genius is given up at once
    assert world.refresh(["genius", "lrclib"], workers=1) == {
        "ann": ("ok", FIRST), "bob": ("pending", "rate_limited")}
    count = len(world.site.asked)
    assert world.refresh(["genius", "lrclib"])["bob"] == ("failed", "no_lyrics")
    assert all("bob" in str(one.query) for one in world.site.asked[count:])


def test_local_lyrics_are_read_while_the_site_is_given_up(world: World) -> None:
    for name in ("ann", "bob", "cat"):
        world.song(name, lyrics=VERSE)
    for name in ("dan", "eve", "fay"):
        world.song(name, known=TEXT)
    world.site.always = status(429)
    out = world.refresh("lrclib", workers=1)
    assert {out[name] for name in ("ann", "bob", "cat")} == {("ok", FIRST_LOCAL)}
    assert {out[name] for name in ("dan", "eve", "fay")} == {("pending", "rate_limited")}
    assert len(world.site.asked) == 1
    world.site.always = None
    assert {world.refresh("lrclib")[name] for name in ("dan", "eve", "fay")} == {("ok", FIRST)}
