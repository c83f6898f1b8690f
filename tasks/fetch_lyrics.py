"""Stage fetch_lyrics: tracks → lyrics, from beside the audio file where that is local, else from Genius."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from simsong.config import secret
from simsong.errors import ConfigError, FetchError
from simsong.fetching import Breaker, fetch_all
from simsong.lyrics.clean import Lyrics
from simsong.lyrics.genius import GeniusLyrics
from simsong.lyrics.local import local_lyrics
from simsong.records import Outcome, Wanted
from storage.store import Store
from tasks.base import shard_task
from tasks.fetch_audio import local_path, outcome_of, wanted
from tasks.part import Done, Work, compute_parts
from tasks.stages import GENIUS_TOKEN, Run, lyrics_provider


@shard_task("fetch_lyrics")
def fetch_lyrics(done: Done, run: Run) -> Done:
    """Find the words of a shard's songs."""
    return compute_parts("fetch_lyrics", done.shards, run, lambda store, shard: _work(store, shard, run))


def _work(store: Store, shard: int, run: Run) -> Work:
    network = run.config.network

    def fetched(todo: list[str]) -> Iterator[Outcome]:
        provider = lyrics_provider(run.config)
        genius = _genius(run) if provider == "genius" else None

        def beside(song: Wanted) -> Lyrics | None:
            return local_lyrics(local_path(song.url)) if song.url and song.url.startswith("file:") else None

        def fetch_one(song: Wanted) -> dict[str, Any]:
            found = beside(song)
            if found is None:
                if genius is None:
                    raise FetchError(song.title, f"none beside the file, and no {GENIUS_TOKEN} to ask Genius",
                                     "no_provider")
                found = genius.lyrics(song)
            return {"kind": found.kind, "text": found.text, "url": found.url,
                    "match_score": found.match_score, "language": found.language,
                    "fetched_at": datetime.now(UTC)}

        for song, result in fetch_all(wanted(store, shard, todo), fetch_one, network, "Genius",
                                      f"fetch_lyrics shard {shard}", asks=lambda song: genius is not None,
                                      breaker=_breaker(network.stop_after, run.generation)):
            yield outcome_of(song.track_id, "lyrics", result)

    return fetched


def _genius(run: Run) -> GeniusLyrics:
    token = secret(GENIUS_TOKEN)
    if token is None:
        raise ConfigError(f"lyrics.provider is genius, but {GENIUS_TOKEN} is not set in the environment")
    return GeniusLyrics(token, run.config.lyrics.genius_root, run.config.network, run.config.lyrics.threshold)


@lru_cache(maxsize=8)
def _breaker(stop_after: int, generation: int) -> Breaker:
    return Breaker("Genius", stop_after)


