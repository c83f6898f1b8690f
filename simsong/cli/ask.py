"""Commands that ask how a store is: status, catalogue. They import neither Prefect nor torch."""

from __future__ import annotations

import click

from simsong.care.facts import catalogue_of
from simsong.care.status import failures_of, last_runs, stages_of
from simsong.cli.catalogue import show_catalogue
from simsong.cli.options import common, configured, given, json_option, print_json, print_table
from simsong.cli.show import show_failures, show_funnel
from storage.store import Store


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


COMMANDS = (status, catalogue)
