"""Commands that ask a store: similar, status, catalogue.

They import neither Prefect nor torch (a song from outside the catalogue needs torch).
"""

from __future__ import annotations

import os
from pathlib import Path

import click
import numpy as np

from simsong.care.facts import catalogue_of
from simsong.care.status import failures_of, last_runs, stages_of
from simsong.cli.catalogue import show_catalogue
from simsong.cli.options import common, configured, given, json_option, print_json, print_table, printable
from simsong.cli.show import show_failures, show_funnel
from simsong.config import Config
from simsong.errors import ConfigError, FileMissing, ModelError, StoreError
from storage.exports import Published, read_published
from storage.store import Store


@click.command()
@click.argument("song", required=False)
@click.option("--text", help="Words in place of SONG, e.g. \"calm piano\"; pretrained.network must be CLAP.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 10_000), help="How many.")
@click.option("--distinct", is_flag=True, help="Each recording once, and not SONG's own under other ids.")
@common
@json_option
def similar(song: str | None, text: str | None, k: int, distinct: bool, config_file: str | None,
            store: str | None, as_json: bool) -> None:
    """Songs like SONG: an id, "artist - title" (roughly), or an audio file; or as words describe them. A
    recording's further ids are marked."""
    if (song is None) == (text is None):
        raise ConfigError("similar takes either a song or --text")
    config = configured(config_file, store)
    opened = Store.open(config.store)
    published = read_published(opened)
    if not published.tracks.num_rows:
        raise StoreError(f"{opened.backend.url}: no songs are published; `simsong status` tells why")
    query: np.ndarray | None = None
    if text is not None:
        published, query = _described(opened, published, config, text)
    ids, artists, titles = (published.tracks[name].to_pylist() for name in ("track_id", "artist", "title"))
    if query is not None or song is None:
        own, name = None, f"\"{text}\""
    elif song not in ids and (file := _as_file(song)) is not None:
        query = _embedded(file, opened, published, config)
        own, name = None, song
    else:
        from simsong.search.resolve import resolve

        found = resolve(song, ids, artists, titles)
        query, own = published.embeddings[found.index], found.index
        name = f"{found.artist} - {found.title}"
    from simsong.search.nearest import nearest

    assert query is not None
    marks = published.duplicate_of
    rows = [{"track_id": ids[i], "artist": artists[i], "title": titles[i], "score": round(score, 4),
             "duplicate_of": marks[i], "same_recording_as": None if same is None else ids[same]}
            for i, score, same in nearest(published, query, own, k, distinct)]
    if as_json:
        print_json(rows)
        return
    click.echo(f"like {printable(name)} (model {published.model})")
    shown = {"score": "score", "artist": "artist", "title": "title", "id": "track_id"}
    if any(row["same_recording_as"] for row in rows):
        shown["same recording as"] = "same_recording_as"
    print_table(tuple(shown), [tuple(row[key] for key in shown.values()) for row in rows])


def _described(store: Store, published: Published, config: Config,
               text: str) -> tuple[Published, np.ndarray]:
    """The published songs by their embeddings of a network that has a text side, and what it makes of the
    words."""
    from simsong.registry.query import text_query

    if not text.strip():
        raise ConfigError("--text needs words")
    label, query, ids, embeddings = text_query(store, config, text)
    at = {track_id: row for row, track_id in enumerate(ids)}
    tracks = published.tracks
    heard = [row for row, track_id in enumerate(tracks["track_id"].to_pylist()) if track_id in at]
    order = [at[track_id] for track_id in tracks["track_id"].take(heard).to_pylist()]
    return Published(label, (label,), tracks.take(heard), embeddings[order]), query


def _as_file(text: str) -> Path | None:
    """The file that is meant: one that is there, whatever its suffix. None for an id or a name.

    Raises: FileMissing for what can only be a file: by its suffix, or a path of a folder that is there.
    """
    from simsong.sources.folder import SUFFIXES

    path = Path(text).expanduser() if text.startswith("~/") else Path(text)
    if path.is_file():
        return path
    if path.is_dir():
        raise FileMissing(text, "is a folder; name an audio file, or a song")
    if path.suffix.lower() in SUFFIXES or text.startswith(("/", "./", "../", "~/")) or (
            os.sep in text and path.parent.is_dir()):       # not "AC/DC - Thunderstruck"
        raise FileMissing(text, "there is no such file")
    return None


def _embedded(path: Path, store: Store, published: Published, config: Config) -> np.ndarray:
    """A file through the same stages as the catalogue's songs; a clip that is shorter than a segment is
    repeated to fill one."""
    from simsong.audio.decode import decode
    from simsong.audio.samples import RATE_HZ
    from simsong.parts.stages import TIMBRE
    from simsong.registry.query import embed_sound

    if published.model == TIMBRE:
        raise ModelError(f"{path}: this store places its songs by MSD's timbre, which a file has not; ask "
                         "for a song of the catalogue, or train (`simsong run` without --no-audio)")
    samples = decode(path, config.fetch.max_duration_s)
    segment_s = config.segments.length_s
    if (clip_s := len(samples) / RATE_HZ) < segment_s:
        click.echo(f"{printable(path)}: a short clip, {clip_s:.1f} s where the model hears {segment_s:g} s "
                   "at a time: the answer is a rough one", err=True)
    return embed_sound(store, config, published, samples, str(path))


@click.command()
@common
@json_option
def status(config_file: str | None, store: str | None, as_json: bool) -> None:
    """The funnel: songs done, failed by reason and pending, a stage; the last runs; what failed for which
    reason, whether it is worth another try, and the command for it."""
    config = configured(config_file, store)
    opened = Store.open(config.store)
    stages, runs = stages_of(opened), last_runs(opened, 5)
    failed = failures_of(opened, config.network.attempts, given(config_file, store))
    if as_json:
        print_json({"store": opened.backend.url, "stages": stages, "failures": failed, "runs": runs})
        return
    show_funnel(stages)
    show_failures(failed)
    rows = [(run["flow"], run["at"], f"{run['seconds']:.0f}",
             sum(told["parts_computed"] for told in run["stages"].values()), run["error"]) for run in runs]
    print_table(("run", "began (UTC)", "s", "parts new", "error"), rows, right=(2, 3))


@click.command()
@common
@json_option
def catalogue(config_file: str | None, store: str | None, as_json: bool) -> None:
    """What was ingested: rows, joins, coverage, what was dropped and why."""
    told = catalogue_of(Store.open(configured(config_file, store).store))
    if as_json:
        print_json(told)
    else:
        show_catalogue(told)


COMMANDS = (similar, status, catalogue)
