"""What `refresh` would do: songs by stage, requests, hours, disk. Nothing is fetched, no store is written.

Where the catalogue has changed since the store took it up, its sources are read, into a temporary folder.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.catalogue.known import ingest_identity, known_songs, loses_many, sources_of
from simsong.config import Config
from simsong.errors import ConfigError, PartDamaged, StoreError
from simsong.parts.compute import given_songs, plan_part
from simsong.parts.observe import observed_rows
from simsong.parts.policy import decide, is_current, questions
from simsong.parts.stages import (
    PUBLISHED,
    STAGES,
    Stage,
    features_label,
    is_whole,
    lyrics_provider,
    outcome_partition,
    part_identity,
    tags_label,
)
from simsong.sources.base import Source
from simsong.sources.catalogue import Known, collecting
from storage.backend import Local
from storage.catalogue import Catalogue
from storage.store import Store
from storage.tables import TABLES, conform

MOST_DOWNLOADS = 1_000          # without --yes
# Assumed where nothing is measured or known:
REQUEST_S = 1.0                 # a request, there and back
AUDIO_BPS = 16_000              # bytes a second of what sites give: 128 kbit/s
SEGMENT_BPS = 20_000            # of 16 kHz FLAC
SONG_S = 240.0
# Columns of the catalogue that it goes by.
_OF_TRACKS = ["track_id", "shard", "duration_s", *sorted({
    name for stage in STAGES.values() if stage.observes for name in stage.reads["tracks"]} - {"duration_s"})]
YOUTUBE_PAGE = 3                # requests: the page, and a player for each of yt-dlp's two clients
LYRICS = 2                      # requests: search and page (Genius); the recording, else a search (LRCLIB)


@dataclass
class SongCounts:
    """Of a stage."""

    new: int = 0
    again: int = 0      # asked for or made from something else than before, or failed and worth another try
    kept: int = 0


@dataclass(frozen=True)
class RefreshPlan:
    songs: int
    read: bool                  # the sources were read for it: the store has another catalogue, or none
    lost: int                   # songs of the store's catalogue that the sources no longer have
    refused: bool               # they are so many that it takes --yes
    stages: dict[str, SongCounts]    # at most: what fails at one does not come to the next
    downloads: int
    requests: dict[str, int]
    hours: dict[str, float]     # audio, lyrics: of other sites, and so at the same time
    download_bytes: int
    segment_bytes: int
    free_bytes: int | None      # None: the store is on no disk of this machine
    assumed: list[str]

    @property
    def fits(self) -> bool:
        return self.free_bytes is None or self.download_bytes + self.segment_bytes <= self.free_bytes


def plan(config: Config, *, read: bool = True) -> RefreshPlan | None:
    """What a refresh would do; None where that takes reading the sources, and `read` forbids it.

    Raises: ConfigError, CatalogueError where there is no catalogue to be had.
    """
    store = opened(config)
    sources = sources_of(store, config)
    current = store is not None and is_whole(store, "ingest", ingest_identity(config, sources))
    if not (current or read):
        return None
    if store is not None and current:
        return _Planning(config, store, current).plan(store.by_shard("tracks", _OF_TRACKS).rows, 0, 0)
    return _Planning(config, store, current).plan(*_read(store, sources, config))


def opened(config: Config) -> Store | None:
    """The store, if there is one."""
    try:
        return Store.open(config.store)
    except StoreError:
        return None


def need_consent(config: Config) -> None:
    """Raises: ConfigError where a refresh would download more than anybody does by mistake."""
    limit = config.catalogue.limit
    if not config.fetch.audio or (limit is not None and limit <= MOST_DOWNLOADS):
        return
    if all(source.name == "folder" for source in sources_of(opened(config), config)):
        return
    refresh = plan(config)
    assert refresh is not None
    if refresh.downloads > MOST_DOWNLOADS:
        raise ConfigError(f"{refresh.downloads:,} downloads in about {max(refresh.hours.values()):,.0f} h: "
                          "begin them with --yes, see them with --plan, or take fewer songs with --limit N")


def _read(store: Store | None, sources: list[Source], config: Config) -> tuple[pa.Table, int, int]:
    """The catalogue's tracks, by the shard that they would have; how many songs leave, of how many."""
    before = known_songs(store) if store is not None else Known()
    with tempfile.TemporaryDirectory(prefix="simsong-plan-") as folder, \
            collecting(sources, config.catalogue, before, Path(folder)) as collected:
        lost, songs_before, _ = collected.lost()
        rows = pa.concat_tables([conform(TABLES["tracks"], rows).select(_OF_TRACKS)
                                 for rows in collected.rows("tracks")])
        return rows.sort_by([("shard", "ascending"), ("track_id", "ascending")]), lost, songs_before


class _Planning:
    def __init__(self, config: Config, store: Store | None, current: bool) -> None:
        self.config, self.store, self.current = config, store, current
        self.youtube = "://" not in config.fetch.search
        names = STAGES if config.fetch.audio else ()
        unused = {*PUBLISHED, *([] if features_label(config) else ["features"]),
                  *([] if tags_label(config) else ["tag_scores"])}
        self.stages = {name: SongCounts() for name in names if name not in unused}
        self.begun = set(store.shards("outcomes", "fetch_audio")) if store is not None else set[int]()
        self.searches = self.pages = 0
        self.known_s, self.with_length = 0.0, 0         # of the songs to download

    def plan(self, tracks: pa.Table, lost: int, songs_before: int) -> RefreshPlan:
        if self.stages:
            for shard, rows in _by_shard(tracks):
                self._shard(shard, rows)
        providers = [name for name in lyrics_provider(self.config).split(",") if name != "none"]
        lyrics = self.stages["fetch_lyrics"] if self.stages else SongCounts()
        per_page = YOUTUBE_PAGE if self.youtube else 1
        requests = {"searches": self.searches, "pages": self.pages * per_page, "media": self.pages,
                    "lyrics": (lyrics.new + lyrics.again) * LYRICS * len(providers)}
        length_s = self.known_s / self.with_length if self.with_length else SONG_S
        store_bps = self._measured_bps()
        download = self.pages * length_s * (store_bps or AUDIO_BPS)
        segments = self.stages["segments"].new if self.stages else 0
        mean_s = _mean(tracks["duration_s"]) or SONG_S
        return RefreshPlan(songs=tracks.num_rows, read=not self.current, lost=lost,
                           refused=loses_many(lost, songs_before) and not self.config.run.may_shrink,
                           stages=self.stages, downloads=self.pages,
                           requests=requests, hours=self._hours(requests, download),
                           download_bytes=round(download),
                           segment_bytes=round(segments * self._cut_s(mean_s) * SEGMENT_BPS),
                           free_bytes=self._free(), assumed=self._assumed(length_s, store_bps))

    def _shard(self, shard: int, rows: pa.Table) -> None:
        if shard not in self.begun:
            for songs in self.stages.values():
                songs.new += rows.num_rows
            self._download(rows, set(rows["track_id"].to_pylist()))
            return
        audio = self._count_fetches(STAGES["fetch_audio"], shard, rows)
        self._download(rows, audio)
        trimmed = self._count_computed(STAGES["trim"], shard, rows, audio)
        self._count_computed(STAGES["segments"], shard, rows, audio | trimmed)
        self._count_computed(STAGES["traits"], shard, rows, audio)
        if "features" in self.stages:
            features = self._count_computed(STAGES["features"], shard, rows, audio)
            if "tag_scores" in self.stages:
                self._count_computed(STAGES["tag_scores"], shard, rows, features)
        words = self._count_fetches(STAGES["fetch_lyrics"], shard, rows)
        self._count_computed(STAGES["embed_lyrics"], shard, rows, words)

    def _count_fetches(self, stage: Stage, shard: int, rows: pa.Table) -> set[str]:
        """Counts; gives the songs that are to be asked for."""
        assert self.store is not None
        totals, songs = self.stages[stage.name], set(rows["track_id"].to_pylist())
        if self.current and self._is_whole(stage, shard):
            totals.kept += len(songs)
            return set()
        before, own_rows = observed_rows(self.store, stage, shard)
        decisions = {track_id: decide(stage.name, question, before.get(track_id), own_rows.get(track_id),
                                      self.config.network.attempts)
                     for track_id, question in questions(rows, self.config, stage).items()}
        settled = {track_id for track_id, decision in decisions.items() if not decision.ask
                   or decision.beside}
        again = (songs & before.keys()) - settled
        totals.kept += len(settled)
        totals.again += len(again)
        totals.new += len(songs - before.keys())
        return songs - settled

    def _count_computed(self, stage: Stage, shard: int, rows: pa.Table, coming: set[str]) -> set[str]:
        """Counts songs of a stage that is made of what others give, `coming` of them anew; gives those that
        it makes."""
        assert self.store is not None
        totals, before = self.stages[stage.name], self._outcomes(stage, shard)
        there = set(rows["track_id"].to_pylist())
        try:
            songs = set(given_songs(self.store, stage, shard, stage.model(self.config))) & there | coming
            todo = set(plan_part(self.store, self.config, stage, shard, stage.model(self.config)).todo)
        except PartDamaged:
            songs = todo = before.keys() & there | coming
        todo = todo & there | coming
        totals.kept += len(songs - todo)
        totals.again += len(todo & before.keys())
        totals.new += len(todo - before.keys())
        return todo

    def _download(self, rows: pa.Table, todo: set[str]) -> None:
        for track_id, url, duration_s in zip(*(rows[name].to_pylist() for name in
                                               ("track_id", "url", "duration_s")), strict=True):
            if track_id not in todo or (url or "").startswith("file:"):
                continue
            self.pages += 1
            self.searches += url is None
            if duration_s:
                self.known_s += min(duration_s, self.config.fetch.max_duration_s)
                self.with_length += 1

    def _is_whole(self, stage: Stage, shard: int) -> bool:
        assert self.store is not None
        label = stage.model(self.config)
        try:
            identity = part_identity(self.store, self.config, stage, shard, label)
        except PartDamaged:
            return False
        return is_current(self.store, self.config, stage, identity, shard, label)

    def _outcomes(self, stage: Stage, shard: int) -> dict[str, dict[str, Any]]:
        assert self.store is not None
        partition = outcome_partition(stage.name, stage.model(self.config))
        try:
            rows = self.store.read("outcomes", shard, partition=partition)
        except PartDamaged:
            return {}
        return {row["track_id"]: row for row in rows.to_pylist()}

    def _measured_bps(self) -> float | None:
        """Bytes a second of the audio that the store has downloaded."""
        size = length_s = 0.0
        store = self.store
        for shard in Catalogue(store).parts("audio") if store is not None else ():
            assert store is not None
            try:
                rows = store.read("audio", shard, columns=["file", "bytes", "duration_s"])
            except PartDamaged:
                continue
            for row in rows.to_pylist():
                if not row["file"].startswith("file:") and row["bytes"] and row["duration_s"]:
                    size, length_s = size + row["bytes"], length_s + row["duration_s"]
        return size / length_s if length_s else None

    def _cut_s(self, length_s: float) -> float:
        """Seconds of the segments of a song of that length."""
        segments = self.config.segments
        count = math.floor((length_s - segments.length_s) / segments.hop_s) + 1
        count = max(count, segments.short == "repeat")
        return min(count, segments.count or count) * segments.length_s

    def _hours(self, requests: dict[str, int], download: float) -> dict[str, float]:
        network, lyrics = self.config.network, requests["lyrics"]
        audio = sum(requests.values()) - lyrics
        seconds = {"audio": self._seconds(audio), "lyrics": self._seconds(lyrics)}
        if network.rate_limit_bps:
            seconds["audio"] = max(seconds["audio"], download / network.rate_limit_bps / network.workers)
        return {site: round(duration_s / 3600, 3) for site, duration_s in seconds.items()}

    def _seconds(self, requests: int) -> float:
        network = self.config.network
        pace_s = 60 / network.requests_per_minute if network.requests_per_minute else 0.0
        return requests * max(pace_s, (REQUEST_S + network.sleep_s) / network.workers)

    def _free(self) -> int | None:
        if "://" in self.config.store or (self.store and not isinstance(self.store.backend, Local)):
            return None
        return free_bytes(self.config.store)

    def _assumed(self, length_s: float, store_bps: float | None) -> list[str]:
        network = self.config.network
        origin = "the mean of the catalogue's" if self.with_length else "no duration is known"
        rate = network.requests_per_minute
        pages = YOUTUBE_PAGE if self.youtube else 1
        return [f"a song has {length_s:.0f} s ({origin})",
                f"a second of it has {store_bps or AUDIO_BPS:,.0f} bytes "
                f"({'measured in this store' if store_bps else '128 kbit/s'}), "
                f"of segments {SEGMENT_BPS:,.0f} (FLAC)",
                f"a song takes 1 request for a search, {pages} for its page, 1 for the audio; "
                f"its lyrics {LYRICS} of each provider, at most",
                f"pace: {network.workers} at a time, {REQUEST_S + network.sleep_s:g} s a request"
                + (f", at most {rate} a minute" if rate else
                   " (nothing bounds them: network.requests_per_minute)")]


def free_bytes(store: str) -> int:
    """Of the disk that the store is on, or would be."""
    folder = Path(store).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _by_shard(tracks: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    shards, starts, counts = np.unique(tracks["shard"].to_numpy(), return_index=True, return_counts=True)
    for shard, start, count in zip(shards.tolist(), starts.tolist(), counts.tolist(), strict=True):
        yield shard, tracks.slice(start, count)


def _mean(column: pa.ChunkedArray) -> float | None:
    """Of those that are known."""
    values = column.filter(pc.call_function("greater", [column, 0.0]))
    return pc.call_function("mean", [values]).as_py()
