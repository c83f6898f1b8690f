"""Who is one artist, by the spellings that catalogues and tags have."""

from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsong.artists import artist_groups, artist_labels, main_artist
from simsong.training.split import held_out_artists

SAME = [
    ("X", "X feat. Y"), ("X", "X & Y"), ("X", "X and Y"), ("X", "X, Y"), ("X", "X with Y"),
    ("X", "X vs. Y"), ("X", "X x Y"), ("X", "X x Y feat. Z"), ("X", "The X"), ("X", "X (feat. Y)"),
    ("X", "X [ft Y]"), ("X", "X ft.Y"), ("X", "X Featuring Y"), ("X", "X (with Y)"), ("X", "X w/ Y"),
    ("X", "X / Y"), ("X", "X; Y"), ("X", "X;Y"), ("X", "X + Y"), ("X", "x × y"), ("X", "X、Y"),
    ("X", "Ｘ　ｆｅａｔ．Ｙ"), ("X", "X with Y feat. Z"), ("Y", "Y ft. X"),
    ("JAY Z", "Jay-Z"), ("JAY‐Z", "jayz"), ("JAY Z", "Jay-Z & Kanye West"), ("Beyoncé", "BEYONCE"),
    ("The Beatles", "Beatles, The"), ("Sigur Rós", "Sigur Ros"), ("AC/DC", "ACDC"), ("P!nk", "Pink"),
    ("N.W.A", "NWA"), ("Кино", "Kino"), ("Queen/David Bowie", "Queen"), ("Queen / David Bowie", "Queen"),
    ("Lil Nas X & Cardi B", "Lil Nas X"), ("Lil Nas X feat. Jack Harlow", "Lil Nas X"),
    ("Little Feat & Friends", "Little Feat"), ("Tyler, The Creator", "Tyler,The Creator feat. Frank Ocean"),
    ("Simon & Garfunkel", "Simon and Garfunkel"), ("Simon&Garfunkel", "Simon & Garfunkel"),
    ("Earth, Wind & Fire", "Earth, Wind and Fire"),
    ("Florence + The Machine", "Florence and the Machine"), ("Guns N' Roses", "Guns & Roses"),
    ("Salt-N-Pepa", "Salt 'n' Pepa"), ("Wisin y Yandel", "Wisin & Yandel"),
    ("宇多田ヒカル", "宇多田ヒカル feat. Y"),
    ("Bob Marley", "Bob Marley & The Wailers"), ("Prince", "Prince and the Revolution"),
]
OTHERS = [
    ("10,000 Maniacs", "10 Years"), ("The The", "The Who"), ("AC/DC", "AC"), ("R&B Allstars", "R Kelly"),
    ("Malcolm X", "Malcolm McLaren"), ("Paul Simon", "Simon & Garfunkel"), ("Sleep", "Sleepy Sun"),
    ("!!!", "X"), ("Charli XCX", "Charli"), ("迈克尔·杰克逊", "迈克尔"),
]
NOBODY = ["", " ", "Unknown artist", "[unknown]", "<Unknown Artist>", "Various Artists", "VARIOUS", "V.A.",
          "VA feat. Y", "???", "-", "N/A"]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_spellings_are_one_artist(a: str, b: str) -> None:
    assert main_artist(a) == main_artist(b) is not None


@pytest.mark.parametrize(("a", "b"), OTHERS)
def test_others_are_others(a: str, b: str) -> None:
    assert main_artist(a) != main_artist(b)


@pytest.mark.parametrize("name", NOBODY)
def test_nobody_is_no_artist(name: str) -> None:
    assert main_artist(name) is None


_word = st.text(string.ascii_letters + "äéøñ", min_size=3, max_size=9)
_name = st.lists(_word.filter(lambda w: main_artist(f"Ann {w} Bob") != "ann"), min_size=1, max_size=3).map(
    " ".join).filter(lambda name: main_artist(name) is not None and name.lower().split() != ["the"])


@settings(deadline=None)
@given(_name, _name, st.sampled_from(
    [" feat. ", " ft. ", " Featuring ", " (feat. ", " [ft. ", " & ", " and ", ", ", " with ", " (with ",
     " vs. ", " x ", " X ", " / ", "; ", " + ", " · "]))
def test_guests_case_and_the_change_no_artist(name: str, guest: str, join: str) -> None:
    main = main_artist(name)
    close = {"(": ")", "[": "]"}.get(join.strip()[0], "")
    for other in (f"{name}{join}{guest}{close}", f"The {name}", name.upper(), name.swapcase(),
                  f"the {name.lower()}{join}{guest}{close}"):
        assert main_artist(other) == main, other


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_name_or_nobodys(name: str) -> None:
    main = main_artist(name)
    assert main == main_artist(f"  {name} ") and (main is None or (main and " " not in main))


def test_songs_are_joined_by_names_and_by_ids() -> None:
    names = ["Puff Daddy", "P. Diddy", "P. Diddy feat. X", "X", None, None, "", "Various Artists", "VA", None]
    ids = ["AR1", "AR1", "AN2", "AR3", "AR3", "AR4", None, "ARV", "ARV", None]
    assert artist_groups(names, ids).tolist() == [0, 0, 0, 1, 1, 2, -7, -8, -9, -10]
    labels = artist_labels(names, ids, list("abcdefghij"))
    assert labels == ["AR1", "AR1", "AR1", "AR3", "AR3", "AR4", "g", "h", "i", "j"]
    assert artist_groups([], []).shape == (0,)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([name for pair in SAME for name in pair]),
                          st.sampled_from([None, "AR1", "AR2", "AR3"])), max_size=12))
def test_groups_are_what_chains_join(songs: list[tuple[str, str | None]]) -> None:
    """By brute force: songs are joined while any two share a name or an id."""
    groups = artist_groups([name for name, _ in songs], [i for _, i in songs])
    want = list(range(len(songs)))
    for _ in songs:
        for a, (name, i) in enumerate(songs):
            for b, (other, j) in enumerate(songs):
                if main_artist(name) == main_artist(other) or (i and i == j):
                    want[a] = want[b] = min(want[a], want[b])
    np.testing.assert_array_equal(groups[:, None] == groups, np.equal.outer(want, want))


def test_what_a_catalogue_gains_changes_no_side() -> None:
    songs = [(f"Artist {n}", f"AR{n}") for n in range(100)]
    grown = [*songs, *((f"The ARTIST {n} feat. Artist {n + 1}", f"AN{n}") for n in range(0, 100, 3)),
             *((f"New {n}", f"AX{n}") for n in range(200))]
    ids = [str(n) for n in range(len(grown))]
    before = artist_labels([name for name, _ in songs], [artist_id for _, artist_id in songs], ids[:100])
    after = artist_labels([name for name, _ in grown], [artist_id for _, artist_id in grown], ids)
    assert after[:100] == before == [f"AR{n}" for n in range(100)]
    assert after[100:134] == [f"AR{n}" for n in range(0, 100, 3)]
    assert held_out_artists(after, 0.3, 0) & set(before) == held_out_artists(before, 0.3, 0)
