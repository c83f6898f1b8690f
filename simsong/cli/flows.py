"""Commands that run flows: run, ingest, refresh, train, publish, retry, report."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from simsong.care.status import stages_of
from simsong.cli.failures import as_simsong_error
from simsong.cli.options import common, configured, demo_option, json_option, print_json, print_table
from simsong.cli.show import show_evaluation, show_funnel, show_neighbours
from simsong.cli.signals import end, end_at_signals
from simsong.config import Config, absolute
from simsong.config_loader import load
from simsong.errors import ConfigError, PrefectError, SimSongError, StoreError
from simsong.parts.stages import FUNNEL, stages_from

FETCHING = ("fetch_audio", "fetch_lyrics")      # the stages that ask the world
SOURCES = {"folder": "A folder of music as the catalogue.",
           "table": "A CSV or Parquet file with artist and title.",
           "msd": "The Million Song Dataset, in any of its forms.",
           "lastfm": "Last.fm's tags and similars for it.",
           "genres": "Genres of its tracks (tagtraum's, LabROSA's).",
           "musixmatch": "Bags of words of its lyrics.",
           "subsonic": "A music server: http://host:port; SUBSONIC_USER and SUBSONIC_PASSWORD let in."}


def flow_options(command: Any) -> Any:
    """Those of every command that runs a flow; what `run_flow` takes."""
    for option in reversed((
            *(click.option(f"--{name}", metavar="PATH", multiple=True, help=help + " (Repeatable.)")
              for name, help in SOURCES.items()),
            demo_option,
            click.option("--limit", type=int, metavar="N", help="That many songs, the same ones each time."),
            click.option("--no-audio", is_flag=True,
                         help="Fetch none: place the songs by MSD's timbre, which the catalogue holds."),
            click.option("--wait", is_flag=True, help="Wait where another process is writing to the store."),
            json_option)):
        command = option(command)
    return common(command)


yes_option = click.option(
    "--yes", is_flag=True, help="Go on even if that is over 1,000 downloads (which are counted before), or "
                                "the catalogue loses more than a fifth of its songs.")


def _plan_options(command: Any) -> Any:
    for option in (
            yes_option,
            click.option("--plan", "--dry-run", "plan_only", is_flag=True,
                         help="Only say what would be done: songs, requests, hours, disk. Fetches and writes "
                              "nothing. Reads the sources if they have changed, as ingest does.")):
        command = option(command)
    return command


def _refetch_options(command: Any) -> Any:
    for option in (
            click.option("--track", "tracks", multiple=True, metavar="ID",
                         help="With --refetch: only this song (repeatable)."),
            click.option("--stage", "stages", multiple=True, type=click.Choice(FETCHING),
                         help="With --refetch: only at this stage (repeatable)."),
            click.option("--refetch", is_flag=True,
                         help="Ask again for songs that were fetched, too; what the store has of them stays "
                              "until there is something new.")):
        command = option(command)
    return command


@click.command()
@flow_options
@_plan_options
@_refetch_options
@click.option("--from", "first", type=click.Choice(FUNNEL), metavar="STAGE",
              help="Only this stage and those that follow from it; --plan says what these would compute, and "
                   "why.")
@click.option("--only", type=click.Choice(FUNNEL), metavar="STAGE", help="Only this stage.")
@click.option("--shards", metavar="3-7", help="Only these parts of the catalogue: numbers and ranges.")
@click.option("--train", "force_train", is_flag=True, help="Train again if anything is new.")
def run(refetch: bool, stages: tuple[str, ...], tracks: tuple[str, ...], first: str | None,
        only: str | None, shards: str | None, **options: Any) -> None:
    """Refresh, train and publish: everything that is new."""
    before = _refetching(refetch, stages, tracks, options)
    if first is None and only is None and shards is None:
        run_flow("pipeline", before=before, **options)
        return
    if first and only:
        raise click.UsageError("--from and --only are two ways to say which stages")
    if refetch:
        raise click.UsageError("--refetch is for all stages: leave --from, --only and --shards away")
    selection = {only} if only else stages_from(first) if first else set(FUNNEL)
    numbers = _numbers(shards) if shards else None
    run_flow("rerun", chosen={"stages": [name for name in FUNNEL if name in selection], "shards": numbers},
             **options)


def _numbers(text: str) -> list[int]:
    """Of "3-7,9". Raises: ConfigError."""
    numbers: list[int] = []
    for word in text.split(","):
        first, dash, last = word.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ConfigError(f"--shards {text}: give numbers and ranges of shards, such as 3-7 or 0,4,9-12")
        numbers += range(int(first), int(last if dash else first) + 1)
    return numbers


@click.command()
@flow_options
@yes_option
def ingest(**options: Any) -> None:
    """Read the catalogue alone; `simsong catalogue` shows what came of it."""
    run_flow("ingest_catalogue", **options)


@click.command()
@flow_options
@_plan_options
@_refetch_options
def refresh(refetch: bool, stages: tuple[str, ...], tracks: tuple[str, ...], **options: Any) -> None:
    """Ingest the catalogue; fetch, trim, segment; embed the lyrics."""
    run_flow("refresh", before=_refetching(refetch, stages, tracks, options), **options)


def _refetching(refetch: bool, stages: tuple[str, ...], tracks: tuple[str, ...],
                options: dict[str, Any]) -> Callable[[Config], None] | None:
    """What marks the songs to fetch again, before a run. Raises: UsageError."""
    if not refetch:
        if stages or tracks:
            raise click.UsageError("--stage and --track say what --refetch asks for again")
        return None
    if options["plan_only"]:
        raise click.UsageError("--plan tells of a refresh without --refetch")

    def mark(config: Config) -> None:
        from simsong.care.plan import MOST_DOWNLOADS
        from simsong.care.reopen import fetched_songs
        from simsong.care.reopen import refetch as marked
        from storage.store import Store

        names = stages or FETCHING
        store = Store.open(config.store)            # there must be one: `writing` would make it
        downloads = len(fetched_songs(store, tracks)) if "fetch_audio" in names else 0
        if downloads > MOST_DOWNLOADS and not options["yes"]:
            raise ConfigError(f"--refetch: {downloads:,} downloads; begin them with --yes, or take fewer "
                              "songs with --track ID")
        with Store.writing(config.store, options["wait"]) as writer:
            reopened = marked(writer, names, tracks)
        count = len(reopened.songs | reopened.pending)
        if not count:
            raise StoreError("nothing to fetch again: no such song has been asked for (`simsong status`)")
        click.echo(f"{count} song{'s' * (count > 1)} to ask for again", err=True)

    return mark


@click.command()
@flow_options
@click.option("--train", "force_train", is_flag=True, help="Train again if anything is new.")
def train(**options: Any) -> None:
    """Train the models, if there are none yet or enough is new."""
    run_flow("train_models", **options)


@click.command()
@flow_options
def publish(**options: Any) -> None:
    """Embed, export, evaluate, report."""
    run_flow("publish", **options)


@click.command()
@flow_options
@click.option("--stage", required=True, help="Of which stage, e.g. fetch_audio.")
@click.option("--reason", "reasons", multiple=True,
              help="That failed for this reason (repeatable; default: for any, also a lasting one).")
@click.option("--track", "tracks", multiple=True, metavar="ID", help="Only this song (repeatable).")
@click.option("--older-than", metavar="AGE", help="That failed before an age (7d, 12h) or a date (of UTC).")
@yes_option
def retry(stage: str, reasons: tuple[str, ...], tracks: tuple[str, ...], older_than: str | None,
          **options: Any) -> None:
    """Try failed songs again, those alone.

    Songs are chosen by all the conditions together. Those that are pending are not counted: any run tries
    them. `simsong status` tells what failed, and what is worth another try.
    """
    def reopened(config: Config) -> None:
        from simsong.care.reopen import Chosen, moment, reopen
        from storage.store import Store

        selection = Chosen(stage, reasons, tracks, moment(older_than) if older_than else None)
        Store.open(config.store)            # there must be one: `writing` would make it
        with Store.writing(config.store, options["wait"]) as store:
            songs_reopened = reopen(store, selection)
        again = songs_reopened.songs
        if options["yes"] and not again:        # marked by a retry that was refused for want of it
            again = songs_reopened.pending
        if not again:
            waiting = len(songs_reopened.pending)
            pending = f"; {waiting} pending, which any run tries" if waiting else ""
            raise StoreError(f"nothing to try again: no such song failed at {stage}{pending} "
                             "(`simsong status` tells what did)")
        click.echo(f"{len(again)} song{'s' * (len(again) > 1)} to try again", err=True)

    run_flow("pipeline", before=reopened, **options)


@click.command()
@flow_options
def report(**options: Any) -> None:
    """The page: funnel, curves, recall, map, neighbours. Prints its path."""
    run_flow("publish", only="report", **options)


def run_flow(flow: str, *, config_file: str | None, store: str | None, demo: bool, limit: int | None,
             wait: bool, as_json: bool, no_audio: bool = False, force_train: bool = False,
             only: str | None = None, plan_only: bool = False, yes: bool | None = None, before: Any = None,
             chosen: dict[str, Any] | None = None, **sources: tuple[str, ...]) -> None:
    """Run a flow, and tell what came of it: of all, or of `only` the evaluation or the report.

    Args: chosen: of the flow `rerun`, its `stages` and `shards`.
    """
    start = time.monotonic()
    named = {name: [absolute(path) for path in paths] for name, paths in sources.items() if paths}
    flags: dict[str, Any] = {"store": store, "sources": named,
                             "catalogue": {"limit": limit}, "fetch": {"audio": False if no_audio else None},
                             "training": {"retrain_at": 0 if force_train else None},
                             "run": {"may_shrink": yes or None}}
    with ExitStack() as stack:
        if demo:
            config_file = stack.enter_context(_demo(config_file, store))
        config = configured(config_file, **flags)
        if before:
            before(config)
        _check_beginning(flow, config)
        if chosen and chosen["shards"] is not None:
            _check_shards(config, chosen["shards"])
        if plan_only:
            if chosen:
                _show_due(config, as_json, **chosen)
            else:
                _show_plan(config, as_json)
            return
        if yes is False and flow != "ingest_catalogue":
            _need_consent(config)
        if flow in ("pipeline", "refresh") and config.fetch.audio:
            _say_missing(config)
        problem: SimSongError | None = None
        try:
            in_prefect(flow, config_file, flags, wait, **(chosen or {}))
        except SimSongError as error:
            problem = error
            if isinstance(error, PrefectError) or not _has_store(config):
                raise
    result = {"store": config.store, **_facts(config), "seconds": round(time.monotonic() - start, 1)}
    if problem:
        result["error"] = str(problem)
    if as_json:
        print_json(result["evaluation"] if only == "evaluation" and not problem else result, line=True)
    elif only == "report":
        click.echo(result["report"])
    elif only == "evaluation":
        show_evaluation(config)
    else:
        show_funnel(result["stages"])
        if not problem and flow in ("pipeline", "publish"):
            show_evaluation(config)
            show_neighbours(config)
            if result["choice"]:
                click.echo(result["choice"])
            click.echo(f"report  {result['report']}")
        click.echo(f"store   {config.store}\ntook    {result['seconds']:.0f} s")
    if problem:
        raise problem


def _say_missing(config: Config) -> None:
    from simsong.parts.stages import missing_network

    if missing := missing_network(config):
        click.echo(missing, err=True)


def _check_beginning(flow: str, config: Config) -> None:
    """A mistake in the store's or the sources' names makes no store. Raises: SimSongError."""
    from storage.store import Store

    if flow in ("pipeline", "refresh", "ingest_catalogue"):
        from simsong.care.plan import opened
        from simsong.catalogue.known import sources_of

        sources_of(opened(config), config)
    else:
        Store.open(config.store)


def _show_plan(config: Config, as_json: bool) -> None:
    from simsong.care import plan as care
    from simsong.cli import plan
    from simsong.progress import bars

    with bars():
        refresh = care.plan(config)
    assert refresh is not None
    if as_json:
        print_json(plan.as_json(refresh))
    else:
        plan.show_plan(refresh)


def _check_shards(config: Config, shards: list[int]) -> None:
    from storage.catalogue import Catalogue
    from storage.store import Store

    there = Catalogue(Store.open(config.store)).shards
    if unknown := sorted(set(shards) - set(there)):
        have = f"there are {there[0]} to {there[-1]}" if there else "there are none"
        raise ConfigError(f"--shards: the catalogue has no shard {unknown[0]}; {have}")


def _show_due(config: Config, as_json: bool, stages: list[str], shards: list[int] | None) -> None:
    from simsong.care.due import due
    from storage.store import Store

    parts = list(due(Store.open(config.store), config, stages, shards))
    if as_json:
        print_json([vars(one) for one in parts])
        return
    if not parts:
        click.echo("nothing would be computed")
        return
    print_table(("stage", "shard", "model", "songs", "why"),
                [(one.stage, one.shard, one.label, one.songs, one.why) for one in parts], right=(1, 3))
    click.echo(f"{len(parts)} parts would be computed, or looked at as they follow; nothing was written")


def _need_consent(config: Config) -> None:
    from simsong.care.plan import need_consent
    from simsong.progress import bars

    with bars():
        need_consent(config)


def in_prefect(flow: str, config_file: str | None, flags: dict[str, Any], wait: bool, **more: Any) -> None:
    """Run a flow on the Prefect server that is configured, else on one of its own.

    Raises: PrefectError where the server cannot be used; MachineError; what the flow raises.
    """
    quiet = quiet_prefect()
    from flows import embedded
    from simsong.progress import bars

    click.echo("starting Prefect …", err=True)
    end_at_signals(embedded.stop)
    if (note := embedded.settle_home()) is not None:
        click.echo(f"simsong: {note}", err=True)
    embedded.start(lambda line: end(
        f"{line}; nothing finished is lost: the same command again goes on from here", 1, embedded.stop))
    from flows import ablation, pipeline

    if quiet:
        for runs in ("flow", "task"):
            logging.getLogger(f"prefect.{runs}_runs").propagate = False
    logging.raiseExceptions = False         # a server that has gone is told of once, not by each line logged
    try:
        with bars():
            getattr(ablation if flow == "ablate" else pipeline, flow)(config_file, flags, wait, **more)
    except SimSongError:
        raise
    except Exception as error:
        if not isinstance(error, OSError):
            embedded.check_again()      # it says best itself whether it is the cause
        if (failure := as_simsong_error(error, load(config_file, flags).store)) is None:
            raise
        raise failure from None


def quiet_prefect() -> bool:
    """Before Prefect is imported. A terminal gets the account at the end and progress on the way, Prefect's
    server the log; for one on the terminal there is PREFECT_LOGGING_LEVEL=INFO. Returns: whether there is
    none."""
    if quiet := "PREFECT_LOGGING_LEVEL" not in os.environ:
        os.environ["PREFECT_LOGGING_LEVEL"] = "CRITICAL"
        for runs in ("FLOW", "TASK"):
            os.environ.setdefault(f"PREFECT_LOGGING_LOGGERS_PREFECT_{runs}_RUNS_LEVEL", "INFO")
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", os.environ["PREFECT_LOGGING_LEVEL"])
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    return quiet


@contextmanager
def _demo(config_file: str | None, store: str | None) -> Iterator[str]:
    """Make and serve the demo world; gives the configuration file that uses it."""
    try:
        from simsong.demo.setup import demo_world
    except ModuleNotFoundError as error:
        if error.name != "simsong.demo":
            raise
        raise ConfigError("--demo: the demo world is not in the installed package; run `make demo` in a "
                          "clone of the repository") from None

    with demo_world(configured(config_file, store).demo, Path("simsong-demo")) as file:
        yield str(file)


def _facts(config: Config) -> dict[str, Any]:
    from simsong.registry.published import choice_sentence
    from storage.reports import EVALUATION, REPORT
    from storage.store import Store

    store = Store.open(config.store)
    evaluation = store.get_json(EVALUATION)
    page = Path(config.store) / REPORT
    return {"stages": stages_of(store), "choice": choice_sentence(store, config),
            "evaluation": evaluation["methods"] if evaluation else {},
            "report": str(page) if page.exists() else None}


def _has_store(config: Config) -> bool:
    from simsong.care.plan import opened

    return opened(config) is not None
