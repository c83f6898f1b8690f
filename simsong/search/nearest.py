"""The published songs nearest to a vector, with what is one recording."""

from __future__ import annotations

import numpy as np

from simsong.search.topk import top_k
from storage.exports import Published


def nearest(published: Published, query: np.ndarray, own: int | None, k: int,
            distinct: bool) -> list[tuple[int, float, int | None]]:
    """The k songs most like `query` (dim,), which is song `own` or none: each with its cosine and the song
    before it, `own` being the first, that is the same recording. `distinct` leaves those that have one out.
    """
    ids = published.tracks["track_id"].to_pylist()
    recording = [mark or track_id for mark, track_id in zip(published.duplicate_of, ids, strict=True)]
    exclude, asked = None if own is None else np.array([own]), min(k, len(ids))
    while True:
        index, cosines = top_k(query[None], published.embeddings, asked, exclude=exclude)
        first = {} if own is None else {recording[own]: own}
        found = [(i, cosine, None if first.setdefault(recording[i], i) == i else first[recording[i]])
                 for i, cosine in zip(index[0].tolist(), cosines[0].tolist(), strict=True) if i >= 0]
        kept = [row for row in found if not distinct or row[2] is None]
        if len(kept) >= k or asked == len(ids):
            return kept[:k]
        asked = min(4 * asked, len(ids))
