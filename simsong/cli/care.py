"""Commands that look after things: verify, doctor."""

from __future__ import annotations

import sys
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from simsong.cli.flows import in_prefect, yes_option
from simsong.cli.options import common, configured, json_option, print_json, printable
from simsong.errors import StoreError

if TYPE_CHECKING:
    from simsong.cli.doctor import Check


@click.command()
@common
@click.option("--mend", is_flag=True, help="Remove what is damaged and compute it again.")
@click.option("--wait", is_flag=True, help="With --mend: wait where another process is writing to the store.")
@yes_option
@json_option
def verify(config_file: str | None, store: str | None, mend: bool, wait: bool, yes: bool,
           as_json: bool) -> None:
    """Check every part against its seal and its identity, models and exports against their digests."""
    from simsong.care.plan import need_consent
    from simsong.care.verify import remove
    from simsong.care.verify import verify as find
    from simsong.progress import bars
    from storage.store import Store

    config = configured(config_file, store)
    with bars():
        findings = list(find(Store.open(config.store), config))
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{finding.fault}  {printable(finding.key)}: {printable(finding.detail)}")
    bad = [finding for finding in findings if finding.fault != "stale"]
    if not bad:
        click.echo("every part holds what was written", err=True)
    elif mend:
        with Store.writing(config.store, wait) as writer:
            remove(writer, findings)
        if not yes:
            need_consent(config)
        in_prefect("pipeline", config_file, {"store": store, "run": {"may_shrink": yes or None}}, wait)
        left = [f for f in find(Store.open(config.store), config) if f.fault != "stale"]
        if left:
            raise StoreError(f"{left[0].key}: still {left[0].fault} after mending")
        click.echo(f"{len(bad)} mended", err=True)
    else:
        raise StoreError(f"{len(bad)} files are not as they were written; "
                         "`simsong verify --mend` computes them again")


@click.command()
@common
@click.option("--live", is_flag=True, help="Also ask the sites: one search, one download, one song's lyrics.")
@click.option("--song", metavar="\"ARTIST - TITLE\"", help="With --live: the song to ask for.")
@json_option
def doctor(config_file: str | None, store: str | None, live: bool, song: str | None, as_json: bool) -> None:
    """What works here, what is missing, and the command that mends it."""
    from simsong.cli.doctor import checks

    config = configured(config_file, store)
    checking = checks(config)
    if live or song:
        from simsong.cli.live import asked, live_checks

        checking = chain(checking, live_checks(config, asked(config, song)))
    found: list[Check] = []
    for check in checking:
        found.append(check)
        if not as_json:
            mark = {"ok": "ok     ", "missing": "MISSING", "note": "note   "}[check.state]
            mend = f"\n{'':23}→ {check.mend}" if check.mend else ""
            click.echo(f"{mark} {check.name:<14} {printable(check.detail)}{mend}")
    if as_json:
        print_json([vars(check) for check in found])
    if any(check.state == "missing" for check in found):
        sys.exit(1)


COMMANDS: tuple[Any, ...] = (verify, doctor)
