"""The first contact with the real sites: one search, one download, one song's lyrics, each timed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from simsong.audio.choose import Scored, rank_all
from simsong.audio.decode import probe
from simsong.audio.fetch import AudioFetcher
from simsong.care.plan import opened
from simsong.cli.doctor import Check
from simsong.config import Config, NetworkSettings
from simsong.config_loader import secret
from simsong.errors import ConfigError, FetchError, PartDamaged, SimSongError, SongError
from simsong.fetching import Held
from simsong.lyrics.genius import GeniusLyrics
from simsong.lyrics.lrclib import Lrclib
from simsong.lyrics.provider import LyricsProvider
from simsong.parts.stages import GENIUS_TOKEN, lyrics_provider
from simsong.records import Wanted

LONGEST_S = 60.0                # of one check
KNOWN = Wanted("doctor", "Rick Astley", "Never Gonna Give You Up", 213.0)      # which every site has

_MENDS = {
    "blocked": "network.cookies_file of a browser that is logged in; a PO-token plugin; or another address",
    "rate_limited": "wait; then network.requests_per_minute, network.sleep_s",
    "connection": "the network, or network.proxy",
    "timeout": "the network, network.proxy, or a longer network.timeout_s",
    "server_error": "later again; if it stays, pip install --upgrade 'yt-dlp[default,deno]'",
    "unavailable": "pip install --upgrade 'yt-dlp[default,deno]'",
    "age_restricted": "network.cookies_file, or another song: --song \"ARTIST - TITLE\"",
}
_OTHER_SONG = "another song: --song \"ARTIST - TITLE\""


def song_to_ask_for(config: Config, song: str | None) -> Wanted:
    """The song to ask for: the one that is named, else the catalogue's first that is not a local file, else
    one that is known everywhere. Raises: ConfigError for one that is named otherwise."""
    if song is not None:
        artist, _, title = song.partition(" - ")
        if not title.strip():
            raise ConfigError(f'--song {song}: name it as "ARTIST - TITLE"')
        return replace(KNOWN, artist=artist.strip(), title=title.strip(), duration_s=None)
    store = opened(config)
    try:
        rows = store.read("tracks", columns=["track_id", "artist", "title", "duration_s", "url"]) \
            if store else None
    except PartDamaged:
        rows = None
    for batch in rows.to_batches(1000) if rows else ():
        for row in batch.to_pylist():
            if not row["url"]:
                return Wanted(**row)
    return KNOWN


def live_checks(config: Config, wanted: Wanted) -> Iterator[Check]:
    """One for each thing that a refresh asks of a site, as it is done; no site is asked twice for one."""
    network = config.network.model_copy(update={
        "retries": 0, "give_up_s": 0.0, "song_timeout_s": min(config.network.song_timeout_s, LONGEST_S)})
    # The smallest file will do.
    fetch = config.fetch.model_copy(update={"format": "worstaudio/worst"})
    with tempfile.TemporaryDirectory(prefix="simsong-live-") as folder:
        try:
            fetcher = AudioFetcher(fetch, network, Path(folder))
        except ConfigError as error:
            yield Check("live search", "missing", str(error))
        else:
            candidates: list[Scored] = []
            yield _timed("live search", lambda: _search(fetcher, wanted, fetch.threshold, candidates))
            if candidates:
                yield _timed("live download", lambda: _download(fetcher, wanted, candidates[0], config))
    for name in lyrics_provider(config).split(","):
        if name != "none":
            yield _timed(f"live {name}", lambda name=name: _lyrics(_provider(name, config, network), wanted))


def _timed(name: str, check: Callable[[], str]) -> Check:
    """One line, whatever happens but a bug."""
    start = time.monotonic()
    try:
        detail, state, mend = check(), "ok", ""
    except Held as refusal:
        reason = refusal.postponed.reason
        detail, state, mend = f"{reason}: {refusal}", "missing", _MENDS.get(reason, "")
    except SongError as error:
        detail, state = f"{error.reason}: {error}", "missing"
        mend = _MENDS.get(error.reason, _OTHER_SONG)
    except SimSongError as error:
        detail, state, mend = str(error), "missing", ""
    return Check(name, state, f"{time.monotonic() - start:.1f} s; {detail}", mend)


def _search(fetcher: AudioFetcher, wanted: Wanted, threshold: float, candidates: list[Scored]) -> str:
    """Puts what is good enough in `candidates`, best first."""
    ranked = rank_all(wanted, fetcher.search(wanted))
    candidates += [scored for scored in ranked if scored.score >= threshold]
    name = f"{wanted.artist} - {wanted.title}"
    best = f", the best: {ranked[0].candidate.title} (score {ranked[0].score:.0f} of 100)" if ranked else ""
    if not candidates:
        raise FetchError(name, f"none of {len(ranked)} results on {fetcher.site.name} is good enough{best}",
                         "no_match")
    return f"{fetcher.site.name} gave {len(ranked)} results for {name}{best}"


def _download(fetcher: AudioFetcher, wanted: Wanted, scored: Scored, config: Config) -> str:
    audio = fetcher.fetch(replace(wanted, url=scored.candidate.url))
    info = probe(audio.path, config.fetch.max_duration_s)
    return f"{info.bytes:,} bytes of {info.codec}, {info.duration_s:.0f} s"


def _provider(name: str, config: Config, network: NetworkSettings) -> LyricsProvider:
    settings = config.lyrics
    if name == "lrclib":
        return Lrclib(settings.lrclib_root, network, settings.threshold)
    if (token := secret(GENIUS_TOKEN)) is None:
        raise ConfigError(f"no {GENIUS_TOKEN} in the environment")
    return GeniusLyrics(token, settings.genius_root, network, settings.threshold)


def _lyrics(provider: LyricsProvider, wanted: Wanted) -> str:
    lyrics = provider.lyrics(wanted)
    words = f"{len((lyrics.text or '').split())} words in {lyrics.language}" if lyrics.text else lyrics.kind
    return f"{words} (score {lyrics.match_score:.0f} of 100)"

