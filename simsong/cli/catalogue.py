"""What a catalogue holds, and what was left out of it, as people read it."""

from __future__ import annotations

from typing import Any

import click

from simsong.cli.options import print_table

_COVERED = {
    "duration_s": "a duration", "year": "a year", "tags": "tags", "genres": "a genre",
    "lyrics": "lyrics, fetched", "words": "words of their lyrics (musiXmatch)", "timbre": "timbre (MSD)",
    "artist_terms": "terms on their artist", "artist_similars": "artists like theirs",
    "similars": "similar songs (Last.fm)", "inside": "similar songs in the catalogue"}
_DROPPED = {
    "malformed": "records that cannot be used", "no_title": "songs without artist or title",
    "untrusted": "songs that the dataset lists as matched to a wrong song"}


def show_catalogue(facts: dict[str, Any]) -> None:
    songs = facts["selected"]
    selection = "" if songs == facts["tracks"] else f", taken from {facts['tracks']:,}"
    origins = ", ".join(f"{count:,} from {name}" for name, count in facts["sources"].items())
    click.echo(f"{songs:,} songs by {facts['artists']:,} artists{selection} ({origins})")
    rows = [(name, f"{facts['given'].get(name, 0):,}", f"{count_kept:,}") for name,
            count_kept in facts["rows"].items()
            if count_kept or facts["given"].get(name)]
    print_table(("table", "rows read", "rows kept"), rows, right=(1, 2))
    rows = [(what, f"{facts['covered'][name]:,}", f"{100 * facts['covered'][name] / songs:.1f} %")
            for name, what in _COVERED.items() if facts["covered"].get(name)]
    print_table(("songs with", "", ""), rows, right=(1, 2))
    if facts["genres"]:
        genres = [(name, f"{n:,}") for name, n in facts["genres"].items()]
        print_table(("genre by", "songs"), genres, right=(1,))
    if left_out := _left_out(facts):
        print_table(("left out, or marked", ""), left_out, right=(1,))


def _left_out(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [(f"{_DROPPED.get(reason, reason)} ({reason})", n) for reason, n in facts["rejected"].items()]
    rows.append(("songs not selected", facts["tracks"] - facts["selected"]))
    rows += [(f"{what} that cannot be used ({name})", n)
             for name, counts in facts["left_out"].items() for what, n in counts.items()]
    tags = facts["tags"]
    rows.append(("tags on too few songs (catalogue.tag_songs)", tags["names"] - tags["kept"]))
    for table in ("similars", "tags", "genres", "words"):
        dropped = facts["given"].get(table, 0) - facts["rows"][table]
        if dropped > 0:
            rows.append((f"rows of {table} that are doubled, or of songs and tags left out", dropped))
    outside = facts["rows"]["similars"] - facts["pairs"]["inside"]
    rows.append(("pairs kept whose other song is not in the catalogue", outside))
    rows.append(("songs gone from the catalogue since it was made", facts.get("gone", 0)))
    rows.append(("songs marked as another's duplicate", facts["duplicates"]))
    return [(what, f"{count:,}") for what, count in rows if count > 0]
