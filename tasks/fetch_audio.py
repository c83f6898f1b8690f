"""Stage fetch_audio: tracks → audio files in the store, or pointers to local ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from simsong.audio.choose import Verdict
from simsong.audio.decode import probe
from simsong.audio.fetch import AudioFetcher
from simsong.errors import SongError
from simsong.fetching import Breaker, Postponed, fetch_all
from simsong.records import Outcome, Wanted
from storage.identity import digest
from storage.store import Store
from tasks.base import shard_task
from tasks.part import Done, Work, compute_parts
from tasks.stages import Run


@shard_task("fetch_audio")
def fetch_audio(done: Done, run: Run) -> Done:
    """Find and fetch the recordings of a shard's songs."""
    return compute_parts("fetch_audio", done.shards, run, lambda store, shard: _work(store, shard, run))


def _work(store: Store, shard: int, run: Run) -> Work:
    fetch, network = run.config.fetch, run.config.network
    scratch = store.scratch()

    def fetched(todo: list[str]) -> Iterator[Outcome]:
        songs = wanted(store, shard, todo)
        remote = any(song.url is None or not song.url.startswith("file:") for song in songs)
        scratch.mkdir(parents=True, exist_ok=True)
        fetcher = AudioFetcher(fetch, network, scratch)
        candidates: dict[str, list[dict[str, Any]]] = {}        # track_id → rows, also of songs that fail

        def fetch_one(song: Wanted) -> dict[str, Any]:
            found = fetcher.fetch(song, lambda seen: candidates.update({song.track_id: rows_of(seen)}))
            try:
                info = probe(found.path, fetch.max_duration_s)
            except SongError:
                if remote and found.path.is_relative_to(scratch):
                    found.path.unlink(missing_ok=True)
                raise
            file = found.url
            if found.path.is_relative_to(scratch):
                file = audio_key(song.track_id, found.path.suffix)
                store.put(file, found.path)
            return {"url": found.url, "title": found.title, "match_score": found.match_score, "file": file,
                    "codec": info.codec, "duration_s": info.duration_s, "bytes": info.bytes,
                    "sha256": info.sha256, "fetched_at": datetime.now(UTC)}

        try:
            for song, result in fetch_all(songs, fetch_one, network, _site(fetch.search),
                                          f"fetch_audio shard {shard}",
                                          breaker=_breaker(fetch.search, network.stop_after, run.generation),
                                          asks=lambda song: not (song.url or "").startswith("file:")):
                outcome = outcome_of(song.track_id, "audio", result)
                searched = candidates.pop(song.track_id, [])
                yield replace(outcome, rows={**outcome.rows, "candidates": searched})
        finally:
            for left in scratch.iterdir():
                left.unlink()
            scratch.rmdir()

    return fetched


def wanted(store: Store, shard: int, todo: list[str]) -> list[Wanted]:
    """What is asked for, in the order of `todo`."""
    rows = store.read("tracks", shard, columns=["track_id", "artist", "title", "duration_s", "url"])
    by_id = {row["track_id"]: Wanted(**row) for row in rows.to_pylist()}
    return [by_id[track_id] for track_id in todo]


def outcome_of(track_id: str, table: str, result: dict[str, Any] | SongError | Postponed) -> Outcome:
    """What a fetching stage writes for a song."""
    if isinstance(result, Postponed):
        return Outcome(track_id, "pending", result.reason, result.detail)
    if isinstance(result, SongError):
        return Outcome(track_id, "failed", result.reason, result.detail)
    return Outcome(track_id, "ok", rows={table: [result]})


def rows_of(found: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Of `candidates`: what a search gave for a song, but for its id."""
    return [{"rank": verdict.candidate.rank, "url": verdict.candidate.url, "title": verdict.candidate.title,
             "channel": verdict.candidate.channel, "duration_s": verdict.candidate.duration_s,
             "score": verdict.score, "chosen": verdict.chosen, "why": verdict.why} for verdict in found]


def audio_key(track_id: str, suffix: str) -> str:
    return f"audio/{digest(track_id)[:2]}/{track_id}{suffix}"


def local_path(url: str) -> Path:
    """The path of a file:// URL."""
    return Path(unquote(urlsplit(url).path))


@lru_cache(maxsize=8)
def _breaker(site: str, stop_after: int, generation: int) -> Breaker:
    """One for a site and a run, shared by this process's tasks: no shard begins anew against a dead site."""
    return Breaker(_site(site), stop_after)


def _site(search: str) -> str:
    return urlsplit(search).hostname or "YouTube"
