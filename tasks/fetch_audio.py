"""Stage fetch_audio: tracks → audio files in the store, or pointers to local ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simsong.audio.choose import CandidateVerdict
from simsong.audio.decode import decode_with_info, probe
from simsong.audio.fetch import AudioFetcher, FetchedAudio
from simsong.config import FetchSettings, NetworkSettings
from simsong.errors import REASONS, AudioTooShort, FetchError, PartDamaged, SongError
from simsong.fetching import fetch_all
from simsong.files.sound import is_sound
from simsong.parallel import once
from simsong.parts.compute import Done
from simsong.parts.observe import Ask, observe_parts, outcome_of, wanted
from simsong.parts.policy import Row, local_url
from simsong.parts.song_audio import LONGEST_S, keep_sound
from simsong.parts.stages import RunContext
from simsong.records import Outcome, Wanted
from storage.identity import digest
from storage.store import Store
from storage.tables import TABLES
from tasks.base import stage_task

LEAST_OF_PAGE = 0.8         # of the length on the page; less is a file cut short

@stage_task("fetch_audio")
def fetch_audio(done: Done, run: RunContext) -> Done:
    """Find and fetch the recordings of a shard's songs."""
    return observe_parts("fetch_audio", done.shards, run, lambda store, shard: _ask(store, shard, run),
                         _restored)


def _ask(store: Store, shard: int, run: RunContext) -> Ask:
    fetch = run.config.fetch

    def outcomes(todo: list[str], _: set[str]) -> Iterator[Outcome]:
        # Local files first: none of them waits behind a site that rests.
        songs = sorted(wanted(store, shard, todo), key=lambda song: not is_local(song))
        for song in songs:
            if _is_snippet(song, fetch.min_duration_s):
                yield Outcome(song.track_id, "failed", AudioTooShort.reason,
                              f"{song.duration_s:.1f} s by the catalogue; it is not looked for")
        songs = [song for song in songs if not _is_snippet(song, fetch.min_duration_s)]
        fetcher = _fetcher(fetch, run.config.network, store.workspace("downloads"), run.generation)
        sounds = _sounds(store, shard)
        candidates: dict[str, list[dict[str, Any]]] = {}        # track_id → rows, also of songs that fail

        def fetch_one(song: Wanted) -> dict[str, Any]:
            audio = fetcher.fetch(song, lambda audio: candidates.update({song.track_id: rows_of(audio)}))
            try:
                info, samples = decode_with_info(audio.path, fetch.max_duration_s)
                _need_whole(song, audio, info.duration_s)
            except SongError as error:
                if REASONS[error.reason] == "permanent" or error.reason == "truncated":
                    fetcher.done(song)
                raise
            file = audio.url
            if not is_local(song):
                file = audio_key(song.track_id, audio.path.suffix)
                store.put(file, audio.path)
                fetcher.done(song)
            sha256 = sounds.get(song.track_id, info.sha256)
            keep_sound(run, shard, file, sha256, samples)
            return {"url": audio.url, "title": audio.title, "match_score": audio.match_score, "file": file,
                    "codec": info.codec, "duration_s": info.duration_s, "bytes": info.bytes,
                    "sha256": sha256, "fetched_at": datetime.now(UTC)}

        for song, result in fetch_all(songs, fetch_one, fetcher.site, f"fetch_audio shard {shard}"):
            outcome = outcome_of(song.track_id, "audio", result)
            searched = candidates.pop(song.track_id, [])
            yield replace(outcome, rows={**outcome.rows, "candidates": searched})

    return outcomes


def _sounds(store: Store, shard: int) -> dict[str, str]:
    """Of local files, the digest of their sound without tags, which may be written anew at any time."""
    rows = store.read("tracks", shard, columns=["track_id", "fingerprint"]).to_pylist()
    return {row["track_id"]: row["fingerprint"] for row in rows if is_sound(row["fingerprint"])}


def _restored(store: Store, shard: int, lost: Mapping[str, Row]) -> dict[str, Row]:
    """Rows whose part was damaged, of songs whose download lies in the store with the bytes that were
    written; where their digest is lost too, it need only decode. What else is lost of them stays null."""
    try:
        candidates = store.read("candidates", shard).to_pylist()
    except PartDamaged:
        candidates = []
    candidate_of = {row["track_id"]: row for row in candidates if row["chosen"]}
    out: dict[str, Row] = {}
    for track_id, left in lost.items():
        file = left.get("file") or next((key for key in store.backend.list(_folder(track_id))
                                         if Path(key).stem == track_id), None)
        if file is None or local_url(file):
            continue
        search = candidate_of.get(track_id, {})
        row = {**dict.fromkeys(TABLES["audio"].schema.names), "url": search.get("url"),
               "title": search.get("title"), "match_score": search.get("score"), **left}
        try:
            with store.local(file) as path:
                info = probe(path, LONGEST_S)
        except FileNotFoundError:               # it was pruned
            if {"file", "sha256"} <= left.keys():
                out[track_id] = row
            continue
        except SongError:
            continue
        if left.get("sha256") in (None, info.sha256):
            out[track_id] = row | {"track_id": track_id, "file": file, "codec": info.codec,
                                   "duration_s": info.duration_s, "bytes": info.bytes, "sha256": info.sha256}
    return out


def _is_snippet(song: Wanted, least_s: float) -> bool:
    return song.url is None and song.duration_s is not None and song.duration_s < least_s


def _need_whole(song: Wanted, audio: FetchedAudio, duration_s: float) -> None:
    """A server may promise fewer bytes than the file has, and the page knows better. Raises: FetchError."""
    if audio.duration_s and duration_s < LEAST_OF_PAGE * audio.duration_s:
        detail = f"{duration_s:.0f} s of sound, but {audio.duration_s:.0f} s by its page"
        raise FetchError(song.title, detail, "truncated")


def rows_of(verdicts: Sequence[CandidateVerdict]) -> list[dict[str, Any]]:
    """Of `candidates`: what a search gave for a song, but for its id."""
    return [{"rank": verdict.candidate.rank, "url": _plain(verdict.candidate.url),
             "title": verdict.candidate.title, "channel": verdict.candidate.channel,
             "duration_s": verdict.candidate.duration_s, "score": verdict.score, "chosen": verdict.chosen,
             "why": verdict.why} for verdict in verdicts]


def _plain(url: str) -> str:
    """Without what yt-dlp writes behind an address for itself."""
    return url.partition("#__youtubedl_smuggle")[0]


def is_local(song: Wanted) -> bool:
    return local_url(song.url)


def audio_key(track_id: str, suffix: str) -> str:
    return f"{_folder(track_id)}/{track_id}{suffix}"


def _folder(track_id: str) -> str:
    return f"audio/{digest(track_id)[:2]}"


@once(maxsize=4)
def _fetcher(fetch: FetchSettings, network: NetworkSettings, folder: Path, generation: int) -> AudioFetcher:
    """One for a run, shared by this process's tasks: bounds on requests hold for all of them together, and no
    shard begins anew against a dead site."""
    return AudioFetcher(fetch, network, folder)
