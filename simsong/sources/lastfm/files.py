"""Last.fm's JSON: one file per track, with its tags and similar tracks, in a folder or an archive."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from simsong.progress import track
from simsong.records import Rejected, Rows
from simsong.sources.archives import members
from simsong.sources.base import TRACK_ID, RowBatches, Tree, digest, file_fingerprint, stem_id, text
from simsong.sources.lastfm.pairs import Values, apart, pairs_of_values
from simsong.sources.lastfm.tags import weights_by_tag

SUFFIXES = frozenset({".json"})
BATCH_PAIRS = 100_000
FILE_BYTES = 4 << 20        # real files have 0.1 MB at most; JSON takes up to 20 times its size in memory


class LastfmFileMalformed(Exception):
    """A file is not one of Last.fm's; `str` says what is wrong with it."""


class JsonFiles:
    """A folder or archive of JSON files.

    It keeps no list of the ids it has seen: one that two files have comes twice, in `tracks` too.
    """

    name: ClassVar[str] = "lastfm"
    rank: ClassVar[int] = 0
    annotates: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.tree = Tree(self.path, SUFFIXES, "Last.fm's JSON files") if self.path.is_dir() else None
        self.left_out: Counter[str] = Counter()     # in the last `read`: "pairs" and "tags" not usable

    def fingerprint(self) -> str:
        if self.tree:
            return self.tree.fingerprint()
        return digest([self.path.name, str(file_fingerprint(self.path))])

    def read(self) -> Iterator[Rows | Rejected]:
        self.left_out.clear()
        batches, owners, lists, pairs = RowBatches(self.name), list[str](), list[Values](), 0
        count = self.tree.count() if self.tree else None
        for name, content in track(self._contents(), "reading Last.fm", count, "files"):
            try:
                record = parse(content)
            except LastfmFileMalformed as error:
                yield Rejected(stem_id(name), "malformed", f"{self._shown(name)}: {error}")
                continue
            track_id: str = record["track_id"]
            artist, title = text(record.get("artist")), text(record.get("title"))
            batches.track(track_id=track_id, artist=artist, title=title)
            tags, junk = weights_by_tag(_list(record.get("tags")))
            self.left_out["tags"] += junk
            batches.extend("tags", track_id=[track_id] * len(tags), name=[*tags], weight=[*tags.values()])
            yield from batches.full()
            if similar := _list(record.get("similars")):
                owners.append(track_id)
                lists.append(apart(similar))
                pairs += len(similar)
            if pairs >= BATCH_PAIRS:
                yield from self._similars(owners, lists)
                owners, lists, pairs = [], [], 0
        yield from self._similars(owners, lists)
        yield from batches.rest()

    def _similars(self, owners: list[str], lists: list[Values]) -> Iterator[Rows]:
        for pairs in pairs_of_values(owners, lists):
            self.left_out["pairs"] += pairs.left_out
            if len(pairs.others):
                yield pairs.rows()

    def _contents(self) -> Iterator[tuple[str, bytes | LastfmFileMalformed]]:
        """Names, and what is in the file or what is wrong with it."""
        if not self.tree:
            for member in members(self.path, SUFFIXES):
                yield member.name, LastfmFileMalformed(member.problem) if member.problem else member.content
            return
        for file in self.tree.files():
            yield file.relative, LastfmFileMalformed(file.problem) if file.problem else _start_of(file.path)

    def _shown(self, name: str) -> str:
        return "/".join(filter(None, ("" if self.tree else self.path.name, text(name) or "?")))


def _start_of(path: str) -> bytes | LastfmFileMalformed:
    """All of a file, or of a very large one too much."""
    try:
        with Path(path).open("rb") as file:
            return file.read(FILE_BYTES + 1)
    except OSError as error:
        return LastfmFileMalformed(error.strerror or str(error))


def parse(content: bytes | LastfmFileMalformed) -> dict[str, Any]:
    """A record with a usable track_id. Raises: Malformed."""
    if isinstance(content, LastfmFileMalformed):
        raise content
    if len(content) > FILE_BYTES:
        raise LastfmFileMalformed(f"has more than {FILE_BYTES >> 20} MB; Last.fm's files have 0.1")
    try:
        record = json.loads(content.decode("utf-8-sig"))    # `loads` would look for other encodings first
    except (ValueError, RecursionError) as error:
        raise LastfmFileMalformed(f"not readable as JSON ({text(str(error))})") from None
    if not isinstance(record, dict):
        raise LastfmFileMalformed(f"holds a {type(record).__name__}, not a record of a track")
    track_id = record.get("track_id")
    if not isinstance(track_id, str) or not TRACK_ID.fullmatch(track_id):
        raise LastfmFileMalformed(f"has no usable track_id ({ascii(track_id)[:60]})")
    return record


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
