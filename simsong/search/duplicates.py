"""The same recording under several ids, found by sound, whatever the codec, the level, the trim.

Songs that last as long, the few nearest by MFCC statistics, are compared moment by moment, at every lag that
their durations allow. Another take, or the song without its singer, is not the same recording (see SAME).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from simsong.audio.soundprint import BANDS, HOP_S
from simsong.search.topk import top_k

NEAR_S = 3.0            # durations of one recording: silence at its ends, encoders' padding
NEAREST = 5             # of the songs that last as long, those looked at; a re-encoding's first was always it
SAME = 0.78             # correlation: re-encodings at least 0.87; karaoke 0.48, synthetic songs up to 0.68
RANGE_DB = 40.0         # below a song's loud moments codecs leave out what they like
OVERLAP = 0.5           # share of the shorter song that must be heard in both
FINE = 2                # lags to a moment
_BLOCK = 65_536         # songs looked at at a time


def near_pairs(statistics: np.ndarray, durations_s: np.ndarray,
               asking: np.ndarray | None = None) -> np.ndarray:
    """Pairs of songs that may be one recording: they last as long, and one is among the other's NEAREST of
    those, by cosine of their standardised statistics.

    Only songs of like duration are compared, and held: each of a million with some ten thousand.

    Args:
        statistics: (n, MFCC_DIM) of `mfcc_statistics`, a song's mean over its windows; may lie on the disk.
        durations_s: (n,), NaN where a song is not heard.
        asking: (n,) bool, the songs whose NEAREST are wanted; None: all.
    Returns: (p, 2) positions, the smaller first, in ascending order.
    """
    with_sound = np.flatnonzero(np.isfinite(durations_s))
    mean, spread = _mean_and_spread(statistics, with_sound)
    length = np.floor(durations_s[with_sound] / NEAR_S).astype(np.int64)
    order = with_sound[np.argsort(length, kind="stable")]
    length = np.sort(length)
    pair_blocks = [np.zeros((0, 2), dtype=np.int64)]
    for this in np.unique(length):
        begin, first, last, end = (int(np.searchsorted(length, this + step)) for step in (-1, 0, 1, 2))
        block, own = order[begin:end], np.arange(first - begin, last - begin)
        own = own if asking is None else own[asking[block[own]]]
        if not len(own):
            continue
        unit = _standardised(statistics[block], mean, spread)
        nearest, _ = top_k(unit[own], unit, NEAREST, exclude=own)
        row, rank = np.nonzero(nearest >= 0)
        pair_blocks.append(np.sort(np.stack([block[own[row]], block[nearest[row, rank]]], axis=1), axis=1))
    pairs = np.unique(np.concatenate(pair_blocks), axis=0)
    return pairs[np.abs(durations_s[pairs[:, 0]] - durations_s[pairs[:, 1]]) <= NEAR_S]


def on_timeline(prints: np.ndarray, starts_s: np.ndarray) -> np.ndarray:
    """(moments, BANDS) dB of a song from its beginning, NaN where it has no window. What is RANGE_DB below
    its loud moments is all alike; each moment is smoothed with those beside it (1, 2, 1), since two songs may
    have been cut half a moment apart.

    Args:
        prints: (windows, moments · BANDS) of `soundprint`, NaN where a song was repeated to fill a window;
            starts_s: (windows,) in the untrimmed song.
    """
    windows = prints.reshape(len(prints), -1, BANDS)
    first = np.rint(np.asarray(starts_s) / HOP_S).astype(np.int64)
    out = np.full((int(first.max()) + windows.shape[1], BANDS), np.nan, dtype=np.float32)
    loud_db = np.nanpercentile(windows.max(axis=2), 95)
    for at, window in zip(first, windows, strict=True):
        out[at:at + len(window)] = np.maximum(window, loud_db - RANGE_DB)
    out[1:-1] = (out[:-2] + 2 * out[1:-1] + out[2:]) / 4
    out[[0, -1]] = np.nan
    return out


def same_recording(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two songs, as `on_timeline` gives them, are one recording."""
    return correlation(a, b) >= SAME


def other_recording(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two songs, as `on_timeline` gives them, are surely two recordings, also where one begins as
    much later as it is longer. False where too little is heard of both at once to tell."""
    return -1 < correlation(a, b, NEAR_S + abs(len(a) - len(b)) * HOP_S) < SAME


def correlation(a: np.ndarray, b: np.ndarray, most_s: float = NEAR_S) -> float:
    """How alike two songs' bands go, at the lag of at most `most_s` at which they do so most: -1 to 1. A
    band's mean level does not count. -1 where too little is heard of both at once.

    By FFT, with what is unknown masked out (Padfield, "Masked object registration in the Fourier domain",
    IEEE TIP 2012), but each song's means are those of all of it.
    """
    n = 1 << (len(a) + len(b)).bit_length()
    (bands_a, power_a, known_a), (bands_b, power_b, known_b) = (_spectra(song, n) for song in (a, b))
    most = min(round(most_s / HOP_S), len(a) - 1, len(b) - 1)
    lags = np.arange(-FINE * most, FINE * most + 1)

    def at_lags(spectrum: np.ndarray) -> np.ndarray:
        return np.fft.irfft(spectrum, FINE * n)[lags] * FINE

    overlap = at_lags(known_a * known_b.conj())
    bands = min(int((~np.isnan(song[:, 0])).sum()) for song in (a, b))
    product = at_lags((bands_a * bands_b.conj()).sum(axis=0))
    power = (np.maximum(at_lags(power_a * known_b.conj()), 0)
             * np.maximum(at_lags(known_a * power_b.conj()), 0))
    usable = (overlap >= OVERLAP * bands - 0.5) & (power > 1e-6)
    return min(float(np.max(product[usable] / np.sqrt(power[usable]), initial=-1.0)), 1.0)


def first_of_group(n: int, pairs: np.ndarray) -> np.ndarray:
    """(n,) the smallest position of each one's group: whatever a chain of pairs (p, 2) joins is one group."""
    ones = np.ones(len(pairs), dtype=bool)
    joined = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    count, group = connected_components(joined, directed=False)
    first = np.full(count, n)
    np.minimum.at(first, group, np.arange(n))
    return first[group]


def _mean_and_spread(statistics: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(dim,) float64 each, of some rows, a block at a time."""
    blocks = np.split(rows, range(_BLOCK, len(rows), _BLOCK))
    count = max(len(rows), 1)
    mean = np.sum([statistics[block].sum(axis=0, dtype=np.float64) for block in blocks], axis=0) / count
    squares = [np.square(statistics[block] - mean).sum(axis=0) for block in blocks]
    return mean, np.sqrt(np.sum(squares, axis=0) / count)


def _standardised(statistics: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """In units of each dimension's deviation, with a 1 in the end: an average song has a direction too."""
    out = np.ones((len(statistics), statistics.shape[1] + 1), dtype=np.float32)
    out[:, :-1] = (statistics - mean.astype(np.float32)) / np.where(spread > 0, spread, 1).astype(np.float32)
    return out


def _spectra(song: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Over n moments, the spectra of each band about its mean (BANDS, f), of their power (f,), and of where
    the song is known (f,)."""
    audible = ~np.isnan(song[:, 0])
    bands = np.where(audible[:, None], song - song[audible].mean(axis=0), 0).astype(np.float64)
    return (np.fft.rfft(bands.T, n), np.fft.rfft(np.square(bands).sum(axis=1), n),
            np.fft.rfft(audible.astype(np.float64), n))
