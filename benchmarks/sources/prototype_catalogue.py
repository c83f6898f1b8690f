"""The research prototype's way to load a catalogue, for comparison: pandas, split strings, dicts of lists.

It is what one writes in a notebook, and it works: for as long as the catalogue fits into memory.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

Labelled = dict[str, list[tuple[str, float]]]


def load_catalogue(folder: Path) -> dict[str, dict[str, Any]]:
    """Songs with their similar songs and tags, from the three databases under the names that they have."""
    similars = load_similars(folder / "lastfm_similars.db")
    tags = load_tags(folder / "lastfm_tags.db")
    return load_songs(folder / "track_metadata.db", similars, tags)


def store_catalogue(songs: dict[str, dict[str, Any]], folder: Path) -> None:
    """As CSV, which is what the prototype's next steps read."""
    pd.DataFrame([{name: value for name, value in song.items() if name not in ("similars", "tags")}
                  for song in songs.values()]).to_csv(folder / "songs.csv", index=False)
    for name in ("similars", "tags"):
        rows = [(track_id, *pair) for track_id, song in songs.items() for pair in song[name]]
        pd.DataFrame(rows, columns=["track_id", "name", "value"]).to_csv(folder / f"{name}.csv", index=False)


def load_similars(path: Path) -> Labelled:
    out: Labelled = {}
    frame = read_sql(path, "SELECT tid, target FROM similars_src")
    for tid, target in zip(frame["tid"], frame["target"], strict=True):
        fields = target.split(",")
        out[tid] = [(fields[at], float(fields[at + 1])) for at in range(0, len(fields), 2)]
    return out


def load_tags(path: Path) -> Labelled:
    out: Labelled = {}
    query = ("SELECT tids.tid AS tid, tags.tag AS tag, tid_tag.val AS val FROM tid_tag, tids, tags "
             "WHERE tids.ROWID = tid_tag.tid AND tags.ROWID = tid_tag.tag")
    frame = read_sql(path, query)
    for tid, tag, value in zip(frame["tid"], frame["tag"], frame["val"], strict=True):
        out.setdefault(tid, []).append((tag, value / 100))
    return out


def load_songs(path: Path, similars: Labelled, tags: Labelled) -> dict[str, dict[str, Any]]:
    """By track id; of a song's similar ones, those that are in the catalogue too."""
    frame = read_sql(path, "SELECT track_id, song_id, artist_id, artist_name, title, release, year, duration "
                           "FROM songs")
    songs: dict[str, dict[str, Any]] = {row["track_id"]: row for row in frame.to_dict("records")}
    for track_id, song in songs.items():
        song["similars"] = [(other, score) for other, score in similars.get(track_id, []) if other in songs]
        song["tags"] = tags.get(track_id, [])
    return songs


def read_sql(path: Path, query: str) -> pd.DataFrame:
    with closing(sqlite3.connect(path)) as db:
        return pd.read_sql(query, db)
