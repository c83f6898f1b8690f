"""`simsong explain SONG`: where a song stands, which recording was chosen for it, and why not the others.

Imports neither Prefect nor torch, and works as soon as there is a catalogue.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc

from simsong.cli.options import LocalFile, common, configured, json_option, print_json, print_table, printable
from simsong.errors import ConfigError, StoreError
from simsong.parts.stages import FUNNEL, MFCC, STAGES, TIMBRE, stage_of
from simsong.registry.trained_on import tracks_seen
from simsong.search.resolve import resolve
from storage.store import Store
from storage.tables import TABLES

_OF_THE_SONG = ["track_id", "artist", "title", "duration_s", "source", "url", "duplicate_of", "shard"]
_FADES = {"MSD: fade-in ends": "fade_in_end_s", "MSD: fade-out starts": "fade_out_start_s"}
_OF_THE_AUDIO = ["url", "title", "match_score", "codec", "duration_s", "bytes", "fetched_at"]


@click.command()
@click.argument("song")
@common
@json_option
@click.option("--picture", metavar="FILE", type=LocalFile(dir_okay=False, path_type=Path),
              help="Draw its waveform, what was cut and the segments (.png, .svg or .pdf).")
def explain(song: str, config_file: str | None, store: str | None, as_json: bool,
            picture: Path | None) -> None:
    """Where SONG stands at every stage, what was found for it, and why each result won or lost.

    SONG is an id or "artist - title" (roughly).
    """
    config = configured(config_file, store)
    opened = Store.open(config.store)
    facts = explained(opened, song)
    if as_json:
        print_json(facts)
    else:
        show(facts)
    if picture:
        draw_song(opened, facts, picture)
        click.echo(f"picture: {picture}", err=as_json)


def explained(store: Store, text: str) -> dict[str, Any]:
    """All that the store knows about the song that `text` means. Raises: StoreError; SongUnresolved."""
    song = song_of(store, text)
    track_id, shard = song["track_id"], song["shard"]
    audio = _rows(store, "audio", shard, track_id)
    candidates = _rows(store, "candidates", shard, track_id)
    return {**song,
            "stages": standing(store, track_id, shard),
            "audio": {name: audio[0][name] for name in _OF_THE_AUDIO} if audio else None,
            "candidates": sorted(candidates, key=lambda row: (-row["score"], row["rank"]))}


def song_of(store: Store, text: str) -> dict[str, Any]:
    """The catalogue's row of the song that is meant, and `same_name`: ids of others that read the same. Of a
    record that became no song, the id alone. Raises: StoreError before the first ingest; SongUnresolved."""
    tracks = store.read("tracks", columns=_OF_THE_SONG)
    if not store.footers("tracks"):
        raise StoreError(f"{store.backend.url}: no catalogue is ingested yet; `simsong ingest` or "
                         "`simsong run` does it")
    rejected = _rows(store, "outcomes", 0, text, "ingest")
    if rejected and rejected[0]["status"] == "failed":
        return dict.fromkeys(_OF_THE_SONG) | {"track_id": text, "same_name": []}
    match = resolve(text, *(tracks[name].to_pylist() for name in ("track_id", "artist", "title")))
    return tracks.slice(match.index, 1).to_pylist()[0] | {"same_name": list(match.same_name)}


def standing(store: Store, track_id: str, shard: int | None) -> list[dict[str, Any]]:
    """The song's outcomes in the order of the stages, one for each model where there are several; `status` is
    None at a stage that has none of this song."""
    partitions = sorted(store.partitions("outcomes"), reverse=True)
    out: list[dict[str, Any]] = []
    for stage in FUNNEL:
        rows = []
        for partition in (name for name in partitions if stage_of(name) == stage):
            model = partition.partition("-")[2] or None
            outcomes = _rows(store, "outcomes", shard if stage in STAGES else 0, track_id, partition)
            if not outcomes and stage not in STAGES and _came_through(store, stage, partition, track_id,
                                                                      shard):
                outcomes = [{"status": "ok"}]
            rows += [{"model": model, **row} for row in outcomes]
        columns = ("model", "status", "reason", "detail", "attempts", "at")
        out += [{"stage": stage, **{name: row.get(name) for name in columns}} for row in rows or [{}]]
    return out


def _came_through(store: Store, stage: str, partition: str, track_id: str, shard: int | None) -> bool:
    """Whether a stage that takes all songs at once, and keeps rows of those that fail alone, has this one."""
    if stage == "train":
        version = store.footers("outcomes", 0, partition)[0].identity
        return track_id in tracks_seen(store, f"{partition.partition('-')[2]}-{version}")
    timbre = bool(_rows(store, "track_embeddings", 0, track_id, TIMBRE, columns=["track_id"]))
    return timbre or (stage != "embed_timbre" and bool(
        _rows(store, "track_embeddings", shard, track_id, MFCC, columns=["track_id"])))


def show(facts: dict[str, Any]) -> None:
    """As people read it."""
    names = " - ".join(filter(None, (facts["artist"], facts["title"]))) or "no song of the catalogue"
    length = f", {facts['duration_s']:.1f} s" if facts["duration_s"] else ""
    origin = f", from {facts['source']}" if facts["source"] else ""
    click.echo(printable(f"{names} ({facts['track_id']}{length}{origin})"))
    if facts["same_name"]:
        click.echo(printable(f"of the same name: {', '.join(facts['same_name'])}"))
    if facts["duplicate_of"]:
        click.echo(printable(f"the same recording as {facts['duplicate_of']}"))
    print_table(("stage", "model", "status", "reason", "detail", "attempts"),
                [(row["stage"], row["model"], row["status"] or "-", row["reason"], row["detail"],
                  row["attempts"]) for row in facts["stages"]], right=(5,))
    if audio := facts["audio"]:
        score = "" if audio["match_score"] is None else f", score {audio['match_score']:.1f}"
        click.echo(printable(f"audio: {audio['url']} ({audio['codec']}, {audio['duration_s']:.1f} s{score})"))
    if facts["candidates"]:
        rows = [(f"{row['score']:.1f}", "*" if row["chosen"] else "", row["title"], row["channel"],
                 "" if row["duration_s"] is None else f"{row['duration_s']:.0f}", row["why"], row["url"])
                for row in facts["candidates"]]
        print_table(("score", "", "found", "channel", "s", "why", "url"), rows, right=(0, 4))
    elif not (facts["url"] or facts["audio"]):
        click.echo("no search result is kept")


def draw_song(store: Store, facts: dict[str, Any], path: Path) -> None:
    """Write a picture of the song that `explained` told of.

    Raises: ConfigError where pictures cannot be drawn or written; StoreError for a song without audio;
        SongError where its audio is no longer there, or cannot be decoded.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"{path}: a picture's name ends in .png, .svg or .pdf")
    try:
        from simsong.audio.picture import draw
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ConfigError("pictures need matplotlib: pip install matplotlib") from None
    from simsong.audio.trim import Trimmed
    from simsong.parts.song_audio import sound_of

    track_id, shard = facts["track_id"], facts["shard"]
    audio = _rows(store, "audio", shard, track_id)
    if not audio:
        raise StoreError(f"{track_id}: there is no audio to draw; see its stage fetch_audio")
    samples = sound_of(store, audio[0]["file"], audio[0]["duration_s"])
    fades = _rows(store, "tracks", shard, track_id, columns=["track_id", *_FADES.values()])[0]
    trims = _rows(store, "trims", shard, track_id)
    windows = _rows(store, "segments", shard, track_id, columns=["track_id", "start_s", "end_s"])
    body = Trimmed(trims[0]["start_s"], trims[0]["end_s"], trims[0]["mode"]) if trims else None
    figure = draw(samples, title=printable(f"{facts['artist']} - {facts['title']} ({track_id})"),
                  trimmed=body,
                  segments=[(row["start_s"], row["end_s"]) for row in windows],
                  marks={name: fades[column] for name, column in _FADES.items() if fades[column]})
    try:
        figure.savefig(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None


def _rows(store: Store, table: str, shard: int | None, track_id: str,
          partition: str | None = None, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """A song's rows of a part; none where the song has no shard."""
    rows = TABLES[table].schema.empty_table() if shard is None else \
        store.read(table, shard, partition=partition, columns=columns)
    return rows.filter(pc.field("track_id") == pa.scalar(track_id)).to_pylist()
