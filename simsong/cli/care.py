"""Commands that look after things: verify, doctor."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simsong.cli.flows import in_prefect, yes_option
from simsong.cli.options import (
    LocalFile,
    common,
    configured,
    json_option,
    print_json,
    print_table,
    printable,
)
from simsong.errors import DeployError, StoreError

if TYPE_CHECKING:
    from simsong.cli.doctor import Check

UNFINISHED = 3          # exit code of a verification whose time was up, and that has found no damage


@click.command()
@common
@click.option("--mend", is_flag=True, help="Remove what is damaged and compute it again.")
@click.option("--resume", is_flag=True, help="Go on where the last one of this store ended before its end.")
@click.option("--minutes", type=click.FloatRange(min=0), metavar="N",
              help="End after N minutes, with exit code 3; --resume goes on.")
@click.option("--wait", is_flag=True, help="With --mend: wait where another process is writing to the store.")
@yes_option
@json_option
def verify(config_file: str | None, store: str | None, mend: bool, resume: bool, minutes: float | None,
           wait: bool, yes: bool, as_json: bool) -> None:
    """Check every part against its seal and its identity, models and exports against their digests."""
    from simsong.care.plan import need_consent
    from simsong.care.verify import Checked, remove
    from simsong.care.verify import verify as find
    from simsong.progress import bars
    from storage.store import Store

    config = configured(config_file, store)
    opened = Store.open(config.store)
    checked = Checked(opened)
    if resume:
        checked.load()
        click.echo(f"goes on after {checked.after}" if checked.after else "begins anew", err=True)
    with bars():
        findings = list(find(opened, config, checked, None if minutes is None else 60 * minutes))
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{finding.fault}  {printable(finding.key)}: {printable(finding.detail)}")
    bad = [finding for finding in findings if finding.fault != "stale"]
    if not checked.whole:
        click.echo(f"the time is up: checked up to {checked.after}; `simsong verify --resume` goes on",
                   err=True)
    if not bad and not checked.whole:
        sys.exit(UNFINISHED)
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
        from simsong.cli.live import live_checks, song_to_ask_for

        checking = chain(checking, live_checks(config, song_to_ask_for(config, song)))
    results: list[Check] = []
    for check in checking:
        results.append(check)
        if not as_json:
            mark = {"ok": "ok     ", "missing": "MISSING", "note": "note   "}[check.state]
            mend = f"\n{'':23}→ {check.mend}" if check.mend else ""
            click.echo(f"{mark} {check.name:<14} {printable(check.detail)}{mend}")
    if as_json:
        print_json([vars(check) for check in results])
    if any(check.state == "missing" for check in results):
        sys.exit(1)


@click.command()
@common
@click.option("--dry-run", is_flag=True, help="Only say what would go, and its bytes.")
@click.option("--audio", is_flag=True, help="Also downloaded audio that has been segmented (prune.audio).")
@click.option("--gone-days", type=float, metavar="N",
              help="Songs that left the catalogue N days ago or more (prune.gone_days).")
@click.option("--wait", is_flag=True, help="Wait where another process is writing to the store.")
@json_option
def prune(config_file: str | None, store: str | None, dry_run: bool, audio: bool, gone_days: float | None,
          wait: bool, as_json: bool) -> None:
    """Free the space of what nothing needs any more: songs that left long ago, old models, their embeddings
    and exports, Prefect's results and old runs; with --audio raw audio."""
    from simsong.care.prune import KINDS, prunable
    from storage.store import Store

    flags: dict[str, Any] = {"store": store, "prune": {"audio": audio or None, "gone_days": gone_days}}
    config = configured(config_file, **flags)
    summary = prunable(Store.open(config.store), config).summary()
    if not dry_run:
        in_prefect("prune", config_file, flags, wait)
    if as_json:
        print_json({"dry_run": dry_run, "pruned": summary})
        return
    if not summary:
        click.echo("there is nothing to prune")
        return
    print_table(("", "count", "MB"), [(KINDS[kind], f"{totals['count']:,}", f"{totals['bytes'] / 1e6:,.1f}")
                                      for kind, totals in summary.items()], right=(1, 2))
    total = sum(totals["bytes"] for totals in summary.values()) / 1e6
    click.echo(f"{total:,.1f} MB {'would be freed' if dry_run else 'freed'}")


@click.command()
@click.argument("file", type=LocalFile(path_type=Path))
@common
@click.option("--audio", is_flag=True,
              help="With the downloaded audio files; without them, songs are as they were cut.")
@click.option("--wait", is_flag=True, help="Wait where another process is writing to the store.")
def backup(file: Path, config_file: str | None, store: str | None, audio: bool, wait: bool) -> None:
    """Write the store to FILE, one archive (tar)."""
    from simsong.care import backup as care
    from simsong.progress import bars
    from storage.store import Store

    config = configured(config_file, store)
    Store.open(config.store)            # there must be one: `writing` would make it
    with Store.writing(config.store, wait) as opened, bars():
        done = care.backup(opened, file, audio=audio)
    left_out = "" if audio else f"; {done.left_out_bytes / 1e6:,.1f} MB of downloaded audio are left out"
    click.echo(f"{file}: {done.files:,} files, {done.bytes / 1e6:,.1f} MB{left_out}")


@click.command()
@click.argument("file", type=LocalFile(path_type=Path))
@common
def restore(file: Path, config_file: str | None, store: str | None) -> None:
    """Make a store of FILE, which `simsong backup` wrote, where there is none yet."""
    from simsong.care import backup as care
    from simsong.progress import bars

    config = configured(config_file, store)
    with bars():
        about = care.restore(file, config.store)
    size = sum(told[0] for told in about["files"].values())
    click.echo(f"{config.store}: {len(about['files']):,} files, {size / 1e6:,.1f} MB, as of {about['at']}")


@click.command()
@common
@click.option("--dry-run", is_flag=True, help="Only say what would change on the server.")
@click.option("--name", metavar="WORD", help="Put behind the deployments' names, for another store's.")
@json_option
def deploy(config_file: str | None, store: str | None, dry_run: bool, name: str | None,
           as_json: bool) -> None:
    """Put the store's deployments on the Prefect server of PREFECT_API_URL: refresh by schedule ([deploy]),
    train after it, publish after that, prune, and all by hand. Works in any folder."""
    from flows import embedded
    from simsong.cli.flows import quiet_prefect

    quiet_prefect()
    server = embedded.configured()
    if server is None:
        raise DeployError("deployments need a Prefect server: `prefect server start`, then "
                          "export PREFECT_API_URL=http://127.0.0.1:4200/api")
    embedded.check(server)
    from flows.deploy import configured_file
    from flows.deploy import deploy as deployed

    config = configured(config_file, store)
    changes = deployed(config, configured_file(config_file), store, name=name, dry_run=dry_run)
    if as_json:
        print_json([vars(change) for change in changes])
        return
    for change in changes:
        click.echo(f"{change.action:<6}  {change.kind} {printable(change.name)}")
        if change.action == "change":
            for detail in change.details:
                click.echo(f"          {printable(detail)}")
    if dry_run:
        click.echo("nothing was changed")
    else:
        click.echo("a worker, where the store is seen, runs them: "
                   f"prefect worker start --pool {config.deploy.pool}")
