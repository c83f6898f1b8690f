"""Last.fm's data for the Million Song Dataset: one JSON file per track, with its tags and similar tracks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from simsong.progress import track
from simsong.records import Rejected, Rows
from simsong.sources.base import TRACK_ID, Batches, File, Tree, number, stem_id, text

TAG_SCALE = 100.0           # Last.fm's tag weights are "0".."100"


class Malformed(Exception):
    """A file is not one of Last.fm's; `str` says what is wrong with it."""


class LastFm:
    name: ClassVar[str] = "lastfm"
    rank: ClassVar[int] = 0
    annotates: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self.tree = Tree(Path(path), frozenset({".json"}), "Last.fm's JSON files")

    def fingerprint(self) -> str:
        return self.tree.fingerprint()

    def read(self) -> Iterator[Rows | Rejected]:
        batches, seen = Batches(self.name), set[str]()
        for file in track(self.tree.files(), "reading Last.fm", self.tree.count(), "files"):
            try:
                record = parse(_content(file))
            except Malformed as error:
                yield Rejected(stem_id(file.relative), "malformed", f"{file.shown}: {error}")
                continue
            track_id: str = record["track_id"]
            if track_id in seen:
                yield Rejected(track_id, "malformed", f"{file.shown}: duplicate id of an earlier file")
                continue
            seen.add(track_id)
            artist, title = text(record.get("artist")), text(record.get("title"))
            batches.track(track_id=track_id, artist=artist, title=title)
            scores, tags = similars(record), tag_weights(record)
            batches.extend("similars", track_id=[track_id] * len(scores), similar_id=[*scores],
                           score=[*scores.values()])
            batches.extend("tags", track_id=[track_id] * len(tags), name=[*tags], weight=[*tags.values()])
            yield from batches.full()
        yield from batches.rest()


def _content(file: File) -> bytes:
    try:
        if file.problem:
            raise Malformed(file.problem)
        return Path(file.path).read_bytes()
    except OSError as error:
        raise Malformed(error.strerror or str(error)) from None


def parse(content: bytes) -> dict[str, Any]:
    """A record with a usable track_id. Raises: Malformed."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not readable as JSON ({error})") from None
    if not isinstance(record, dict):
        raise Malformed(f"holds a {type(record).__name__}, not a record of a track")
    track_id = record.get("track_id")
    if not isinstance(track_id, str) or not TRACK_ID.fullmatch(track_id):
        raise Malformed(f"has no usable track_id ({ascii(track_id)[:60]})")
    return record


def similars(record: dict[str, Any]) -> dict[str, float]:
    """Similar tracks with their scores, 0..1; itself, doubled ones and impossible scores are left out."""
    out: dict[str, float] = {}
    for target, value in _pairs(record.get("similars")):
        score = number(value)
        if (score is not None and score <= 1 and isinstance(target, str) and target != record["track_id"]
                and TRACK_ID.fullmatch(target)):
            out.setdefault(target, score)
    return out


def tag_weights(record: dict[str, Any]) -> dict[str, float]:
    """Tags with their weights, 0..1; empty names, doubled ones and impossible weights are left out."""
    out: dict[str, float] = {}
    for name, value in _pairs(record.get("tags")):
        weight = number(value)
        if weight is not None and weight <= TAG_SCALE and isinstance(name, str) and (clean := text(name)):
            out.setdefault(clean, weight / TAG_SCALE)
    return out


def _pairs(value: object) -> Iterator[tuple[Any, Any]]:
    for item in value if isinstance(value, list) else ():
        if isinstance(item, list) and len(item) == 2:
            yield item[0], item[1]
