"""Files of the true catalogues' form and size, made up: the real ones, of many gigabytes, cannot be had here.

The same seed gives the same rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BATCH = 100_000
LETTERS = 26 ** 5                 # ways to choose the five in an id
ARTISTS_PER_SONG = 0.07
# As in the file that is distributed, which has more indices.
SONGS = """CREATE TABLE songs (track_id text PRIMARY KEY, title text, song_id text, release text,
    artist_id text, artist_mbid text, artist_name text, duration real, artist_familiarity real,
    artist_hotttnesss real, year int, track_7digitalid int, shs_perf int, shs_work int)"""
INDEX = "CREATE INDEX idx_artist_id ON songs ('artist_id', 'release')"

# What the true strings hold beside plain words: accents, other scripts, quotes, entities, and U+2019, U+2013
# and U+2014 cut to their low bytes.
ODD = ("Café", "Mötley", "Sigur Rós", "Ænima", "Пикник", "東京", "Cafe\u0301", "Rock &amp; Roll", "&", "N°5",
       '"Live"', "Don't", "Don\x19t", "\x13 Part", "\x14 Remix", "(Album Version)", "[Explicit]", "feat.")
SYLLABLES = ("ba", "be", "bo", "da", "de", "di", "fa", "ga", "go", "ha", "in", "ka", "la", "le", "lo", "ma",
             "me", "mo", "na", "no", "on", "pa", "ra", "re", "ri", "sa", "so", "ta", "ti", "to", "va", "ze")


def track_ids(songs: int, seed: int) -> pa.Array:
    """Distinct ids of the Million Song Dataset's form: TR, five letters, 128F or the like, seven hex digits.

    Returns: (songs,) strings in no order; fewer songs get the first of them.
    """
    return _ids("TR", songs, seed, ("128F", "128E", "12E5", "1290"))


def song_ids(songs: int, seed: int) -> pa.Array:
    return _ids("SO", songs, seed + 1, ("12A8", "12A6", "12AB", "12AF"))


def artist_ids(artists: int, seed: int) -> pa.Array:
    return _ids("AR", artists, seed + 2, ("1187", "1187", "11C8", "122B"))


def _ids(prefix: str, n: int, seed: int, middles: tuple[str, ...]) -> pa.Array:
    if n > LETTERS:
        raise ValueError(f"{n} ids; there are {LETTERS}")
    rng = np.random.default_rng(seed)
    # A step that shares no factor with 26 visits each of the five letters' places once.
    place = (rng.integers(LETTERS) + np.arange(n, dtype=np.int64) * 7_654_321) % LETTERS
    drawn = rng.integers(1 << 30, size=n)
    out = np.empty((n, 18), np.uint8)
    out[:, :2] = np.frombuffer(prefix.encode(), np.uint8)
    for at in range(5):
        out[:, 6 - at] = ord("A") + place // 26 ** at % 26
    out[:, 7:11] = np.frombuffer("".join(middles).encode(), np.uint8).reshape(4, 4)[drawn >> 28]
    digits = np.frombuffer(b"0123456789ABCDEF", np.uint8)
    for at in range(7):
        out[:, 17 - at] = digits[drawn >> 4 * at & 15]
    ids = pa.Array.from_buffers(pa.binary(18), n, [None, pa.py_buffer(out)])
    return ids.cast(pa.binary()).cast(pa.string())


def write_track_metadata(path: Path, songs: int, seed: int) -> None:
    """`track_metadata.db`, with seven artists to a hundred songs, some of them with many songs."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -400000")
        db.execute(SONGS)
        db.execute("BEGIN")
        for batch in song_batches(songs, seed):
            db.executemany(f"INSERT INTO songs VALUES ({', '.join('?' * batch.num_columns)})",
                           zip(*(column.to_pylist() for column in batch.columns), strict=True))
        db.execute(INDEX)
        db.execute("COMMIT")


def song_batches(songs: int, seed: int) -> Iterator[pa.Table]:
    """The rows of `songs`, in its columns' order."""
    ids, song, rng = track_ids(songs, seed), song_ids(songs, seed), np.random.default_rng(seed)
    artists = max(int(songs * ARTISTS_PER_SONG), 1)
    artist_id = artist_ids(artists, seed)
    artist_name, mbid = _phrases(rng, artists, 3), _mbids(rng, artists)
    familiarity, hotness = rng.random((2, artists))
    for start, end in pairwise([*range(0, songs, BATCH), songs]):
        n = end - start
        # The k-th artist's share falls with the root of k: the first of 70,000 has some 4,000 of a million.
        by = pa.array((artists * rng.random(n) ** 2).astype(np.int64))
        year = rng.integers(1922, 2012, n) * (rng.random(n) < 0.515)
        yield pa.table({
            "track_id": ids[start:end], "title": _phrases(rng, n, 6), "song_id": song[start:end],
            "release": _phrases(rng, n, 4), "artist_id": artist_id.take(by), "artist_mbid": mbid.take(by),
            "artist_name": artist_name.take(by), "duration": np.round(rng.gamma(5, 50, n) + 0.3, 5),
            "artist_familiarity": pa.array(familiarity).take(by),
            "artist_hotttnesss": pa.array(hotness).take(by), "year": year,
            "track_7digitalid": rng.integers(1, 9_000_000, n), "shs_perf": np.full(n, -1),
            "shs_work": np.zeros(n, np.int64)})


def write_unique_tracks(path: Path, songs: int, seed: int) -> None:
    """`unique_tracks.txt` of the songs of `write_track_metadata`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for batch in song_batches(songs, seed):
            columns = [batch[name] for name in ("track_id", "song_id", "artist_name", "title")]
            lines = pc.binary_join_element_wise(*columns, "<SEP>")     # pyright: ignore[reportAttributeAccessIssue]
            file.write("\n".join(lines.to_pylist()) + "\n")


def _phrases(rng: np.random.Generator, n: int, most: int) -> pa.Array:
    """One to `most` words each, one in fifty of them odd."""
    syllables, count = np.array(SYLLABLES), 2000
    plain = [first.title() + rest for first, rest in zip(*rng.choice(syllables, (2, count)), strict=True)]
    words = pa.array([*plain, *ODD, None])
    columns = []
    for at in range(most):
        word = rng.integers(count, size=n)
        odd = rng.random(n) < 0.02
        word[odd] = count + rng.integers(len(ODD), size=int(odd.sum()))
        if at:
            word[rng.random(n) < at / most] = len(words) - 1
        columns.append(words.take(pa.array(word)))
    return pc.binary_join_element_wise(                                # pyright: ignore[reportAttributeAccessIssue]
        *columns, " ", null_handling="skip")


def _mbids(rng: np.random.Generator, n: int) -> pa.Array:
    digits = [part.tobytes().hex() for part in rng.integers(256, size=(n, 16), dtype=np.uint8)]
    return pa.array([f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in digits])
