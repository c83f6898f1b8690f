"""Throughput of fetching: `python -m benchmarks.fetching.downloads`.

Real yt-dlp against a site on loopback (in a process of its own) that takes 200 ms for each request; 16 in
flight. Beside it, in the same run, the two bounds: what the latency allows, and what yt-dlp's own processor
time allows (one interpreter runs one thread at a time), measured as yt-dlp used alone: one object for the
searches and one for the downloads, no latency, one thread.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import quote

import yt_dlp

from simsong.audio.fetch import AudioFetcher
from simsong.config import FetchSettings, NetworkSettings
from simsong.fetching import fetch_all
from simsong.matching import query
from simsong.records import Wanted
from tests.faults import SECONDS, names, serve

SONGS, ALONE, IN_FLIGHT, LATENCY_S = 600, 60, 16, 0.2
REQUESTS_A_SONG = 3             # search, page, file
LEAST_SHARE = 0.8


def main() -> None:
    parent, child = multiprocessing.Pipe()
    site = multiprocessing.get_context("spawn").Process(target=served, args=(child,), daemon=True)
    site.start()
    root = parent.recv()
    with tempfile.TemporaryDirectory() as folder:
        cpu_s = yt_dlp_alone(root, Path(folder))
        parent.send(LATENCY_S)
        parent.recv()
        rate, own_cpu_s = ours(root, Path(folder))
    site.terminate()
    by_cpu, by_latency = 1 / cpu_s, IN_FLIGHT / (REQUESTS_A_SONG * LATENCY_S)
    share = rate / min(by_cpu, by_latency)
    print(f"yt-dlp alone: {1e3 * cpu_s:.1f} ms of processor time a song: at most {by_cpu:.1f} songs/s\n"
          f"latency of {1e3 * LATENCY_S:.0f} ms, {IN_FLIGHT} in flight: at most {by_latency:.1f} songs/s\n"
          f"ours: {rate:.1f} songs/s ({1e3 * own_cpu_s:.1f} ms of processor time a song): "
          f"{share:.0%} of the smaller")
    if share < LEAST_SHARE:
        sys.exit(f"that is less than {LEAST_SHARE:.0%}")


def served(pipe: Connection) -> None:
    with serve(SONGS) as site:
        pipe.send(site.root)
        while True:
            site.latency_s = pipe.recv()
            pipe.send(None)


def yt_dlp_alone(root: str, folder: Path) -> float:
    """Processor seconds a song."""
    quiet = {"quiet": True, "noprogress": True, "no_warnings": True, "cachedir": False, "fixup": "never",
             "outtmpl": f"{folder}/%(id)s.%(ext)s", "overwrites": True}
    search = yt_dlp.YoutubeDL({**quiet,
                               "extract_flat": "in_playlist"})     # pyright: ignore[reportArgumentType]
    download = yt_dlp.YoutubeDL(quiet)                                      # pyright: ignore[reportArgumentType]

    def one(song: str) -> None:
        results = search.extract_info(f"{root}/search?q={quote(query(*names(song)))}", download=False)
        download.extract_info(next(iter(results["entries"]))["url"])          # pyright: ignore

    one("0")
    start = time.process_time()
    for number in range(ALONE):
        one(str(number))
    return (time.process_time() - start) / ALONE


def ours(root: str, folder: Path) -> tuple[float, float]:
    """Songs a second, and processor seconds a song."""
    fetcher = AudioFetcher(FetchSettings(search=f"{root}/search?q={{query}}"),
                           NetworkSettings(workers=IN_FLIGHT), folder)
    songs = [Wanted(str(number), *names(str(number)), SECONDS) for number in range(SONGS)]
    warm, timed = songs[:2 * IN_FLIGHT], songs[2 * IN_FLIGHT:]
    assert all(not isinstance(result, Exception)
               for _, result in fetch_all(warm, fetcher.fetch, fetcher.site, "warming up"))
    start, cpu_start = time.monotonic(), time.process_time()
    done = [result for _, result in fetch_all(timed, fetcher.fetch, fetcher.site, "fetching")]
    took_s, cpu_s = time.monotonic() - start, time.process_time() - cpu_start
    assert all(not isinstance(result, Exception) for result in done)
    return len(timed) / took_s, cpu_s / len(timed)


if __name__ == "__main__":
    main()
