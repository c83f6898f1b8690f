"""What is known of songs beforehand: by hand on three songs, mixed, shuffled, kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from simsong.config import PriorsSettings
from simsong.errors import ModelError
from simsong.training.prior import UNKNOWN, Prior, centred

ALL = np.arange(3)
NAN = np.nan
# around their mean (1, 2): up, and down; nothing of the third
LYRICS = np.array([[1, 5], [1, -1], [NAN, NAN]], np.float32)
ARTISTS = np.array([7, 9, 7])
GENRES = np.array([0, UNKNOWN, 0])
TAGS = csr_matrix(np.array([[3, 4, 0], [0, 0, 0], [6, 0, 8]]))
WORDS = csr_matrix(np.array([[2, 0], [1, 1], [0, 5]]))


def weighed(**weights: float) -> PriorsSettings:
    return PriorsSettings(**{"lyrics": 0} | weights)


def check(prior: Prior, expected: list[list[float]]) -> None:
    """The diagonal does not matter."""
    matrix = prior.matrix(ALL)
    assert matrix.dtype == torch.float32 and matrix.shape == (3, 3)
    others = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(matrix.numpy()[others], np.array(expected)[others], atol=1e-6)


def test_lyrics_are_compared_around_their_mean() -> None:
    check(Prior(LYRICS, weights=PriorsSettings()), [[1, -1, NAN], [-1, 1, NAN], [NAN, NAN, NAN]])
    check(Prior(LYRICS + 100, weights=PriorsSettings()), [[1, -1, NAN], [-1, 1, NAN], [NAN, NAN, NAN]])


def test_centred_by_hand() -> None:
    lyrics = np.array([[2.0, 1], [0, 1], [np.nan, 0], [1, 4]])            # around (1, 2)
    expected = np.array([[0.5, -0.5], [-0.5, -0.5], [np.nan, np.nan], [0, 1]])
    expected[:2] *= np.sqrt(2)
    np.testing.assert_allclose(centred(lyrics), expected, atol=1e-7)


def test_artists_and_genres_are_the_same_or_not() -> None:
    check(Prior(artists=ARTISTS, weights=weighed(artist=1)), [[1, 0, 1], [0, 1, 0], [1, 0, 1]])
    check(Prior(genres=GENRES, weights=weighed(genre=2)), [[1, NAN, 1], [NAN, NAN, NAN], [1, NAN, 1]])


def test_tags_and_words_are_compared_by_cosine() -> None:
    check(Prior(tags=TAGS, weights=weighed(tags=1)), [[1, NAN, 0.36], [NAN, NAN, NAN], [0.36, NAN, 1]])
    half = 0.5 ** 0.5
    check(Prior(words=WORDS, weights=weighed(words=1)), [[1, half, 0], [half, 1, half], [0, half, 1]])


def test_what_is_known_of_both_is_averaged_by_weight() -> None:
    both = Prior(LYRICS, ARTISTS, weights=weighed(lyrics=3, artist=1))
    check(both, [[1, -0.75, 1], [-0.75, 1, 0], [1, 0, 1]])      # (3 · −1 + 1 · 0) / 4; the artist alone
    everything = Prior(LYRICS, ARTISTS, GENRES, TAGS, WORDS,
                       weights=PriorsSettings(lyrics=1, artist=1, genre=1, tags=1, words=1))
    half = 0.5 ** 0.5
    check(everything, [[1, (-1 + 0 + half) / 3, (1 + 1 + 0.36 + 0) / 4], [(half - 1) / 3, 1, half / 2],
                       [0.59, half / 2, 1]])
    assert everything.coverage() == {"lyrics": 2, "artist": 3, "genre": 2, "tags": 2, "words": 3}
    assert both.known.all() and Prior(LYRICS, weights=PriorsSettings()).known.tolist() == [True, True, False]


def test_a_batch_is_of_any_songs_in_any_order() -> None:
    prior = Prior(LYRICS, ARTISTS, GENRES, TAGS, WORDS, weights=PriorsSettings(artist=1, tags=2, words=0.5))
    order = np.array([2, 0])
    expected = prior.matrix(ALL).numpy()[np.ix_(order, order)]
    np.testing.assert_allclose(prior.matrix(order), expected, atol=1e-6)
    assert len(prior) == 3


def test_what_has_no_weight_is_left_aside() -> None:
    alone = Prior(LYRICS, weights=PriorsSettings())
    beside = Prior(LYRICS, ARTISTS, GENRES, TAGS, WORDS, weights=PriorsSettings())
    assert alone.digest() == beside.digest() and beside.coverage() == {"lyrics": 2}


@pytest.fixture
def many() -> Prior:
    rng = np.random.default_rng(0)
    lyrics = rng.normal(size=(60, 8)).astype(np.float32)
    lyrics[::3] = NAN
    artists = np.where(np.arange(60) % 6 == 0, UNKNOWN, np.arange(60))      # of ten songs nothing is known
    return Prior(lyrics, artists, weights=PriorsSettings(artist=0.5))


def test_shuffled_deals_what_is_known_to_other_songs(many: Prior) -> None:
    control, songs = many.shuffled(0), np.arange(60)
    assert control.coverage() == many.coverage()
    np.testing.assert_array_equal(control.known, many.known)
    before, after = many.matrix(songs).numpy(), control.matrix(songs).numpy()
    off = ~np.eye(60, dtype=bool)
    np.testing.assert_allclose(np.sort(after[off]), np.sort(before[off]), atol=1e-6)    # NaN come last
    # a song with lyrics is told by its likenesses to all others: none keeps its own
    rows = [np.sort(matrix, axis=1)[songs % 3 > 0] for matrix in (before, after)]
    assert not np.isclose(rows[0], rows[1], atol=1e-4, equal_nan=True).all(1).any()
    pairs = np.nan_to_num(np.stack([before[off], after[off]]))
    assert abs(np.corrcoef(pairs)[0, 1]) < 0.2


def test_shuffled_is_a_function_of_the_seed(many: Prior) -> None:
    assert many.shuffled(1).digest() == many.shuffled(1).digest() != many.shuffled(2).digest()
    assert many.shuffled(1).digest() != many.digest()


def test_two_songs_swap_and_one_keeps_its_own() -> None:
    known = Prior(LYRICS, genres=np.array([3, 4, UNKNOWN]), weights=weighed(lyrics=1, genre=1))
    swapped = known.shuffled(0)
    check(swapped, [[1, -0.5, NAN], [-0.5, 1, NAN], [NAN, NAN, NAN]])
    assert swapped.digest() != known.digest() == swapped.shuffled(0).digest()
    alone = Prior(genres=np.array([3, UNKNOWN]), weights=weighed(genre=1))
    assert alone.shuffled(0).digest() == alone.digest()


def test_saved_and_loaded_is_the_same(tmp_path: Path, many: Prior) -> None:
    everything = Prior(LYRICS, ARTISTS, GENRES, TAGS, WORDS,
                       weights=PriorsSettings(lyrics=1, artist=2, genre=3, tags=4, words=5))
    for prior in (many, everything, many.shuffled(0)):
        prior.save(tmp_path / "deep" / "prior.npz")
        loaded = Prior.load(tmp_path / "deep" / "prior.npz")
        assert loaded.digest() == prior.digest() and loaded.weights == prior.weights
        songs = np.arange(len(prior))
        np.testing.assert_array_equal(loaded.matrix(songs), prior.matrix(songs))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["prior.npz"]


def test_the_digest_names_values_and_weights(many: Prior) -> None:
    other = LYRICS.copy()
    other[0, 0] += 1e-3
    digests = {Prior(LYRICS, weights=PriorsSettings()).digest(),
               Prior(other, weights=PriorsSettings()).digest(),
               Prior(LYRICS, weights=PriorsSettings(lyrics=2)).digest(), many.digest()}
    assert len(digests) == 4


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="lyrics of 3, artist of 4"):
        Prior(LYRICS, np.zeros(4, int), weights=PriorsSettings(artist=1))
    with pytest.raises(ModelError, match=r"must be \(songs, dim\), not \(3,\)"):
        Prior(np.zeros(3), weights=PriorsSettings())
    with pytest.raises(ModelError, match="no prior has a weight"):
        Prior(LYRICS, weights=weighed())
    with pytest.raises(ModelError, match="no song's lyrics, tags are known"):
        Prior(artists=ARTISTS, weights=PriorsSettings(tags=1))
    for content in (b"", b"PK no archive", b"\x93NUMPY"):
        (tmp_path / "prior.npz").write_bytes(content)
        with pytest.raises(ModelError, match="not a prior of ours"):
            Prior.load(tmp_path / "prior.npz")
    with pytest.raises(ModelError, match="not a prior of ours"):
        Prior.load(tmp_path / "none.npz")
    np.savez(tmp_path / "pickled.npz", weights=np.array([PriorsSettings()], object), allow_pickle=True)
    with pytest.raises(ModelError, match="not a prior of ours"):
        Prior.load(tmp_path / "pickled.npz")
