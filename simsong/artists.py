"""Who is one artist: for the splits, for negatives, for the artist filter, for the truth "same artist".

Two artists taken for one cost a split next to nothing; one artist taken for two is a leak. So a name ends
where another may begin: "Simon & Garfunkel" is the artist "simon", as is anyone else whose name begins so.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from simsong.matching import QUOTES, romanised, same_key

_WORDS = ("feat|ft|featuring|with|and|vs|versus|x|n|y|et|und|og|och|con|avec|mit|meets|presents|pres|"
          "introducing|starring|aka")
_JOIN = re.compile(
    rf"(?:(?<=\s)|(?<=[(\[{{]))(?:(?:{_WORDS})[.:]?(?=\s)|(?:feat|ft|vs|pres)\.|[fw]/)"
    r"|[;|×、]|(?<!\d),|,(?!\d)"
    r"|\s[&+]|[&+]\s|\s[/·•]\s"
    r"|(?<=\w\w)[&+](?=\w\w)|(?<=\w\w\w)/(?=\w\w\w)|(?<=\w)-n-(?=\w)",     # not R&B, AC/DC
    re.IGNORECASE)
# Joins that are parts of names where another join follows: "Lil Nas X & Cardi B", "Little Feat with Y".
_OF_NAMES = frozenset({"x", "y", "n", "feat"})
_JOINED_AGAIN = re.compile(
    rf"\s*(?:[;|×、,&+/·•]|(?:{'|'.join(word for word in _WORDS.split('|') if word not in 'yn')})[.:]?\s)",
    re.IGNORECASE)
_NOBODY = frozenset({
    "", "unknown", "unknownartist", "artistunknown", "noartist", "anonymous", "various", "variousartists",
    "variousartist", "va", "na", "none", "null", "nan", "verschiedene", "verschiedeneinterpreten",
    "unbekannt", "unbekannterkunstler", "unbekannterinterpret", "artistesvaries", "artisteinconnu",
    "variosartistas", "artistadesconocido", "varios", "artistivari", "diverse", "diverseartister"})


def main_artist(name: str) -> str | None:
    """What the names of one main artist share: letters and digits without case, accents, spaces, guests,
    "the". None where a name is nobody's: empty, unknown, various."""
    text = QUOTES.sub("", unicodedata.normalize("NFKC", name))
    head = text
    for join in _JOIN.finditer(text):
        before, after = text[:join.start()], text[join.end():]
        of_name = join[0].casefold() in _OF_NAMES and _JOINED_AGAIN.match(after)
        if _says(before) and _says(after) and not of_name:
            head = before
            break
    key = romanised(same_key(head)).replace(" ", "")
    return None if key in _NOBODY or set(key) <= set("?-–—_.") else key


def artist_groups(names: Sequence[str | None], artist_ids: Sequence[str | None]) -> np.ndarray:
    """Songs (n,) → (n,) int64, the same for two songs by one artist: -1 - row where nobody knows whose one
    is, else 0, 1, … in the order in which artists come first.

    One artist are songs that share the main artist of their names or, whatever the names, an id, and what a
    chain of such songs joins. The ids of nobody's names (MSD gives one to "Various Artists") count nothing;
    an id without a name counts.
    """
    from scipy.sparse import coo_array  # slow to import, and most questions do not group artists
    from scipy.sparse.csgraph import connected_components

    n = len(names)
    of_name = {name: main_artist(name) for name in {name for name in names if name}}
    codes: dict[tuple[str, str | None], int] = {}
    keys, ids = np.full(n, -1), np.full(n, -1)
    for row, (name, artist_id) in enumerate(zip(names, artist_ids, strict=True)):
        key = of_name[name] if name else None
        if key:
            keys[row] = codes.setdefault(("name", key), len(codes))
        if artist_id and (key or not name):
            ids[row] = codes.setdefault(("id", artist_id), len(codes))
    size = n + len(codes)
    rows = [np.flatnonzero(of >= 0) for of in (keys, ids)]
    a, b = np.concatenate(rows), n + np.concatenate([keys[rows[0]], ids[rows[1]]])
    _, group = connected_components(coo_array((np.ones(len(a), dtype=bool), (a, b)), shape=(size, size)),
                                    directed=False)
    named = (keys >= 0) | (ids >= 0)
    out = -1 - np.arange(n)
    _, first, of = np.unique(group[:n][named], return_index=True, return_inverse=True)
    out[named] = np.argsort(np.argsort(first))[of]
    return out


def artist_labels(names: Sequence[str | None], artist_ids: Sequence[str | None],
                  track_ids: Sequence[str]) -> list[str]:
    """Of each song what names its artist: the id, or the name, of the artist's first song as given here. A
    song that is nobody's stands for itself.

    Given in the order in which they were catalogued, what a catalogue gains changes no label, unless a new
    song joins two artists: then the later one takes the earlier one's.
    """
    groups = artist_groups(names, artist_ids)
    labels: dict[int, str] = {}
    for row, group in enumerate(groups.tolist()):
        if group not in labels:
            labels[group] = track_ids[row] if group < 0 else artist_ids[row] or names[row] or track_ids[row]
    return [labels[group] for group in groups.tolist()]


def _says(text: str) -> bool:
    return any(c.isalnum() for c in text)
