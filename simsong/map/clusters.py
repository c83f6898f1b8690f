"""The regions of a map: which songs lie in one, its number from map to map, and what it is called."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SAMPLE = 20_000                 # songs that regions are found among: HDBSCAN's time is that of all pairs
LEAST_SONGS = 5                 # of a region
LEAST_SHARE = 0.15              # of a region's songs that a label must be on to name it
NAMED_BY = 2                    # labels, at most
NONE = -1


def regions(positions: np.ndarray) -> np.ndarray:
    """(n,) int32: the number of each song's region, 0, 1, …, or NONE, by HDBSCAN (Campello et al., PAKDD
    2013) of at most SAMPLE songs; others belong where the nearest of these does.

    Args: positions: (n, 2).
    """
    from scipy.spatial import KDTree
    from sklearn.cluster import HDBSCAN

    n = len(positions)
    if n < 2 * LEAST_SONGS:
        return np.full(n, NONE, dtype=np.int32)
    sample = np.sort(np.random.default_rng(0).permutation(n)[:SAMPLE])
    least = max(LEAST_SONGS, round(0.5 * len(sample) ** 0.5))
    finder = HDBSCAN(min_cluster_size=least, copy=True)     # pyright: ignore[reportArgumentType]
    labels = finder.fit_predict(positions[sample].astype(np.float64))
    if len(sample) == n:
        return labels.astype(np.int32)
    _, at = KDTree(positions[sample]).query(positions)
    return labels[at].astype(np.int32)


def renumbered(regions: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The regions (n,), each by the number of that region before (n,) which it shares most songs with, as far
    as no larger share takes it; others by numbers not used before. NONE where there is none."""
    both = (regions >= 0) & (before >= 0)
    pairs, shared = np.unique(np.stack([regions[both], before[both]], axis=1), axis=0, return_counts=True)
    numbers: dict[int, int] = {}
    for at in np.lexsort((pairs[:, 1], pairs[:, 0], -shared)):
        new, old = pairs[at].tolist()
        if new not in numbers and old not in numbers.values():
            numbers[new] = old
    fresh = int(before.max(initial=NONE)) + 1
    for new in np.unique(regions[regions >= 0]).tolist():
        if new not in numbers:
            numbers[new] = fresh
            fresh += 1
    return np.array([numbers.get(new, NONE) for new in regions.tolist()], dtype=np.int32)


def named(sizes: Mapping[int, int], songs: int, labelled: Mapping[tuple[int, str], int],
          stand_ins: Mapping[int, list[str]]) -> dict[int, str]:
    """What each region is called: by the one or two labels that tell its songs from all others, else by its
    commonest artists. No two are called alike.

    Args:
        sizes: region → its songs, of `songs` on the map, which may have none.
        labelled: region (or NONE), label → how many of its songs bear it.
        stand_ins: region → its artists, the commonest first.
    """
    of_all: dict[str, int] = {}
    for (_, label), count in labelled.items():
        of_all[label] = of_all.get(label, 0) + count
    scores: dict[int, list[tuple[float, str]]] = {region: [] for region in sizes}
    for (region, label), count in labelled.items():
        if region not in sizes:
            continue
        own, everywhere = count / sizes[region], of_all[label] / songs
        if own >= LEAST_SHARE and own > everywhere:
            scores[region].append((own * np.log(own / everywhere), label))
    out: dict[int, str] = {}
    for region in sorted(sizes, key=lambda one: (-sizes[one], one)):
        words = [label for _, label in sorted(scores[region], key=lambda one: (-one[0], one[1]))]
        words = words or stand_ins.get(region, []) or ["unnamed"]
        name = ", ".join(words[:NAMED_BY])
        more = NAMED_BY
        while name in out.values() and more < len(words):
            more += 1
            name = ", ".join([*words[:NAMED_BY - 1], words[more - 1]])
        out[region] = name if name not in out.values() else f"{name} ({region})"
    return out
