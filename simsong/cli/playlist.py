"""The commands `why`, `playlist`, `play` and `stations`. They import neither Prefect nor torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from simsong.cli.options import common, configured, json_option, print_json, print_table, printable
from simsong.cli.query import write_whole
from simsong.cli.similar import filter_options, filters_of
from simsong.errors import ConfigError
from simsong.search.song_query import SongQuery, clock
from storage.store import Store


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--clips", metavar="DIR", help="Write the two moments there, as FLAC, to listen to.")
@common
@json_option
def why(a: str, b: str, clips: str | None, config_file: str | None, store: str | None, as_json: bool) -> None:
    """Why two songs are alike: what sound, words, tags and genre each have to do with it, and which moments
    of the two agree most.

    \b
    "closer than" is the share of other songs that are less alike in that respect; 50 % is chance.
    """
    from simsong.answers.library import Library
    from simsong.answers.why import clips_of
    from simsong.answers.why import why as likeness_of

    config = configured(config_file, store)
    library = Library(Store.open(config.store), config)
    likeness = likeness_of(library, a, b)
    names = [library.name_of(row) for row in (likeness.a, likeness.b)]
    ids = [library.ids[row].as_py() for row in (likeness.a, likeness.b)]
    files = clips_of(library, likeness, Path(clips)) if clips else []
    if as_json:
        print_json({"a": ids[0], "b": ids[1], **likeness.as_dict(), "clips": [str(file) for file in files]})
        return
    click.echo(printable("  and  ".join(names)))
    print_table(("aspect", "share", "score", "closer than", ""),
                [(row["aspect"], *("" if row[name] is None else shown.format(row[name]) for name, shown in
                                   (("share", "{:.0%}"), ("score", "{}"), ("closer_than", "{:.1%}"))),
                  row["detail"]) for row in likeness.table().to_pylist()], right=(1, 2, 3))
    if (moment := likeness.moment) is not None:
        first, second = ("-".join(map(clock, span_s)) for span_s in (moment.of_a_s, moment.of_b_s))
        click.echo(f"most alike: {first} of the first, {second} of the second (cosine {moment.score:.3f})")
        click.echo(f"more of it: simsong similar {ids[0]}@{first}" if not files else
                   "\n".join(map(printable, files)))


@click.command()
@click.argument("songs", nargs=-1, metavar="[SONG]...")
@click.option("--to", metavar="SONG", help="A path from the one SONG to this one, in even steps.")
@click.option("--grow", type=click.Path(dir_okay=False), metavar="FILE", help="Add to a playlist (M3U).")
@click.option("--threshold", type=click.FloatRange(-1, 1), metavar="COSINE",
              help="With --grow: how near at least to one of its songs (default: as they are to each other).")
@click.option("--like-artist", multiple=True, metavar="NAME", help="Like an artist's songs (repeatable).")
@click.option("--like-genre", multiple=True, metavar="NAME", help="Like a genre's songs (repeatable).")
@click.option("--unlike", multiple=True, metavar="SONG", help="And unlike this song (repeatable).")
@click.option("--mood", metavar="WORDS",
              help="By words: the sound, where pretrained.network is a CLAP; else the lyrics.")
@click.option("--songs", "length", type=click.IntRange(min=1), metavar="N",
              help="How many (default: 25; of a path at most 10; --grow adds 10).")
@click.option("--artist-gap", type=click.IntRange(min=0), metavar="N",
              help="So many others between two songs of an artist (default: 1; with --artist or --grow 0).")
@click.option("--album-gap", type=click.IntRange(min=0), default=0, metavar="N",
              help="So many others between two songs of an album.")
@filter_options
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE",
              help="Write it: .m3u8, .jspf or .json; files are named from its folder.")
@click.option("--send", metavar="NAME",
              help="Write it to the music server that the songs are from, in place of its playlist NAME.")
@click.option("--dry-run", is_flag=True, help="Only show what would be written.")
@common
@json_option
def playlist(songs: tuple[str, ...], to: str | None, grow: str | None, threshold: float | None,
             like_artist: tuple[str, ...], like_genre: tuple[str, ...], unlike: tuple[str, ...],
             mood: str | None, length: int | None, artist_gap: int | None, album_gap: int,
             per_artist: int | None, per_album: int | None, diversity: float, output: str | None,
             send: str | None, dry_run: bool, config_file: str | None, store: str | None, as_json: bool,
             **filters: Any) -> None:
    """A playlist: like songs, an artist, a genre or words; of what passes filters; on a path from one song to
    another; or grown from one that there is.

    \b
    simsong playlist "space invaders" --songs 20 --per-artist 2 -o chip.m3u8
    simsong playlist --genre Folk --years 1990-1999 -o folk.m3u8
    simsong playlist "space invaders" --to "quesabe - confession" -o path.m3u8
    simsong playlist --grow mine.m3u8 --threshold 0.6 --songs 40 -o mine.m3u8
    """
    from simsong.answers import playlists
    from simsong.answers.library import Library
    from simsong.files.playlists import form_of, read_m3u, written
    from simsong.search.playlists import PlaylistRules

    liking = bool(like_artist or like_genre or unlike or mood)
    if (to and (len(songs) != 1 or liking or grow)) or (grow and (songs or liking)):
        raise ConfigError("a playlist is a path (one SONG and --to), or grown (--grow), or of what is liked; "
                          "these do not go together")
    if threshold is not None and not grow:
        raise ConfigError("--threshold goes with --grow")
    form = form_of(Path(output)) if output else "m3u8"
    config = configured(config_file, store)
    library = Library(Store.open(config.store), config)
    passing = filters_of(**filters)
    gap = artist_gap if artist_gap is not None else int(not (passing.artists or grow))
    if to:
        if any((artist_gap, album_gap, per_artist, per_album, diversity)):
            raise ConfigError("a path has no rules of artists and albums, nor --diversity: its steps decide")
        listing = playlists.path(library, songs[0], to, length or playlists.PATH_SONGS, passing)
    else:
        rules = PlaylistRules(length or 25, per_artist, per_album, gap, album_gap)
        if grow:
            before = read_m3u(Path(grow))
            rules = rules if length else replace(rules, songs=len(before) + 10)
            listing = playlists.grown(library, before, rules, threshold, passing)
        else:
            by_sound = mood and playlists.hears_words(config)
            listing = playlists.playlist(library, SongQuery(
                like=songs, unlike=unlike, artists=like_artist, genres=like_genre, diversity=diversity,
                filters=passing, text=mood if by_sound else None, lyrics=None if by_sound else mood), rules)
    for note in listing.notes:
        click.echo(printable(note), err=True)
    text = written(listing.entries, form, (Path(output) if output else Path("x")).absolute().parent,
                   listing.title)
    if output and not dry_run:
        write_whole(Path(output), lambda file: file.write_text(text, encoding="utf-8", newline="\n"))
    counts = playlists.send(library, listing, send, dry_run=dry_run) if send else []
    rows = listing.table().to_pylist()
    if as_json:
        print_json(rows)
        return
    click.echo(printable(listing.title))
    shown = {"": "place", "step": "step", "artist": "artist", "title": "title", "id": "track_id"}
    if any(row["score"] is not None for row in rows):
        shown = {"": "place", "score": "score", **shown}
    print_table(tuple(shown), [tuple(row[key] for key in shown.values()) for row in rows], right=(0, 1))
    if output:
        click.echo(f"{'would write' if dry_run else 'wrote'} {output}: {len(rows)} songs")
    for server, count in counts:
        click.echo(printable(f"{server}: playlist {send} {'would have' if dry_run else 'has'} {count} songs"))


@click.command()
@click.argument("songs", nargs=-1, metavar="[SONG]...")
@click.option("--mpd", is_flag=True, help="By the Music Player Daemon that MPD_HOST and MPD_PORT name.")
@click.option("--to", metavar="SONG", help="A path from the one SONG to this one, in even steps.")
@click.option("--station", metavar="NAME", help="What a saved station plays now.")
@click.option("--like-artist", multiple=True, metavar="NAME", help="Like an artist's songs (repeatable).")
@click.option("--like-genre", multiple=True, metavar="NAME", help="Like a genre's songs (repeatable).")
@click.option("--songs", "length", type=click.IntRange(min=1), metavar="N",
              help="How many (default: 25; of a path at most 10).")
@click.option("--add", is_flag=True, help="Behind what is queued, instead of in its place.")
@filter_options
@common
@json_option
def play(songs: tuple[str, ...], mpd: bool, to: str | None, station: str | None,
         like_artist: tuple[str, ...], like_genre: tuple[str, ...], length: int | None, add: bool,
         per_artist: int | None, per_album: int | None, diversity: float, config_file: str | None,
         store: str | None, as_json: bool, **filters: Any) -> None:
    """Play songs like SONG, or of an artist, a genre, a path, a station, by a player that is running.

    \b
    simsong play --mpd "space invaders" --songs 20
    simsong play --mpd "space invaders" --to "quesabe - confession"
    """
    from simsong.answers import playlists
    from simsong.answers.library import Library
    from simsong.answers.stations import songs_of, station_named
    from simsong.fetching.mpd import queue
    from simsong.search.playlists import PlaylistRules

    if not mpd:
        raise ConfigError("by which player? --mpd; `simsong serve` has a page to listen on, and "
                          "`simsong playlist -o` writes what all others read")
    if (to and (len(songs) != 1 or like_artist or like_genre or station)) or (
            station and (songs or like_artist or like_genre)):
        raise ConfigError("a path is from one SONG --to another, and a station plays its own songs")
    config = configured(config_file, store)
    opened = Store.open(config.store)
    library, passing = Library(opened, config), filters_of(**filters)
    if station:
        listing = songs_of(library, station_named(opened, station))
    elif to:
        listing = playlists.path(library, songs[0], to, length or playlists.PATH_SONGS, passing)
    else:
        query = SongQuery(like=songs, artists=like_artist, genres=like_genre, diversity=diversity,
                          filters=passing)
        rules = PlaylistRules(length or 25, per_artist, per_album, int(not passing.artists))
        listing = playlists.playlist(library, query, rules)
    queued = queue([entry.location for entry in listing.entries], add=add)
    for note in listing.notes:
        click.echo(printable(note), err=True)
    rows = listing.table().to_pylist()
    if as_json:
        print_json({"mpd": queued.address, "added": queued.added, "songs": rows,
                    "missing": [rows[number]["track_id"] for number in queued.missing]})
        return
    click.echo(printable(listing.title))
    print_table(("", "artist", "title"), [(row["place"], row["artist"], row["title"]) for row in rows],
                right=(0,))
    click.echo(f"MPD at {queued.address}: {queued.added} songs {'added' if add else 'play'}")
    if queued.missing:
        names = ", ".join(listing.entries[number].name for number in queued.missing[:3])
        click.echo(printable(f"{len(queued.missing)} it has not, e.g. {names}: they are not below its music "
                             "folder, or not in its database (`mpc update`)"), err=True)


@click.command()
@click.option("--write", "folder", type=click.Path(file_okay=False), metavar="DIR",
              help="Write each as an M3U8 there (publish.stations: after each publish).")
@click.option("--send", is_flag=True, help="Write each as a playlist to the music server of its songs.")
@common
@json_option
def stations(folder: str | None, send: bool, config_file: str | None, store: str | None,
             as_json: bool) -> None:
    """The stations that were saved on the page or by the API, and, written, what they play now."""
    from simsong.answers import playlists
    from simsong.answers import stations as saved
    from simsong.answers.library import Library

    config = configured(config_file, store)
    opened = Store.open(config.store)
    every, library = saved.stations(opened), Library(opened, config)
    files, problems = saved.write_stations(library, Path(folder).expanduser()) if folder else ([], [])
    sent = [(one["name"], server, count) for one in every if send
            for server, count in playlists.send(library, saved.songs_of(library, one), one["name"])]
    for problem in problems:
        click.echo(printable(problem), err=True)
    if as_json:
        print_json({"stations": every, "files": [str(file) for file in files],
                    "sent": [{"station": name, "server": server, "songs": n} for name, server, n in sent]})
        return
    if not every:
        click.echo("no station is saved; the page of `simsong serve` saves them (Mix)")
        return
    print_table(("name", "songs", "like", "id"),
                [(one["name"], one["songs"], ", ".join(one["like"]), one["id"]) for one in every], right=(1,))
    for file in files:
        click.echo(printable(f"wrote {file}"))
    for name, server, count in sent:
        click.echo(printable(f"{server}: playlist {name} has {count} songs"))
