"""One catalogue from several sources: here of lists; the sources of files are in test_sources."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsong.config import SourcesSettings
from simsong.errors import CatalogueError
from simsong.records import Rejected, Rows
from simsong.sources import open_sources
from simsong.sources.base import artist_id_of
from storage.tables import TABLES, conform
from tests.gathering import Given, by_id, collected, gather, tracks

DATA = Path(__file__).parents[2].parent / "shared" / "data"


# --- tracks ---

def test_the_first_source_wins_and_later_ones_fill_in() -> None:
    one = tracks("one", "T2", "T1", year=[None, 1999], release=[None, None], artist_id=["A2", None])
    two = tracks("two", "T1", "T3", year=[2000, 2001], release=["R", None], duration_s=[1.5, None])
    rows = by_id(gather(Given("one", one), Given("two", two)))
    assert [*rows] == ["T1", "T2", "T3"]
    t1 = rows["T1"]
    assert (t1["source"], t1["title"], t1["year"]) == ("one", "of T1", 1999)
    assert (t1["release"], t1["duration_s"]) == ("R", 1.5)
    assert (rows["T3"]["source"], rows["T3"]["year"]) == ("two", 2001)
    assert (rows["T2"]["artist_id"], t1["artist_id"]) == ("A2", artist_id_of("by T1"))


def test_annotations_add_no_tracks_beside_others() -> None:
    notes = Given("notes", tracks("notes", "T1", "T9", release=["R1", "R9"]), annotates=True)
    main = Given("main", tracks("main", "T1", title=[None]))
    assert {i: (r["title"], r["release"], r["source"]) for i, r in by_id(gather(main, notes)).items()} == {
        "T1": ("of T1", "R1", "main")}
    assert [*by_id(gather(notes))] == ["T1", "T9"]
    assert [*by_id(gather(notes, notes))] == ["T1", "T9"]


def test_tracks_with_nothing_to_search_by_are_rejected() -> None:
    collected = gather(Given("x", Rejected("T0", "malformed", "bad"),
                             tracks("x", "T1", "T2", "T3", title=["t", None, "t"], artist=["a", "a", None])))
    assert [*by_id(collected)] == ["T1"]
    assert collected.rejected == [
        ("T0", "malformed", "bad"), ("T2", "no_title", "T2: no title"), ("T3", "no_title", "T3: no artist")]
    assert collected.facts["rejected"] == {"malformed": 1, "no_title": 2}


def test_no_usable_track_is_one_clear_line() -> None:
    with pytest.raises(CatalogueError, match=r"^no usable track in x; 1 rejected, the first: f\.h5: bad$"):
        gather(Given("x", Rejected("T0", "malformed", "f.h5: bad")))
    with pytest.raises(CatalogueError, match="no usable track in no source"):
        gather()


def test_rows_may_be_lists_numpy_or_arrow() -> None:
    rows = by_id(gather(Given("x", Rows("tracks", {
        "track_id": pa.array(["T1", "T2"]), "artist": ["a", "b"], "title": pa.chunked_array([["t"], ["u"]]),
        "source": ["x", "x"], "duration_s": np.array([1.0, 2.5])}))))
    assert rows["T2"]["duration_s"] == 2.5
    assert rows["T1"]["title"] == "t"


# --- what is known beside them ---

def test_pairs_are_those_of_catalogued_tracks_once_each() -> None:
    pairs = Rows("similars", {"track_id": ["T2", "T1", "T1", "T9", "T1"],
                              "similar_id": ["T1", "T9", "T2", "T1", "T9"],
                              "score": [0.1, 0.2, 0.3, 0.4, 0.5]})
    more = Rows("similars", {"track_id": ["T2", "T2"], "similar_id": ["T1", "T0"], "score": [0.9, 1]})
    rows = gather(Given("x", tracks("x", "T2", "T1"), pairs), Given("y", more)).tables["similars"]
    assert [(r["track_id"], r["similar_id"], round(r["score"], 6)) for r in rows.to_pylist()] == [
        ("T1", "T2", 0.3), ("T1", "T9", 0.2), ("T2", "T0", 1.0), ("T2", "T1", 0.1)]


def test_artists_tables_follow_the_catalogues_artists() -> None:
    terms = Rows("artist_terms", {"artist_id": ["A1", "A2", "A1"], "name": ["rock", "rock", "pop"],
                                  "freq": [1, 0.5, None], "weight": [None, 0.5, 1.0]})
    rows = gather(Given("x", tracks("x", "T1", "T2", artist_id=["A1", "A1"]), terms)).tables["artist_terms"]
    assert [(r["name"], r["freq"]) for r in rows.to_pylist()] == [("pop", None), ("rock", 1.0)]


def test_all_tables_are_there_and_fit_their_declarations() -> None:
    labels = Rows("genres", {"track_id": ["T1", "T1"], "name": ["rock", "rock"], "weight": [1, 0.5],
                             "source": ["tag", "other"]})
    for items in ([tracks("x", "T1")], [tracks("x", "T1"), labels]):
        collected = gather(Given("x", *items))
        for name, table in collected.tables.items():
            conform(TABLES[name], table)
    assert [(r["name"], r["weight"], r["source"]) for r in collected.tables["genres"].to_pylist()] == [
        ("rock", 0.5, "other"), ("rock", 1.0, "tag")]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30), st.integers(1, 4))
def test_restricting_agrees_with_a_plain_loop(pairs: list[tuple[int, int]], batch: int) -> None:
    rows = [(f"T{a}", f"T{b}", float(n)) for n, (a, b) in enumerate(pairs)]
    parts = [rows[at:at + batch] for at in range(0, len(rows), batch)]
    batches = [Rows("similars", {name: [row[column] for row in part]
                                 for column, name in enumerate(("track_id", "similar_id", "score"))})
               for part in parts]
    result = gather(Given("x", tracks("x", "T3", "T1", "T5"), *batches)).tables["similars"]
    expected: dict[tuple[str, str], float] = {}
    for track_id, similar_id, score in rows:
        if track_id in ("T1", "T3", "T5"):
            expected.setdefault((track_id, similar_id), score)
    assert {(r["track_id"], r["similar_id"]): r["score"] for r in result.to_pylist()} == expected
    assert [(r["track_id"], r["similar_id"]) for r in result.to_pylist()] == sorted(expected)


# --- limit and shards ---

def test_a_larger_limit_keeps_the_smaller_ones_songs() -> None:
    source = Given("x", tracks("x", *(f"T{n:03}" for n in range(100))))
    chosen = [set(by_id(gather(source, limit=n))) for n in (1, 10, 11, 60, 100, 1000)]
    assert [len(c) for c in chosen] == [1, 10, 11, 60, 100, 100]
    assert all(a <= b for a, b in pairwise(chosen))
    assert set(by_id(gather(source, limit=10))) == chosen[1]
    assert set(by_id(gather(source, limit=10, seed=1))) != chosen[1]
    assert chosen[1] != {f"T{n:03}" for n in range(10)}


def test_choice_does_not_depend_on_the_order_given() -> None:
    ids = [f"T{n}" for n in range(50)]
    chosen = [set(by_id(gather(Given("x", tracks("x", *order)), limit=7, seed=3)))
              for order in (ids, ids[::-1])]
    assert chosen[0] == chosen[1]


def test_shards_by_hand() -> None:
    def shards(ids: list[str], known: dict[str, int], size: int) -> dict[str, int]:
        gathered = gather(Given("x", tracks("x", *ids)), known=known, shard_songs=size)
        assert gathered.shards == known | {i: r["shard"] for i, r in by_id(gathered).items()}
        return {i: r["shard"] for i, r in by_id(gathered).items()}

    assert shards(["c", "a", "b"], {}, 2) == {"a": 0, "b": 0, "c": 1}
    # b keeps its own, though that has room; new ones begin after the highest known, even one not here now.
    assert shards(["d", "a", "b", "c"], {"b": 0, "x": 4}, 2) == {"b": 0, "a": 5, "c": 5, "d": 6}
    assert shards(["T1", "T2", "T3"], {"T2": 3}, 1) == {"T1": 4, "T2": 3, "T3": 5}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sets(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=12), max_size=4),
       st.integers(1, 4))
def test_shards_never_grow(refreshes: list[set[str]], shard_songs: int) -> None:
    known: dict[str, int] = {}
    for ids in refreshes:
        gathered = gather(Given("x", tracks("x", *ids)), known=known, shard_songs=shard_songs)
        shards = {i: r["shard"] for i, r in by_id(gathered).items()}
        assert shards.keys() == ids
        assert all(shards[i] == known[i] for i in ids & known.keys())
        new = {i: s for i, s in shards.items() if i not in known}
        assert not set(new.values()) & set(known.values())
        assert all(n <= shard_songs for n in Counter(new.values()).values())
        assert len(set(new.values())) == -(-len(new) // shard_songs)
        known |= shards
        assert gathered.shards == known


# --- real data ---

@pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not on this machine")
def test_real_msd_with_lastfm() -> None:
    gathered = collected(open_sources(SourcesSettings(msd=(str(DATA / "msd/h5"),),
                                                      lastfm=(str(DATA / "lastfm"),))))
    rows = by_id(gathered)
    assert len(rows) == 69
    assert [track_id for track_id, _, _ in gathered.rejected] == ["TRAAAAW128F429D538"]
    assert rows["TRAAADZ128F9348C2E"]["artist"] == "Sonora Santanera"          # MSD's name, not Last.fm's
    in_both = [i for i in ("TRAAADZ128F9348C2E", "TRAAAFD128F92F423A") if i in rows]
    assert set(gathered.tables["similars"]["track_id"].to_pylist()) == set(in_both) != set()
    assert gathered.tables["artist_terms"].num_rows == 1087
    for name, table in gathered.tables.items():
        conform(TABLES[name], table)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not on this machine")
def test_real_lastfm_alone_is_a_catalogue() -> None:
    gathered = collected(open_sources(SourcesSettings(lastfm=(str(DATA / "lastfm"),))))
    assert [r["source"] for r in by_id(gathered).values()] == ["lastfm", "lastfm"]
    assert gathered.tables["similars"].num_rows == 167
    assert all(r["artist_id"] for r in by_id(gathered).values())
