"""Which songs a catalogue takes, and how doubles are marked."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any

import pytest

from simsong.errors import CatalogueError
from simsong.records import Rows
from tests.gathering import Given, by_id, gather, tracks


def pairs(*given: tuple[str, str, float]) -> Rows:
    a, b, score = zip(*given, strict=True)
    return Rows("similars", {"track_id": [*a], "similar_id": [*b], "score": [*score]})


SONGS = tracks("x", "T1", "T2", "T3", "T4", artist=["Gob", "Gøb", "The Knife", "!!!"],
               artist_id=["A1", "A1", "A2", None], year=[1989, 1990, 1999, None])
LABELS = (Rows("genres", {"track_id": ["T1"], "name": ["Punk"], "weight": [1.0], "source": ["tagtraum"]}),
          Rows("artist_terms", {"artist_id": ["A1", "A1", "A2"], "name": ["rock", "punk", "electro"],
                                "freq": [1.0, 1.0, 1.0], "weight": [0.5, 0.9, 1.0]}),
          Rows("tags", {"track_id": ["T1", "T2", "T2", "T3"], "name": ["80s", "80s", "mine alone", "synth"],
                        "weight": [1.0, 1.0, 1.0, 0.0]}))
WORLD = Given("x", SONGS, *LABELS, pairs(("T1", "T3", 1.0), ("T3", "T9", 0.9), ("T2", "T8", 0.5)))


@pytest.mark.parametrize(("settings", "left"), [
    ({"genres": ["PUNK"]}, {"T1", "T2"}),                    # T2 by its artist's weightiest term
    ({"genres": ["electro", "punk"]}, {"T1", "T2", "T3"}),
    ({"years": [1989, 1990]}, {"T1", "T2"}),
    ({"tags": ["80S"]}, {"T1", "T2"}),
    ({"tags": ["80s"], "years": [1990, 2000]}, {"T2"}),
    ({"artists": ["gob"]}, {"T1", "T2"}),
    ({"artists": ["A2", "!!!"]}, {"T3", "T4"}),
    ({"similars": "inside"}, {"T1", "T3"}),                  # a pair counts in both directions
    ({"similars": "inside", "artists": ["gob", "A2"]}, {"T1", "T3"}),
])
def test_filters(settings: dict[str, Any], left: set[str]) -> None:
    assert set(by_id(gather(WORLD, **settings))) == left


@pytest.mark.parametrize("settings", [
    {"genres": ["polka"]}, {"years": [1900, 1901]}, {"artists": ["x' OR 1=1 --"]},
    {"similars": "inside", "artists": ["gob"]}, {"pick": "connected", "artists": ["!!!"]}])
def test_nothing_left_is_one_line(settings: dict[str, Any]) -> None:
    with pytest.raises(CatalogueError, match=r"^no song is left by \[catalogue\] [^\n]+$"):
        gather(WORLD, **settings)


def test_tags_on_next_to_no_songs_are_left_out_and_counted() -> None:
    gathered = gather(WORLD)
    assert gathered.tables["vocabulary"].to_pylist() == [{"name": "80s", "songs": 2}]
    assert [(r["track_id"], r["name"]) for r in gathered.tables["tags"].to_pylist()] == [
        ("T1", "80s"), ("T2", "80s")]
    assert gathered.facts["tags"] == {"names": 3, "kept": 1}
    # Counted in all the sources, not in the songs taken.
    assert gather(WORLD, artists=["A2"], tag_songs=1).tables["vocabulary"].num_rows == 3


def test_genres_are_given_or_the_artists_weightiest_term_and_say_which() -> None:
    rows = gather(WORLD).tables["genres"].to_pylist()
    assert [(r["track_id"], r["name"], r["source"]) for r in rows] == [
        ("T1", "Punk", "tagtraum"), ("T2", "punk", "artist_term"), ("T3", "electro", "artist_term")]
    assert rows[1]["weight"] == pytest.approx(0.9)


def test_a_connected_selection_brings_similar_songs_along() -> None:
    """Ten chains of ten songs: T00-T01-…-T09, T10-…"""
    ids = [f"T{n:02}" for n in range(100)]
    chain = pairs(*((a, b, 0.5) for a, b in pairwise(ids) if a[1] == b[1]))
    source = Given("x", tracks("x", *ids, "U1", "U2"), chain)
    chosen = [set(by_id(gather(source, pick="connected", limit=n))) for n in (1, 5, 10, 30, 100)]
    assert [len(c) for c in chosen] == [1, 5, 10, 30, 100]
    assert all(a <= b for a, b in pairwise(chosen))
    assert len({i[1] for i in chosen[2]}) == 1               # ten songs: one chain, whole
    assert len({i[1] for i in chosen[3]}) == 3
    # The first song is the first of the random order.
    assert chosen[0] == {min(ids, key=lambda i: hashlib.md5(f"0:{i}".encode()).hexdigest())}
    assert set(by_id(gather(source, pick="connected"))) == set(ids)      # U1 and U2 have nothing similar
    assert set(by_id(gather(source, pick="connected", limit=10, seed=1))) != chosen[2]


def test_a_connected_selection_takes_the_most_similar_first() -> None:
    star = pairs(*(("T00", f"T{n:02}", n / 100) for n in range(1, 41)))
    source = Given("x", tracks("x", *(f"T{n:02}" for n in range(41))), star)
    # From any song, T00 comes next, and then its ten nearest.
    chosen = set(by_id(gather(source, pick="connected", limit=12)))
    assert {"T00"} | {f"T{n}" for n in range(32, 41)} <= chosen


def test_songs_that_the_dataset_itself_distrusts_are_dropped_and_counted() -> None:
    wrong = Rows("mismatches", {"track_id": ["T1", "T2", "T9"], "song_id": ["S1", "S9", "S0"]})
    gathered = gather(Given("x", tracks("x", "T1", "T2", "T3", song_id=["S1", "S2", "S3"]), wrong))
    assert [*by_id(gathered)] == ["T2", "T3"]                   # T2's pair is another one
    assert gathered.facts["mismatches"] == 1
    assert gathered.rejected == [("T1", "untrusted",
                                  "T1: the dataset lists it as matched to a wrong song, S1")]


# --- the same recording under several ids ---

def marks(**columns: list[Any]) -> dict[str, str | None]:
    ids = [f"T{n}" for n in range(1, len(columns["title"]) + 1)]
    rows = by_id(gather(Given("x", tracks("x", *ids, artist=["Gob"] * len(ids), **columns))))
    return {i: row["duplicate_of"] for i, row in rows.items()}


def test_doubles_are_marked_by_names_and_durations() -> None:
    titles = ["Soon", "SOON!", "Soon (Live)", "Soon - Remastered 2009", "Soon (Album Version)", "Sun"]
    assert marks(title=titles, duration_s=[200.0, 201.5, 200.0, 202.9, 240.0, 200.0]) == {
        "T1": None, "T2": "T1", "T3": None, "T4": "T1", "T5": None, "T6": None}


def test_an_unknown_duration_is_no_difference() -> None:
    assert marks(title=["Soon", "Soon", "Later", "Later"], duration_s=[None, 200.0, None, None]) == {
        "T1": None, "T2": "T1", "T3": None, "T4": "T3"}


def test_other_albums_hold_other_recordings() -> None:
    """Two symphonies have an Allegro each."""
    albums = ["Symphony 1", "Symphony 2", "SYMPHONY 1 (Remastered)", None, "Symphony 2"]
    assert marks(title=["Allegro"] * 5, duration_s=[300.0] * 5, release=albums) == {
        "T1": None, "T2": None, "T3": "T1", "T4": "T1", "T5": "T2"}
    assert marks(title=["Allegro"] * 3, release=[None, "Symphony 2", "Symphony 1"]) == {
        "T1": None, "T2": "T1", "T3": None}


def test_other_artists_and_untitled_scripts_are_told_apart() -> None:
    artists, titles = ["Gob", "Bog", "Gob", "The Gob"], ["夜", "夜", "朝", "The 夜"]
    rows = by_id(gather(Given("x", tracks("x", "T1", "T2", "T3", "T4", artist=artists, title=titles))))
    assert {i: row["duplicate_of"] for i, row in rows.items()} == {
        "T1": None, "T2": None, "T3": None, "T4": "T1"}


def test_the_one_catalogued_first_bears_no_mark() -> None:
    same = Given("x", tracks("x", "T1", "T2", artist=["Gob"] * 2, title=["Soon"] * 2))
    rows = by_id(gather(same, known={"T2": 0}))
    assert (rows["T1"]["duplicate_of"], rows["T2"]["duplicate_of"]) == ("T2", None)
