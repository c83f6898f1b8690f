"""Command ablate: what a setting, or the chance of a seed, does to the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import click

from simsong.cli.flows import in_prefect
from simsong.cli.options import common, configured, json_option, print_json, print_table
from simsong.cli.show import interval, who_ask
from simsong.config import Loss
from simsong.errors import ConfigError

WITHIN = (("wns", "ns"), ("wns", "wns_shuffled"), ("wns", "mfcc"), ("ns", "mfcc"), ("mfcc", "random"))


@click.command()
@click.option("--over", multiple=True, metavar="KEY=V1,V2",
              help="A setting and its values, e.g. trim.mode=none,structure. (Repeatable: all combinations.)")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 100),
              help="Trainings of each variant.")
@click.option("--losses", metavar="L1,L2", help="Which to train: ns, wns, wns_shuffled. (Default: the "
              "configuration's.)")
@click.option("--folds", type=click.IntRange(2, 1000), metavar="N",
              help="Hold out each of N folds of artists in turn, and let all songs ask. (Default: those that "
              "the configuration holds out.)")
@click.option("--name", help="Of the study. (Default: the settings' names.)")
@click.option("--wait", is_flag=True, help="Wait where another process is writing to the store.")
@common
@json_option
def ablate(over: tuple[str, ...], seeds: int, losses: str | None, folds: int | None, name: str | None,
           wait: bool, config_file: str | None, store: str | None, as_json: bool) -> None:
    """Train variants of the configuration, each with several seeds, and compare them, with intervals.

    Nothing is fetched, and the store's own models stay as they are. What is finished is not trained again: a
    study may be interrupted, or be given further seeds and values. `simsong report` shows it.
    """
    from simsong.studies.study import plan_study
    from storage.reports import STUDIES
    from storage.side import root_of
    from storage.store import Store

    config = configured(config_file, store)
    flags: dict[str, Any] = {"store": store}
    values, trained = _over(over), _losses(losses)
    study = plan_study(config_file, flags, values, seeds, trained, name, folds)
    root_of(Store.open(config.store))
    in_prefect("ablate", config_file, flags, wait, over=values, seeds=seeds, losses=trained, name=name,
               folds=folds)
    figures = Store.open(config.store).get_json(f"{STUDIES}/{study.name}.json")
    assert figures is not None
    if as_json:
        print_json(figures)
    else:
        show_study(figures)


def _over(words: Sequence[str]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for word in words:
        key, is_there, values = word.partition("=")
        if not is_there or not key or not all(value.strip() for value in values.split(",")):
            raise ConfigError(f"--over {word}: it is to be KEY=V1,V2, e.g. trim.mode=none,structure")
        out.setdefault(key.strip(), []).extend(value.strip() for value in values.split(","))
    return out


def _losses(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in get_args(Loss) or names.count(name) > 1:
            raise ConfigError(f"--losses {text}: some of {', '.join(get_args(Loss))}, each once")
    return names


def show_study(study: Mapping[str, Any]) -> None:
    """Each method of each variant, and the differences that matter most, over all seeds."""
    protocol, metric = study["protocol"], study["metric"]
    left = f", {protocol['left_out']} that not all variants share left out" if protocol["left_out"] else ""
    click.echo(f"study {study['name']}, seeds {', '.join(map(str, study['seeds']))}; ground truth: "
               f"{protocol['ground_truth']}; {protocol['queries']} queries{who_ask(protocol)}{left}")
    spread = study["sd_log_w"]
    rows = [(variant["label"], method, interval(figures.get(metric)),
             _number(spread.get(f"{variant['label']}/{method}")))
            for variant in study["variants"] for method, figures in variant["methods"].items()]
    print_table(("variant", "method", metric, "sd(log w)"), rows)
    rows = [(_side(row["a"], study), _side(row["b"], study), interval(row["metrics"].get(metric)),
             _certain(row["metrics"].get(metric))) for row in study["differences"] if _shown(row)]
    print_table(("difference of", "from", metric, "interval without 0"), rows)


def _shown(row: Mapping[str, Any]) -> bool:
    """Between variants all differences; within one those that say whether learning, and lyrics, help."""
    (variant, _, a), (other, _, b) = row["a"].rpartition("/"), row["b"].rpartition("/")
    return variant != other or (a, b) in WITHIN


def _side(name: str, study: Mapping[str, Any]) -> str:
    """Without the variant's name where there is only one."""
    return name.rpartition("/")[2] if len(study["variants"]) == 1 else name


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _certain(difference: Mapping[str, Any] | None) -> str:
    if not difference or difference["low"] is None:
        return ""
    return "yes" if difference["low"] > 0 or difference["high"] < 0 else "no"
