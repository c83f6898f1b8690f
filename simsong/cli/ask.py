"""Commands that ask how a store is: status, catalogue. They import neither Prefect nor torch."""

from __future__ import annotations

import time
from datetime import datetime

import click

from simsong.care.account import account
from simsong.care.facts import catalogue_of
from simsong.care.status import failures_of, last_runs, stages_of
from simsong.cli.catalogue import show_catalogue
from simsong.cli.options import common, configured, json_option, options_of_store, print_json, print_table
from simsong.cli.show import show_failures, show_funnel
from storage.store import Store

WATCH_S = 5.0


@click.command()
@click.option("--watch", is_flag=True, help="Again every few seconds, until Ctrl-C.")
@common
@json_option
def status(watch: bool, config_file: str | None, store: str | None, as_json: bool) -> None:
    """The funnel: songs done, failed by reason and pending, a stage; the last runs; what failed for which
    reason, whether it is worth another try, and the command for it."""
    if watch and as_json:
        raise click.UsageError("--watch is for people, --json for programs")
    while True:
        if watch:
            click.clear()
        _show_status(config_file, store, as_json)
        if not watch:
            return
        click.echo(f"{datetime.now().astimezone():%H:%M:%S}; Ctrl-C ends it")
        time.sleep(WATCH_S)


def _show_status(config_file: str | None, store: str | None, as_json: bool) -> None:
    config = configured(config_file, store)
    opened = Store.open(config.store)
    stages, runs, songs = stages_of(opened), last_runs(opened, 5), account(opened)
    failed = failures_of(opened, config.network.attempts, options_of_store(config_file, store))
    if as_json:
        print_json({"store": opened.backend.url, "songs": songs.as_json(), "stages": stages,
                    "failures": failed, "runs": runs})
        return
    click.echo(str(songs))
    show_funnel(stages)
    show_failures(failed)
    rows = [(run["flow"], run["at"], f"{run['seconds']:.0f}",
             sum(work["parts_computed"] for work in run["stages"].values()), run["error"]) for run in runs]
    print_table(("run", "began (UTC)", "s", "parts new", "error"), rows, right=(2, 3))


@click.command()
@common
@json_option
def catalogue(config_file: str | None, store: str | None, as_json: bool) -> None:
    """What was ingested: rows, joins, coverage, what was dropped and why."""
    facts = catalogue_of(Store.open(configured(config_file, store).store))
    if as_json:
        print_json(facts)
    else:
        show_catalogue(facts)
