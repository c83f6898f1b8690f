"""Which artists training never sees, which of the others validate it, and which part of a song it leaves."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

LEAST_ARTISTS = 8       # with fewer, a split leaves too little on either side: the evaluation is transductive
MOST_VALIDATED = 4096   # songs, about: more would tell little more, and each validation hears them all


def held_out_artists(artist_ids: Sequence[str], share: float, seed: int) -> set[str]:
    """The artists held out for evaluation, about `share` of all.

    An artist's side follows from its own id and the seed, so that it keeps it when the catalogue grows; only
    where that would leave fewer than two artists on a side, the nearest ones move over.

    Args: artist_ids: of the songs there are; they may repeat.
    Returns: the held-out ones; empty for share 0 and for fewer than LEAST_ARTISTS artists (a transductive
        evaluation).
    """
    return _split(artist_ids, share, str(seed))


def fold_artists(artist_ids: Sequence[str], fold: str, seed: int) -> set[str]:
    """The artists of one fold: each artist is in one of them, and all have about as many songs.

    An artist's fold depends on which others there are; `held_out_artists` is for a catalogue that grows.

    Args: artist_ids: of the songs there are; fold: e.g. "2/5".
    Returns: the fold's; empty for fewer than LEAST_ARTISTS artists (a transductive evaluation).
    """
    number, folds = map(int, fold.split("/"))
    songs = Counter(artist_ids)
    if len(songs) < LEAST_ARTISTS:
        return set()
    order = sorted(songs, key=lambda artist: (-songs[artist], _place(artist, f"fold:{seed}"), artist))
    return set(order[number - 1::folds])


def validation_artists(artist_ids: Sequence[str], share: float, seed: int) -> set[str]:
    """The artists, about `share` of those that are not held out, on which training measures itself; of many
    songs (one id each in `artist_ids`) those of about MOST_VALIDATED.

    Chosen as the held-out ones are, and independently of them: with the same `seed` the two hold nothing of
    each other.
    """
    share = min(share, MOST_VALIDATED / max(1, len(artist_ids)))
    return _split(artist_ids, share, f"validation:{seed}")


def halves(start_s: np.ndarray, end_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A song's segments (n,), in its order, as two (n,) bool: those of its first half, of an odd number one
    more; and those of the rest that share no audio with them."""
    first = np.arange(len(start_s)) < -(-len(start_s) // 2)
    return first, ~first & (start_s >= end_s[first].max(initial=0.0))


def _split(artist_ids: Sequence[str], share: float, salt: str) -> set[str]:
    artists = sorted(set(artist_ids), key=lambda artist: (_place(artist, salt), artist))
    if share <= 0 or len(artists) < LEAST_ARTISTS:
        return set()
    count = sum(_place(artist, salt) < share for artist in artists)
    return set(artists[:min(max(count, 2), len(artists) - 2)])


def _place(artist: str, salt: str) -> float:
    """Uniform in [0, 1)."""
    digest = hashlib.sha256(f"{salt}:{artist}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
