"""Stage fetch_lyrics: tracks → lyrics, from beside a local audio file, else from providers in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simsong.config import LyricsSettings as Settings
from simsong.config import NetworkSettings
from simsong.config_loader import secret
from simsong.errors import REASONS, ConfigError, FetchError, LyricsJunk, LyricsNotFound, SongError
from simsong.fetching import Postponed, fetch_all
from simsong.files.places import local_path
from simsong.lyrics.clean import Lyrics
from simsong.lyrics.genius import GeniusLyrics
from simsong.lyrics.local import local_lyrics
from simsong.lyrics.lrclib import Lrclib
from simsong.lyrics.provider import LyricsProvider
from simsong.parallel import once
from simsong.parts.compute import Done
from simsong.parts.observe import Ask, observe_parts, outcome_of, wanted
from simsong.parts.policy import Row
from simsong.parts.stages import GENIUS_TOKEN, RunContext, lyrics_provider
from simsong.progress import track
from simsong.records import Outcome, Wanted
from storage.store import Store
from storage.tables import TABLES
from tasks.base import stage_task

Failure = SongError | Postponed


@stage_task("fetch_lyrics")
def fetch_lyrics(done: Done, run: RunContext) -> Done:
    """Find the words of a shard's songs."""
    return observe_parts("fetch_lyrics", done.shards, run, lambda store, shard: _ask(store, shard, run),
                         _restored)


def _ask(store: Store, shard: int, run: RunContext) -> Ask:
    def outcomes(todo: list[str], only_beside: set[str]) -> Iterator[Outcome]:
        names = [name for name in lyrics_provider(run.config).split(",") if name != "none"]
        providers = [_provider(name, run.config.lyrics, run.config.network, secret(GENIUS_TOKEN),
                               run.generation) for name in names]
        songs = wanted(store, shard, todo)
        failures: dict[str, Failure] = {}
        left: list[Wanted] = []
        for song in track(songs, f"lyrics beside the music, shard {shard}"):
            result = _beside(song)
            if isinstance(result, Lyrics):
                yield _lyrics_outcome(song, result)
            elif song.track_id in only_beside:
                yield outcome_of(song.track_id, "lyrics", result)
            else:
                failures[song.track_id] = result
                left.append(song)
        for provider in providers:
            batch, left = left, []
            for song, result in fetch_all(batch, provider.lyrics, provider.site,
                                          f"{provider.site.name} shard {shard}"):
                if isinstance(result, Lyrics):
                    yield _lyrics_outcome(song, result)
                    continue
                failures[song.track_id] = _more_telling(failures[song.track_id], result)
                left.append(song)
        for song in left:
            yield outcome_of(song.track_id, "lyrics", failures[song.track_id])

    return outcomes


def _restored(store: Store, shard: int, lost: Mapping[str, Row]) -> dict[str, Row]:
    """Rows whose part was damaged, but for their words; what else is lost of them stays null."""
    return {track_id: dict.fromkeys(TABLES["lyrics"].schema.names) | left for track_id, left in lost.items()
            if {"track_id", "kind", "text"} <= left.keys()}


def _beside(song: Wanted) -> Lyrics | SongError:
    try:
        path = local_path(song.url)
        lyrics = local_lyrics(Path(path)) if path else None
    except LyricsJunk as junk:
        return junk
    return lyrics or FetchError(song.title, f"none beside the file, and nobody to ask: no {GENIUS_TOKEN}, "
                                           "and no lyrics.provider that needs none (lrclib)", "no_provider")


def _lyrics_outcome(song: Wanted, lyrics: Lyrics) -> Outcome:
    row: dict[str, Any] = {"kind": lyrics.kind, "text": lyrics.text, "url": lyrics.url,
                           "match_score": lyrics.match_score, "language": lyrics.language,
                           "fetched_at": datetime.now(UTC)}
    return outcome_of(song.track_id, "lyrics", row)


def _more_telling(before: Failure, now: Failure) -> Failure:
    """What becomes of a song that neither has: where another time may mend one of both, that one."""
    return max(now, before, key=_hope)


def _hope(failure: Failure) -> int:
    if isinstance(failure, Postponed) or REASONS[failure.reason] == "transient":
        return 3
    return {"no_provider": 0, LyricsNotFound.reason: 1}.get(failure.reason, 2)


@once(maxsize=4)
def _provider(name: str, settings: Settings, network: NetworkSettings, token: str | None,
              generation: int) -> LyricsProvider:
    """One for a run, shared by this process's tasks."""
    if name == "lrclib":
        return Lrclib(settings.lrclib_root, network, settings.threshold)
    if token is None:
        raise ConfigError(f"lyrics.provider is genius, but {GENIUS_TOKEN} is not set in the environment")
    return GeniusLyrics(token, settings.genius_root, network, settings.threshold)
