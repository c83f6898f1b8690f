"""The page's opening: what was asked, what came out, and how sure that is, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simsong.evaluation.evaluate import CLAIM_QUERIES
from simsong.evaluation.ground_truth import SAME_ARTIST, SAME_GENRE, SIMILAR_ARTISTS, SIMILARS
from simsong.evaluation.report.data import ReportData
from simsong.evaluation.report.studies import Study, between, with_both
from simsong.evaluation.report.verdicts import Verdict, at, counts, headline_metric, sentences, verdicts
from simsong.evaluation.report.words import count, label, listed, number, percent, sized

LEARNED = ("adapted", "wns", "ns")
UNLEARNED = ("musicnn", "pretrained", "mfcc", "timbre", "untrained", "random")
BY_STEPS = ("wns", "ns")        # by a training that draws at random
CLAIM_SEEDS = 3                 # fewer: how much a training's luck weighs is not known
LEAST_SPREAD = 0.3              # sd(log w) under which lyrics hardly weigh (DESIGN 8)
STAND_INS = (SAME_ARTIST, SAME_GENRE)


@dataclass(frozen=True)
class Answer:
    question: str
    short: str                  # Yes, No, No claim
    kind: str                   # yes, no, open
    text: str


@dataclass(frozen=True)
class Opening:
    protocol: list[str]
    answers: list[Answer]
    doubts: list[str]


def answers(report: ReportData) -> Opening | None:
    """None where nothing was evaluated."""
    if report.evaluation is None and not report.studies:
        return None
    learning = [] if report.evaluation is None else [_learning(report.evaluation)]
    protocol_lines = [] if report.evaluation is None else _protocol_lines(report.evaluation["protocol"])
    conclusions = [*learning, _wns(report)]
    if report.synthetic:
        conclusions = [replace(answer, text=f"Synthetic songs. {answer.text}") for answer in conclusions]
    return Opening(protocol_lines, conclusions, _doubts(report))


def truth_of(protocol: Mapping[str, Any]) -> str:
    """What a query should find."""
    name = protocol["ground_truth"]
    if name == SIMILARS:
        return "the songs that the catalogue lists as similar to it, with a score of at least " \
               f"{number(protocol['similar_at'])}"
    return {SIMILAR_ARTISTS: "the songs by artists that the catalogue lists as similar to its own",
            SAME_ARTIST: "the other songs by its artist", SAME_GENRE: "the other songs of its genre"}.get(
                name, f"the songs of the ground truth “{name}”")


def _protocol_lines(protocol: Mapping[str, Any]) -> list[str]:
    queries = f"{count(protocol['queries'], 'song')} by {count(protocol['query_artists'], 'artist')}"
    if (askable := protocol.get("askable", protocol["queries"])) > protocol["queries"]:
        queries += f", drawn at random from {number(askable)},"
    metric = headline_metric(protocol)
    k = metric.partition("@")[2]
    what = f"Each of {queries} asks for the songs most like it among {number(protocol['candidates'])}. It " \
           f"should find {truth_of(protocol)}. The score, {metric}, is the share of those that come among " \
           f"the first {k}."
    if not protocol.get("trained", True):
        return [what, "Nothing is trained yet, so every song may ask."]
    if protocol["transductive"]:
        return [what, "Transductive: training heard the queries' artists too, as the collection is too small "
                "to keep some out. How it does on artists it never heard is not known."]
    return [what, "Training never heard the artists that ask."]


def _learning(evaluation: Mapping[str, Any]) -> Answer:
    """The learned methods against the best of those that learn nothing."""
    question = "Does learning find more than methods that learn nothing?"
    metric, methods = headline_metric(evaluation["protocol"]), evaluation["methods"]
    cells = {name: cell for name, figures in methods.items()
             if (cell := figures.get(metric)) and cell["value"] is not None}
    learned = sorted((m for m in LEARNED if m in cells), key=lambda m: -cells[m]["value"])
    plain = [m for m in UNLEARNED if m in cells]
    if not learned or not plain:
        return Answer(question, "No claim", "open", "There is no trained model yet." if not learned else
                      "There is nothing to compare the trained models with.")
    best = max(plain, key=lambda m: cells[m]["value"])
    whole, filtered = (
        {(v.a, v.b): v for v in verdicts(evaluation, path, metric)} for path in ((), ("artist_filter",)))
    figures = [f"{label(m)} {sized(cells[m])}" for m in (*learned, best)]
    rivals = [v for m in learned if (v := whole.get((m, best)))]
    text = f"{metric}: {listed(figures[:-1])}; the best that learns nothing, {figures[-1]}. " \
           f"{sentences(rivals)}"
    if not rivals:
        return Answer(question, "No claim", "open", f"{text}No paired difference was computed.")
    inner = filtered.get((learned[0], best))
    if inner and _filterable(evaluation["protocol"]):
        text += f" Where songs of the query's own artist do not count: {sentences([inner])}"
    return Answer(question, *_short(rivals[0]), text)


def _wns(report: ReportData) -> Answer:
    """By the study with most seeds, else by the one run."""
    question = "Does WNS beat NS: do lyrics help the sound?"
    studies = [study for study in report.studies if with_both(study)]
    if studies:
        return Answer(question, *_by_study(max(studies, key=lambda study: len(study["seeds"]))))
    evaluation = report.evaluation
    metric = headline_metric(evaluation["protocol"]) if evaluation else ""
    verdict = next((v for v in verdicts(evaluation, (), metric) if (v.a, v.b) == ("wns", "ns")), None) \
        if evaluation else None
    if evaluation is None or verdict is None:
        return Answer(question, "No claim", "open", "They were not compared: that takes both models.")
    how, ahead = _over(evaluation["protocol"]), verdict.ahead
    if not verdict.claim:
        return Answer(question, "No claim", "open", f"In this run, {how}: {sentences([verdict])}")
    return Answer(question, "No claim", "open",
                  f"In this run, {how}, {label(ahead.a)} found more than {label(ahead.b)}, by {ahead.sized}. "
                  "But each was trained once, and with another seed it may be the other way round: a study "
                  f"over at least {CLAIM_SEEDS} seeds, with shuffled lyrics as control, would tell.")


def _by_study(study: Study) -> tuple[str, str, str]:
    """(short, kind, text)"""
    variants, seeds = with_both(study), len(study["seeds"])
    first = variants[0]
    verdict, control = (between(study, first, "wns", other) for other in ("ns", "wns_shuffled"))
    assert verdict is not None
    where = f"Study “{study['name']}”" + (f", variant “{first}”" if len(study["variants"]) > 1 else "")
    text = f"{where}, {_over(study['protocol'])} and {count(seeds, 'seed')}: {sentences([verdict])}"
    tail = _spread(study, first) + _of_the_variants(study, variants)
    if not verdict.claim:
        return "No claim", "open", text + tail
    if seeds < CLAIM_SEEDS:
        return "No claim", "open", f"{text} But a claim needs {CLAIM_SEEDS} seeds.{tail}"
    if verdict.value < 0:
        return "No", "no", text + tail
    short, kind, reason = _by_control(control)
    return short, kind, f"{text} {reason}{tail}"


def _spread(study: Study, variant: str) -> str:
    """How much the lyrics weighed."""
    spread = (study.get("sd_log_w") or {}).get(f"{variant}/wns")
    if spread is None:
        return ""
    return f" The lyrics' weights spread by sd(log w) = {number(spread, 2)}" \
           f"{', too little to weigh' if spread < LEAST_SPREAD else ''}."


def _by_control(control: Verdict | None) -> tuple[str, str, str]:
    """Whether it is the lyrics that make WNS better, by WNS with the lyrics shuffled."""
    if control is None:
        return "Yes", "yes", "Whether the lyrics are the reason is open: WNS with the lyrics shuffled was " \
                             "not trained."
    if control.claim and control.value > 0:
        return "Yes", "yes", "The lyrics are the reason: with them dealt out at random among the songs, it " \
                             f"finds less (WNS is ahead by {control.sized})."
    return "No claim", "open", "But it does not beat WNS with the lyrics shuffled (difference " \
                               f"{control.sized}), so the lyrics are not shown to be the reason."


def _of_the_variants(study: Study, variants: Sequence[str]) -> str:
    if len(variants) < 2:
        return ""
    all_of = [v for name in variants if (v := between(study, name, "wns", "ns"))]
    ahead, behind = (sum(v.claim and v.value * sign > 0 for v in all_of) for sign in (1, -1))
    return f" Of its {len(variants)} variants, WNS beats NS in {ahead}, and NS beats WNS in {behind}."


def _doubts(report: ReportData) -> list[str]:
    """What to keep in mind before believing any of it."""
    out = []
    if report.synthetic:
        out.append("The songs are synthetic: this shows that the machinery works, and nothing of real music.")
    if report.evaluation is not None:
        out += _about_asking(report.evaluation)
    trained = [card for card in report.training if card.get("loss") in BY_STEPS]
    if trained and not report.studies:
        out.append("Each model was trained once. A training has luck of its own, which only several seeds "
                   "show.")
    out += [f"{label(card['loss'])}: {warning}" for card in report.training
            for warning in card.get("warnings") or []]
    return out


def _about_asking(evaluation: Mapping[str, Any]) -> list[str]:
    protocol, out = evaluation["protocol"], []
    if not protocol["claim"]:
        out.append(f"With fewer than {CLAIM_QUERIES} queries these are figures, and no claim rests on them.")
    if protocol["ground_truth"] in STAND_INS:
        out.append(f"The catalogue lists no similar songs, so “{protocol['ground_truth']}” stands in: it is "
                   "easier or harder to find than what people would call similar.")
    metric = headline_metric(protocol)
    best = max((m for m in LEARNED if at(evaluation["methods"], (m, metric, "value")) is not None),
               key=lambda m: evaluation["methods"][m][metric]["value"], default=None)
    inner = at(evaluation["methods"], (best, "artist_filter", metric)) if best else None
    if best and inner and inner["value"] is not None and _filterable(protocol):
        plain = evaluation["methods"][best][metric]["value"]
        out.append("Songs by one artist share voice and studio, which is easily heard. Where those of the "
                   f"query's own artist count, {label(best)} finds {percent(plain)}; where they do not, "
                   f"{percent(inner['value'])}.")
    return out


def _filterable(protocol: Mapping[str, Any]) -> bool:
    """Whether leaving out the query's artist is something else, and leaves most queries something to find."""
    left = counts(protocol, ("artist_filter",))["queries"]
    return not protocol.get("without_artist") and 2 * left > protocol["queries"]


def _short(verdict: Verdict) -> tuple[str, str]:
    if not verdict.claim:
        return "No claim", "open"
    return ("Yes", "yes") if verdict.value > 0 else ("No", "no")


def _over(protocol: Mapping[str, Any]) -> str:
    queries = count(protocol["queries"], "query", "queries")
    return f"over {queries} by {count(protocol['query_artists'], 'artist')}"
