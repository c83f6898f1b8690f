"""Lists of similar tracks as columns: the quick way where a list is in order, the careful way where not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from simsong.records import Rows
from simsong.sources.base import TRACK_ID, number

L = TypeVar("L")
Values = tuple[Sequence[Any], Sequence[Any]]        # the ids of a list, and as many scores
FEW = 8                     # lists, of which one is odd, that are not halved further
ID_BYTES = 18               # of an id of the Million Song Dataset: TR, five letters, eleven hex digits
_STARTS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_OF_IDS = _STARTS + b"_.-"                                                     # as in TRACK_ID
_STARTS_ID = np.isin(np.arange(256), np.frombuffer(_STARTS, np.uint8))
_INLINE = 12                # bytes of a string that Arrow's string view holds in itself
# By a string's length: what of the 12 bytes at its start belongs to it, as a word of 8 bytes and one of 4.
_FIRST_8 = np.array([(1 << 8 * min(length, 8)) - 1 for length in range(_INLINE + 1)], np.uint64)
_LAST_4 = np.array([(1 << 8 * max(length - 8, 0)) - 1 for length in range(_INLINE + 1)], np.uint32)
_VIEW = np.dtype([("length", "<i4"), ("first", "<u8"), ("last", "<u4")])
_PADDING = b"0" * ID_BYTES  # behind a text, so that windows at its end are whole


class Unfit(Exception):
    """Lists that the quick way cannot read: it is all or none."""


@dataclass(frozen=True)
class Pairs:
    """The usable pairs of some lists, in order: scores in 0..1, no list's owner in it, nor an id twice."""

    owners: Sequence[str]
    counts: np.ndarray              # (owners,) usable pairs in each list
    others: pa.StringArray          # (pairs,) ids
    scores: pa.FloatArray           # (pairs,) in 0..1
    left_out: int = 0               # pairs that were not usable

    def rows(self) -> Rows:
        """The table `similars`: the others are similar to the owner."""
        return Rows("similars", {"track_id": self._owner(), "similar_id": self.others, "score": self.scores})

    def reversed_rows(self) -> Rows:
        """The same where the owner is similar to each of the others."""
        owner = self._owner().cast(pa.string())
        return Rows("similars", {"track_id": self.others, "similar_id": owner, "score": self.scores})

    def _owner(self) -> pa.DictionaryArray:
        at = np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)
        return pa.DictionaryArray.from_arrays(at, pa.array(self.owners, pa.string()))


def apart(pairs: list[Any]) -> Values:
    """The ids and scores of a list of [id, score], as in Last.fm's JSON; of what is no pair, None and None.

    Some thousand lists are held at a time, and Python's collector visits each list in them again and again.
    """
    try:
        if set(map(type, pairs)) <= {list}:
            ids, scores = zip(*pairs, strict=True)
            return ids, scores
    except ValueError:
        pass
    whole = [pair if type(pair) is list and len(pair) == 2 else (None, None) for pair in pairs]
    return tuple(other for other, _ in whole), tuple(score for _, score in whole)


def pairs_of_values(owners: Sequence[str], lists: Sequence[Values]) -> Iterator[Pairs]:
    """The pairs of lists that were taken `apart`, whatever stands in them."""
    return _by_halves(_quick_values, careful_values, owners, lists)


def pairs_of_texts(owners: Sequence[str], lists: Sequence[bytes]) -> Iterator[Pairs]:
    """The pairs of lists `id,score,id,score`, as in lastfm_similars.db, whatever else stands there.

    Bytes in flight are some ten times the lists'.
    """
    return _by_halves(_quick_texts, careful_texts, owners, lists)


def _by_halves(quick: Callable[[Sequence[str], Sequence[L]], Pairs],
               careful: Callable[[str, L], tuple[dict[str, float], int]],
               owners: Sequence[str], lists: Sequence[L]) -> Iterator[Pairs]:
    """All lists the quick way if that succeeds, else each half; the last few the careful way."""
    try:
        yield quick(owners, lists)
    except Unfit:
        if len(lists) > FEW:
            middle = len(lists) // 2
            yield from _by_halves(quick, careful, owners[:middle], lists[:middle])
            yield from _by_halves(quick, careful, owners[middle:], lists[middle:])
            return
        parsed = [careful(owner, each) for owner, each in zip(owners, lists, strict=True)]
        yield Pairs(owners, np.array([len(scores) for scores, _ in parsed], np.int64),
                    pa.array([*chain.from_iterable(scores for scores, _ in parsed)], pa.string()),
                    pa.array([*chain.from_iterable(scores.values() for scores, _ in parsed)], pa.float32()),
                    sum(pairs - len(scores) for scores, pairs in parsed))


# --- the careful way ---

def careful_values(owner: str, values: Values) -> tuple[dict[str, float], int]:
    """What is usable: scores by id, the first of doubled ones. And how many there are of any kind."""
    out: dict[str, float] = {}
    for other, value in zip(*values, strict=True):
        score = number(value)
        if (score is not None and score <= 1 and isinstance(other, str) and other != owner
                and TRACK_ID.fullmatch(other)):
            out.setdefault(other, score)
    return out, len(values[0])


def careful_texts(owner: str, text: bytes) -> tuple[dict[str, float], int]:
    """The same for `id,score,id,score`; an id alone at the end is a pair that is not usable."""
    fields = text.decode("utf-8", "replace").split(",") if text else []
    return careful_values(owner, (fields[::2], fields[1::2] + [None] * (len(fields) % 2)))


# --- the quick way ---

def _quick_values(owners: Sequence[str], lists: Sequence[Values]) -> Pairs:
    """Raises: Unfit."""
    ids, values = ([*chain.from_iterable(each[part] for each in lists)] for part in (0, 1))
    try:
        if not set(map(type, ids)) <= {str} or not set(map(type, values)) <= {int, float}:
            raise Unfit
        text = "".join(ids).encode("ascii")
        scores = np.array(values, np.float64)
    except (UnicodeEncodeError, OverflowError):
        raise Unfit from None
    if not set(map(len, ids)) <= {ID_BYTES} or text.translate(None, _OF_IDS):
        raise Unfit
    counts = np.array([len(each[0]) for each in lists], np.int64)
    return _usable(owners, counts, np.frombuffer(text, f"V{ID_BYTES}"), scores)


def _quick_texts(owners: Sequence[str], lists: Sequence[bytes]) -> Pairs:
    """No loop over pairs: the lists are one text, in which all is found by its commas. Raises: Unfit."""
    text = b",".join(lists)
    if text.translate(None, _OF_IDS + b","):
        raise Unfit
    commas = np.flatnonzero(np.frombuffer(text, np.uint8) == ord(","))
    ends = np.append(commas, len(text))
    starts = np.append(0, commas + 1)
    if len(ends) % 2 or (ends[::2] - starts[::2] != ID_BYTES).any():
        raise Unfit
    list_ends = np.cumsum(np.fromiter(map(len, lists), np.int64, len(lists)) + 1) - 1
    last = np.searchsorted(ends[1::2], list_ends)           # of each list's pairs
    if (ends[1::2][last] != list_ends).any():               # a list ends with an id
        raise Unfit
    text += _PADDING
    scores = _floats(text, starts[1::2], ends[1::2] - starts[1::2])
    return _usable(owners, np.diff(last, prepend=-1), _windows(text, f"V{ID_BYTES}")[starts[::2]], scores)


def _windows(text: bytes, dtype: str) -> np.ndarray:
    """The value that begins at each byte."""
    return np.ndarray(len(text) - np.dtype(dtype).itemsize + 1, dtype, text, strides=(1,))


def _floats(text: bytes, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers that stand at these places, parsed by Arrow: (n,) float64. Raises: Unfit.

    Arrow wants an array of strings. Its views (a length, then the string itself, or its first four bytes, the
    buffer and the place) are the one kind that can be made of places in a text without a loop.
    """
    views = np.empty(len(starts), _VIEW)
    views["length"] = lengths
    short = np.minimum(lengths, _INLINE)
    views["first"] = _windows(text, "<u8")[starts] & _FIRST_8[short]
    views["last"] = _windows(text, "<u4")[starts + 8] & _LAST_4[short]
    if len(long := np.flatnonzero(lengths > _INLINE)):
        views["first"][long] &= np.uint64(0xFFFFFFFF)       # buffer 0
        views["last"][long] = starts[long]
    buffers = [None, pa.py_buffer(views), pa.py_buffer(text)]
    try:
        numbers = pa.Array.from_buffers(pa.string_view(), len(starts), buffers).cast(pa.float64())
    except pa.ArrowInvalid:
        raise Unfit from None
    return numbers.to_numpy()


def _usable(owners: Sequence[str], counts: np.ndarray, ids: np.ndarray, scores: np.ndarray) -> Pairs:
    """Args: ids: (pairs,) of ID_BYTES bytes, all from _OF_IDS. Raises: Unfit."""
    raw = np.ascontiguousarray(ids).view(np.uint8).reshape(-1, ID_BYTES)
    if not _STARTS_ID[raw[:, 0]].all():
        raise Unfit
    row = np.repeat(np.arange(len(counts)), counts)
    hashes = _hashes(raw)
    good = (scores >= 0) & (scores <= 1) & (hashes != _owner_hashes(owners)[row])
    good &= _first(hashes + row.astype(np.uint64) * _MIX, good)
    left_out = len(good) - int(np.count_nonzero(good))
    if left_out:
        raw, scores = raw[good], scores[good]
        counts = np.bincount(row[good], minlength=len(counts))
    offsets = np.arange(0, raw.size + 1, ID_BYTES, dtype=np.int32)
    bytes_of_ids = pa.py_buffer(np.ascontiguousarray(raw))
    others = pa.StringArray.from_buffers(len(raw), pa.py_buffer(offsets), bytes_of_ids)
    return Pairs(owners, counts, others, pa.array(scores.astype(np.float32)), left_out)


# An odd number without pattern (the golden ratio's bits), by which a word is spread over 64 bits.
_MIX = np.uint64(0x9E3779B97F4A7C15)


def _hashes(raw: np.ndarray) -> np.ndarray:
    """Of ids, (n, ID_BYTES) bytes → (n,) uint64. Two of a list coincide once in 10^15 lists of 100."""
    out = np.zeros(len(raw), np.uint64)
    for word in (raw[:, :8], raw[:, 8:16], raw[:, 10:]):
        out ^= np.ascontiguousarray(word).view("<u8").ravel()
        out ^= out >> np.uint64(32)
        out *= _MIX
    return out


def _owner_hashes(owners: Sequence[str]) -> np.ndarray:
    """Of ids of any length; none of the others, which all have ID_BYTES, equals one of another length."""
    return _hashes(np.array([owner.encode() if len(owner) == ID_BYTES else b"" for owner in owners],
                            f"S{ID_BYTES}").view(np.uint8).reshape(-1, ID_BYTES))


def _first(keys: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Whether each is the first of its key among the good."""
    ordered = np.sort(keys)
    if not (ordered[1:] == ordered[:-1]).any():
        return good
    out, places = np.zeros(len(keys), bool), np.flatnonzero(good)
    out[places[np.unique(keys[places], return_index=True)[1]]] = True
    return out
