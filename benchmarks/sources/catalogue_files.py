"""Files of the true catalogues' form and size, made up: the real ones, of many gigabytes, cannot be had here.

The same seed gives the same rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
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
    numbers = rng.integers(1 << 30, size=n)
    out = np.empty((n, 18), np.uint8)
    out[:, :2] = np.frombuffer(prefix.encode(), np.uint8)
    for at in range(5):
        out[:, 6 - at] = ord("A") + place // 26 ** at % 26
    out[:, 7:11] = np.frombuffer("".join(middles).encode(), np.uint8).reshape(4, 4)[numbers >> 28]
    digits = np.frombuffer(b"0123456789ABCDEF", np.uint8)
    for at in range(7):
        out[:, 17 - at] = digits[numbers >> 4 * at & 15]
    ids = pa.Array.from_buffers(pa.binary(18), n, [None, pa.py_buffer(out)])
    return ids.cast(pa.binary()).cast(pa.string())


def write_track_metadata(path: Path, songs: int, seed: int) -> None:
    """`track_metadata.db`, with seven artists to a hundred songs, some of them with many songs."""
    with _written(path) as db:
        db.execute(SONGS)
        for batch in song_batches(songs, seed):
            db.executemany(f"INSERT INTO songs VALUES ({', '.join('?' * batch.num_columns)})",
                           zip(*(column.to_pylist() for column in batch.columns), strict=True))
        db.execute(INDEX)


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


# --- Last.fm ---

LISTED, PAIRS = 584_897, 56_506_688         # rows and pairs of the real lastfm_similars.db
TAGGED, TAGGINGS, NAMES = 505_216, 8_598_630, 522_366           # and rows of the real lastfm_tags.db
UNKNOWN = 0.05                              # similar tracks that have no list of their own
ROWS_AT_A_TIME = 2_000
POPULAR: tuple[str, ...] = (
    "rock", "pop", "alternative", "indie", "electronic", "female vocalists", "favorites", "Love",
    "dance", "00s", "alternative rock", "jazz", "beautiful", "singer-songwriter", "metal",
    "chillout", "Awesome", "male vocalists", "classic rock", "soul", "indie rock", "80s", "folk",
    "seen live", "90s", "punk", "Hip-Hop", "hip hop", "hiphop", "rnb", "R&B", "blues", "hard rock",
    "cool", "ambient", "acoustic", "Favourites", "albums I own", "Favorite Songs", "love it", "<3",
    "5 Stars", "under 2000 listeners", "post-rock", "post rock", "drum and bass", "Drum n Bass",
    "trip-hop", "1980s", "spotify", "check out")


def write_similars(path: Path, tracks: pa.Array, pairs: int = PAIRS, seed: int = 0) -> None:
    """`lastfm_similars.db`: a list for each track, most of it other tracks, the most similar first.

    `similars_dest` is written for the first lists alone, since nobody needs both.
    """
    rng, n = np.random.default_rng(seed), len(tracks)
    unknown = _ids("TR", max(int(n * UNKNOWN), 2), seed + 3, ("1280", "12F1", "1280", "12F1"))
    ids = pa.concat_arrays([tracks, unknown])
    names = np.array(ids.to_pylist(), object)
    # Six digits, as in the real file, half of them below 0.01, and the best often exactly 1.
    pool = np.array([f"{score:g}" for score in np.sort(0.0001 ** rng.random(100_000) ** 0.8)[::-1]], object)
    pool[:len(pool) // 100] = "1"
    share = np.cumsum(0.05 + rng.gamma(3, 1 / 3, n).clip(max=2.6))
    counts = np.diff(np.round(share / share[-1] * pairs).astype(np.int64), prepend=0).clip(1, len(ids) - 1)
    inverse: dict[str, list[str]] = {}

    def rows() -> Iterator[tuple[str, str]]:
        for start, end in pairwise([*range(0, n, ROWS_AT_A_TIME), n]):
            owner = np.repeat(np.arange(start, end), counts[start:end])
            first = np.cumsum(counts[start:end]) - counts[start:end]
            at = np.arange(len(owner)) - np.repeat(first, counts[start:end])
            # Distinct ones, never the owner itself: steps of at most (ids − 1) / count round a circle.
            step = (len(ids) - 1) // np.repeat(counts[start:end], counts[start:end])
            other = (owner + at * step + rng.integers(step) + 1) % len(ids)
            # Sorted within each owner, since the owner is the number's whole part.
            score = ((np.sort(owner + rng.random(len(owner))) - owner) * len(pool)).astype(np.int64)
            fields = np.stack([names[other], pool[score.clip(0, len(pool) - 1)]], 1).ravel().tolist()
            ends = (first + counts[start:end]) * 2
            for row, (from_, to) in enumerate(zip((first * 2).tolist(), ends.tolist(), strict=True), start):
                if row < ROWS_AT_A_TIME // 10:
                    for other_id, value in zip(fields[from_:to:2], fields[from_ + 1:to:2], strict=True):
                        inverse.setdefault(other_id, []).append(f"{names[row]},{value}")
                yield names[row], ",".join(fields[from_:to])

    with _written(path) as db:
        db.execute("CREATE TABLE similars_src (tid TEXT, target TEXT)")
        db.execute("CREATE TABLE similars_dest (tid TEXT, target TEXT)")
        db.executemany("INSERT INTO similars_src VALUES (?, ?)", rows())
        db.executemany("INSERT INTO similars_dest VALUES (?, ?)",
                       ((other_id, ",".join(fields)) for other_id, fields in inverse.items()))
        db.execute("CREATE INDEX idx_similars_src ON similars_src ('tid')")
        db.execute("CREATE INDEX idx_similars_dest ON similars_dest ('tid')")


def write_tags(path: Path, tracks: pa.Array, tags: int = TAGGINGS, seed: int = 0) -> None:
    """`lastfm_tags.db`: about that many tags on these tracks, by names of which the k-th is given as often as
    1/k, most of them once or twice, and many of them junk."""
    rng, n = np.random.default_rng(seed), len(tracks)
    names = _tag_names(rng, max(round(NAMES * tags / TAGGINGS), len(POPULAR)))
    share = np.cumsum(0.05 + rng.gamma(0.7, 1.5, n).clip(max=6))
    # More than wanted, since a song has no tag twice.
    counts = np.diff(np.round(share / share[-1] * tags * 1.14).astype(np.int64), prepend=0)

    def rows() -> Iterator[tuple[int, int, float]]:
        for start, end in pairwise([*range(0, n, 10 * ROWS_AT_A_TIME), n]):
            song = np.repeat(np.arange(start, end), counts[start:end])
            tag = (len(names) ** rng.random(len(song))).astype(np.int64) - 1
            song, tag = np.divmod(np.unique(song * len(names) + tag), len(names))
            weight = np.floor(101 * rng.random(len(song)) ** 3)
            order = np.lexsort((-weight, song))
            yield from zip((song[order] + 1).tolist(), (tag[order] + 1).tolist(), weight[order].tolist(),
                           strict=True)

    with _written(path) as db:
        db.execute("CREATE TABLE tids (tid TEXT)")
        db.execute("CREATE TABLE tags (tag TEXT)")
        db.execute("CREATE TABLE tid_tag (tid INT, tag INT, val REAL)")
        db.executemany("INSERT INTO tids VALUES (?)", ((track_id,) for track_id in tracks.to_pylist()))
        db.executemany("INSERT INTO tags VALUES (?)", ((name,) for name in names))
        db.executemany("INSERT INTO tid_tag VALUES (?, ?, ?)", rows())
        db.execute("CREATE INDEX idx_tid_tag_tid ON tid_tag ('tid')")
        db.execute("CREATE INDEX idx_tid_tag_tag ON tid_tag ('tag')")


def _tag_names(rng: np.random.Generator, n: int) -> list[str]:
    """Distinct ones: the popular first, then words in several spellings, and what people write for
    themselves."""
    forms = ("{} {}", "{} {}", "{} {}", "{}-{}", "{} {} rock", "{}_{}", "my {} {}", "{} {} i own", "{}{}.com",
             "{} {} at the end of a very long day", "I love {} {}", "#{}{}", "{} &amp; {}", "best of {} {}")
    names: dict[str, None] = dict.fromkeys(POPULAR)
    while len(names) < n:
        words = _phrases(rng, 2 * (n - len(names)), 2).to_pylist()
        numbers = rng.integers(3 * len(forms), size=n).tolist()
        for first, second, number in zip(words[::2], words[1::2], numbers, strict=False):
            form = forms[number % len(forms)]
            name = form.format(first, second)
            names[name if number < len(forms) else name.lower() if number < 2 * len(forms) else
                  name + f" {number}"] = None
    return list(names)[:n]


@contextmanager
def _written(path: Path) -> Iterator[sqlite3.Connection]:
    """A new database, written in one go."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -400000")
        db.execute("BEGIN")
        yield db
        db.execute("COMMIT")
