"""Which artists training never sees."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

LEAST_ARTISTS = 8       # with fewer, a split leaves too little on either side: the evaluation is transductive


def held_out_artists(artist_ids: Sequence[str], share: float, seed: int) -> set[str]:
    """The artists held out for evaluation, about `share` of all.

    An artist's side follows from its own id and the seed, so that it keeps it when the catalogue grows; only
    where that would leave fewer than two artists on a side, the nearest ones move over.

    Args: artist_ids: of the songs there are; they may repeat.
    Returns: the held-out ones; empty for share 0 and for fewer than LEAST_ARTISTS artists (a transductive
        evaluation).
    """
    artists = sorted(set(artist_ids), key=lambda artist: (_place(artist, seed), artist))
    if share <= 0 or len(artists) < LEAST_ARTISTS:
        return set()
    count = sum(_place(artist, seed) < share for artist in artists)
    return set(artists[:min(max(count, 2), len(artists) - 2)])


def _place(artist: str, seed: int) -> float:
    """Uniform in [0, 1)."""
    digest = hashlib.sha256(f"{seed}:{artist}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
