"""`--plan`: what a refresh would do, as people and programs read it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from simsong.care.plan import RefreshPlan
from simsong.cli.options import print_table


def as_json(found: RefreshPlan) -> dict[str, Any]:
    return {**asdict(found), "fits": found.fits}


def show_plan(found: RefreshPlan) -> None:
    """As people read it."""
    click.echo(f"{found.songs:,} songs in the catalogue"
               + (" (read for this plan)" if found.read else ""))
    if found.lost:
        click.echo(f"lost       {found.lost:,} that were in it"
                   + (": refused without --yes" if found.refused else ""))
    print_table(("stage", "new", "again", "kept"),
                [(name, f"{songs.new:,}", f"{songs.again:,}", f"{songs.kept:,}")
                 for name, songs in found.stages.items()], right=(1, 2, 3))
    told = ", ".join(f"{count:,} {name}" for name, count in found.requests.items())
    click.echo(f"downloads  {found.downloads:,}")
    click.echo(f"requests   {told}")
    click.echo(f"time       {_time(found.hours['audio'])} for audio; meanwhile, for lyrics, "
               f"{_time(found.hours['lyrics'])}")
    free = "" if found.free_bytes is None else f"; {_size(found.free_bytes)} are free"
    click.echo(f"disk       {_size(found.download_bytes)} of downloads, "
               f"{_size(found.segment_bytes)} of segments{free}{'' if found.fits else ': NOT ENOUGH'}")
    for line in found.assumed:
        click.echo(f"assumed    {line}")


def _time(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
