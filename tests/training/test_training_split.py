"""Which artists are held out."""

import pytest

from simsong.training.split import fold_artists, held_out_artists, validation_artists


def test_artists_are_on_one_side_and_stay_there() -> None:
    """The prototype had songs of one artist in train and test."""
    songs = [f"AR{i % 100}" for i in range(1000)]              # ten songs of each
    held_out = held_out_artists(songs, 0.3, seed=0)
    assert 20 <= len(held_out) <= 40 and held_out <= set(songs)
    grown = held_out_artists([*songs, *(f"NEW{i}" for i in range(500))], 0.3, seed=0)
    assert {artist for artist in grown if artist.startswith("AR")} == held_out
    assert held_out_artists(songs[::-1], 0.3, seed=0) == held_out != held_out_artists(songs, 0.3, seed=1)


def test_small_collections_are_not_split_and_both_sides_have_two_artists() -> None:
    artists = [f"AR{i}" for i in range(8)]
    assert held_out_artists(artists[:7], 0.3, seed=0) == set()
    assert held_out_artists(artists, 0.0, seed=0) == set()
    for seed in range(20):
        assert len(held_out_artists(artists, 0.01, seed)) == 2
        assert len(held_out_artists(artists, 0.99, seed)) == 6


def test_each_artist_is_in_one_fold_and_folds_have_as_many_songs() -> None:
    songs = [f"AR{i}" for i in range(60) for _ in range(1 + i % 7)]
    folds = [fold_artists(songs, f"{number}/5", seed=0) for number in range(1, 6)]
    assert sorted(artist for fold in folds for artist in fold) == sorted(set(songs))
    counts = [sum(artist in fold for artist in songs) for fold in folds]
    assert max(counts) - min(counts) <= 7 and {len(fold) for fold in folds} == {12}
    assert fold_artists(songs[::-1], "2/5", seed=0) == folds[1] != fold_artists(songs, "2/5", seed=1)
    assert fold_artists([f"AR{i}" for i in range(7)], "1/2", seed=0) == set()


def test_of_many_songs_about_4096_validate() -> None:
    """At a million songs a tenth would be heard again at every validation."""
    few, many = ([f"A{song // 5}" for song in range(songs)] for songs in (20_000, 200_000))
    assert 5 * len(validation_artists(few, 0.1, 0)) == pytest.approx(2_000, rel=0.1)
    assert 5 * len(validation_artists(many, 0.1, 0)) == pytest.approx(4_096, rel=0.1)
    assert 5 * len(validation_artists(many, 0.001, 0)) == pytest.approx(200, rel=0.4)
    assert 5 * len(held_out_artists(many, 0.3, 0)) == pytest.approx(60_000, rel=0.05)
