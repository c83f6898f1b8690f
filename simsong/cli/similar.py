"""The command `similar`, and the options of whoever asks for songs.

Imports neither Prefect nor torch (what is not in the catalogue needs torch).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from simsong.cli.options import common, configured, json_option, print_json, print_table, printable
from simsong.search.song_query import MOST_SONGS, SongFilters, SongQuery, range_of, years_of
from storage.store import Store

F = TypeVar("F", bound=Callable[..., Any])
_FILTERS = (
    click.option("--genre", "genres", multiple=True, metavar="NAME", help="Only of that genre (repeatable)."),
    click.option("--years", metavar="RANGE", help="Only songs of 1994, 1990-1999, 1990- or -1999."),
    click.option("--artist", "artists", multiple=True, metavar="NAME",
                 help="Only by that artist (repeatable)."),
    click.option("--without-artist", "without_artists", multiple=True, metavar="NAME",
                 help="None by that artist (repeatable)."),
    click.option("--tag", "tags", multiple=True, metavar="NAME", help="Only with that tag (repeatable)."),
    click.option("--trait", "traits", multiple=True, metavar="NAME=RANGE",
                 help="Only with that trait: tempo_bpm=90-110, mode=minor (repeatable)."),
    click.option("--per-artist", type=click.IntRange(min=1), metavar="N", help="At most N of an artist."),
    click.option("--per-album", type=click.IntRange(min=1), metavar="N", help="At most N of an album."),
    click.option("--diversity", type=click.FloatRange(0, 1), default=0.0, show_default=True,
                 help="0: the nearest; towards 1: the less like each other."),
)


def filter_options(command: F) -> F:
    """Options that `filters_of` takes, and caps and diversity."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def filters_of(genres: tuple[str, ...], years: str | None, artists: tuple[str, ...],
               without_artists: tuple[str, ...], tags: tuple[str, ...],
               traits: tuple[str, ...]) -> SongFilters:
    return SongFilters(genres=genres, tags=tags, artists=artists, without_artists=without_artists,
                       years=years_of(years) if years else (None, None), traits=tuple(map(range_of, traits)))


@click.command()
@click.argument("songs", nargs=-1, metavar="[SONG]...")
@click.option("--unlike", multiple=True, metavar="SONG", help="And unlike this song (repeatable).")
@click.option("--like-artist", multiple=True, metavar="NAME", help="Like an artist's songs (repeatable).")
@click.option("--like-genre", multiple=True, metavar="NAME", help="Like a genre's songs (repeatable).")
@click.option("--lyrics", metavar="WORDS", help="Songs whose words say the like.")
@click.option("--text", metavar="WORDS",
              help="What it sounds like, e.g. \"calm piano\"; pretrained.network must be CLAP.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, MOST_SONGS), help="How many.")
@click.option("--distinct", is_flag=True, help="Each recording once, and not SONG's own under other ids.")
@click.option("--exact", is_flag=True, help="Look at all songs, where an index of many would do.")
@filter_options
@common
@json_option
def similar(songs: tuple[str, ...], unlike: tuple[str, ...], like_artist: tuple[str, ...],
            like_genre: tuple[str, ...], lyrics: str | None, text: str | None, k: int, distinct: bool,
            exact: bool, per_artist: int | None, per_album: int | None, diversity: float,
            config_file: str | None, store: str | None, as_json: bool, **filters: Any) -> None:
    """Songs like SONG: an id, "artist - title" (roughly), or an audio file; or a span of one of these, as in
    song.mp3@1:10-1:40. Several are asked together. A recording's further ids are marked.

    \b
    simsong similar "space invaders" --without-artist Pornophonique
    simsong similar a.mp3 "karma" --unlike "winter" --genre Folk --per-artist 1
    simsong similar --lyrics "the sea at night" --years 1990-1999
    """
    from simsong.answers.library import Library
    from simsong.answers.similar import answer

    query = SongQuery(like=songs, unlike=unlike, artists=like_artist, genres=like_genre, lyrics=lyrics,
                      text=text, k=k, distinct=distinct, per_artist=per_artist, per_album=per_album,
                      diversity=diversity, exact=exact, filters=filters_of(**filters))
    config = configured(config_file, store)
    library = Library(Store.open(config.store), config)
    ranking = answer(library, query)
    marks = library.published.duplicate_of
    of_hits = ranking.table(library).to_pylist()
    rows = [{"track_id": row["track_id"], "artist": row["artist"], "title": row["title"],
             "score": round(row["score"], 4), "duplicate_of": marks[hit.row],
             "same_recording_as": row["same_recording_as"]}
            for row, hit in zip(of_hits, ranking.hits, strict=True)]
    for note in ranking.notes:
        click.echo(printable(note), err=True)
    if as_json:
        print_json(rows)
        return
    click.echo(f"like {printable(ranking.about)} (model {ranking.model})")
    shown = {"score": "score", "artist": "artist", "title": "title", "id": "track_id"}
    if any(row["same_recording_as"] for row in rows):
        shown["same recording as"] = "same_recording_as"
    if not rows:
        click.echo("no song passes the filters")
        return
    print_table(tuple(shown), [tuple(row[key] for key in shown.values()) for row in rows])
