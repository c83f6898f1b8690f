"""`--plan`: what a refresh would do, as people and programs read it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from simsong.care.plan import RefreshPlan
from simsong.cli.options import print_table


def as_json(refresh: RefreshPlan) -> dict[str, Any]:
    return {**asdict(refresh), "fits": refresh.fits}


def show_plan(refresh: RefreshPlan) -> None:
    """As people read it."""
    click.echo(f"{refresh.songs:,} songs in the catalogue"
               + (" (read for this plan)" if refresh.read else ""))
    if refresh.lost:
        click.echo(f"lost       {refresh.lost:,} that were in it"
                   + (": refused without --yes" if refresh.refused else ""))
    print_table(("stage", "new", "again", "kept"),
                [(name, f"{songs.new:,}", f"{songs.again:,}", f"{songs.kept:,}")
                 for name, songs in refresh.stages.items()], right=(1, 2, 3))
    requests = ", ".join(f"{count:,} {name}" for name, count in refresh.requests.items())
    click.echo(f"downloads  {refresh.downloads:,}")
    click.echo(f"requests   {requests}")
    click.echo(f"time       {_time(refresh.hours['audio'])} for audio; meanwhile, for lyrics, "
               f"{_time(refresh.hours['lyrics'])}")
    free = "" if refresh.free_bytes is None else f"; {_size(refresh.free_bytes)} are free"
    click.echo(f"disk       {_size(refresh.download_bytes)} of downloads, "
               f"{_size(refresh.segment_bytes)} of segments{free}{'' if refresh.fits else ': NOT ENOUGH'}")
    for line in refresh.assumed:
        click.echo(f"assumed    {line}")


def _time(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
