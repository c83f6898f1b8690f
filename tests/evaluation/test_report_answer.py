"""The opening's answers: claims where the numbers allow them, and the reason where they do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from simsong.config import EvaluationSettings
from simsong.evaluation.evaluate import evaluate_queries
from simsong.evaluation.ground_truth import EvaluationSongs, from_same_artist
from simsong.evaluation.report import ReportData, render
from simsong.evaluation.report.answer import Answer, Opening, answers
from simsong.evaluation.report.studies import between, comparisons, shown_studies
from simsong.evaluation.report.verdicts import verdicts
from simsong.evaluation.study import RunFigures, compare
from tests.report_pages import Page, study_of

EMPTY = ReportData("store", datetime(2026, 1, 1, tzinfo=UTC), "Songs.", False)


def protocol(queries: int) -> dict[str, Any]:
    return {"claim": queries >= 100,
            "pools": {"everything": {"queries": queries, "artist_filter": {"queries": 40}}, "held_out": None}}


@pytest.mark.parametrize(("queries", "cell", "text", "claim"), [
    (100, (0.031, 0.012, 0.05), "WNS beats NS by 0.031 [0.012, 0.050]", True),
    (100, (-0.031, -0.05, -0.012), "NS beats WNS by 0.031 [0.012, 0.050]", True),
    (100, (0.031, -0.002, 0.06), "No claim: the interval includes 0", False),
    (99, (0.031, 0.012, 0.05), "No claim: 99 queries, and a claim needs 100", False),
    (100, (0.031, None, None), "No claim: there is no interval", False),
])
def test_verdicts_claim_what_the_interval_allows(queries: int, cell: tuple[float, float | None, float | None],
                                                 text: str, claim: bool):
    row = dict(zip(("value", "low", "high"), cell, strict=True))
    compared = verdicts({"protocol": protocol(queries), "methods": {"wns": {}, "ns": {}},
                         "differences": {"wns-ns": {"recall@10": row, "artist_filter": {"recall@10": row}}}})
    assert [(v.text, v.claim, v.pair) for v in compared] == [(text, claim, "WNS − NS")]


def test_a_verdict_counts_the_queries_of_its_own_setting():
    row = {"value": 0.2, "low": 0.1, "high": 0.3}
    compared = verdicts({"protocol": protocol(500), "methods": {"my-net": {}, "random": {}}, "differences": {
        "my-net-random": {"recall@10": row, "artist_filter": {"recall@10": row}}}}, ("artist_filter",))
    assert (compared[0].claim, compared[0].pair) == (False, "my-net − Random")


def evaluation(queries: int = 120, *, truth: str = "similars", transductive: bool = False,
               **differences: tuple[float, float, float]) -> dict[str, Any]:
    """`evaluate`'s recall@10: WNS 0.25, NS 0.2, MFCC 0.1, random 0.02, and filtered half of it."""
    def cell(value: float, low: float, high: float) -> dict[str, Any]:
        return {"value": value, "low": low, "high": high}

    def row(*estimate: float) -> dict[str, Any]:
        return {"recall@10": cell(*estimate),
                "artist_filter": {"recall@10": cell(*(v / 2 for v in estimate))}}

    values = {"wns": 0.25, "ns": 0.2, "mfcc": 0.1, "random": 0.02}
    pairs = {"wns_ns": (0.05, 0.03, 0.07), "wns_mfcc": (0.15, 0.1, 0.2), "ns_mfcc": (0.1, 0.06, 0.14)}
    pool = {"queries": queries, "query_artists": 30, "artist_filter": {"queries": queries}}
    return {
        "protocol": {"ground_truth": truth, "similar_at": 0.1, "without_artist": False, "candidates": 400,
                     "songs": 410, "queries": queries, "query_artists": 30, "transductive": transductive,
                     "claim": queries >= 100, "ks": [1, 10], "pools": {"everything": pool, "held_out": None}},
        "methods": {name: row(value, value - 0.02, value + 0.02) for name, value in values.items()},
        "differences": {name.replace("_", "-"): row(*estimate) for name,
                        estimate in (pairs | differences).items()}}


def opening(**given: Any) -> Opening:
    opening = answers(replace(EMPTY, **given))
    assert opening is not None
    return opening


def wns(**given: Any) -> Answer:
    return opening(**given).answers[-1]


def test_an_empty_store_has_no_answer():
    assert answers(EMPTY) is None


def test_what_was_asked_is_said():
    said = " ".join(opening(evaluation=evaluation()).protocol)
    assert "Each of 120 songs by 30 artists asks for the songs most like it among 400." in said
    assert "with a score of at least 0.1" in said and "among the first 10" in said
    assert "Training never heard the artists that ask." in said
    untrained = evaluation(truth="same artist")
    untrained["protocol"]["trained"] = False
    said = " ".join(opening(evaluation=untrained).protocol)
    assert "Nothing is trained" in said and "Transductive" not in said and "never heard" not in said
    said = " ".join(opening(evaluation=evaluation(truth="same artist", transductive=True)).protocol)
    assert "the other songs by its artist" in said and said.count("Transductive") == 1


def test_queries_that_were_drawn_are_said_to_be():
    given = evaluation()
    given["protocol"]["askable"] = 5000
    line = opening(evaluation=given).protocol[0]
    assert "120 songs by 30 artists, drawn at random from 5,000, asks" in line


def test_learning_is_compared_with_the_best_that_learns_nothing():
    answer = opening(evaluation=evaluation()).answers[0]
    assert (answer.short, answer.kind) == ("Yes", "yes")
    assert "WNS 0.250 [0.230, 0.270] and NS 0.200" in answer.text
    assert "the best that learns nothing, MFCC 0.100" in answer.text
    assert "WNS beats MFCC by 0.150 [0.100, 0.200]. NS beats MFCC by 0.100 [0.060, 0.140]." in answer.text
    assert "own artist do not count: WNS beats MFCC by 0.075 [0.050, 0.100]" in answer.text


def test_the_artist_filter_is_not_told_of_few_queries():
    given = evaluation()
    assert "own artist do not count" in opening(evaluation=given).answers[0].text
    given["protocol"]["pools"]["everything"]["artist_filter"]["queries"] = 60
    page_opening = opening(evaluation=given)
    assert "own artist" not in page_opening.answers[0].text + " ".join(page_opening.doubts)


@pytest.mark.parametrize(("queries", "cell", "short", "text"), [
    (120, (-0.1, -0.15, -0.05), "No", "MFCC beats WNS by 0.100 [0.050, 0.150]"),
    (120, (0.02, -0.01, 0.05), "No claim",
     "NS beats MFCC by 0.100 [0.060, 0.140]. WNS − MFCC is 0.020 [−0.010, 0.050] (no claim: the interval "
     "includes 0)."),
    (80, (0.1, 0.05, 0.15), "No claim",
     "WNS − MFCC is 0.100 [0.050, 0.150] and NS − MFCC is 0.100 [0.060, 0.140] (no claim: 80 queries, and a "
     "claim needs 100)."),
])
def test_learning_need_not_win(queries: int, cell: tuple[float, float, float], short: str, text: str):
    answer = opening(evaluation=evaluation(queries, wns_mfcc=cell)).answers[0]
    assert answer.short == short and text in answer.text


def test_without_a_model_there_is_nothing_to_claim():
    given = evaluation()
    given["methods"] = {name: given["methods"][name] for name in ("mfcc", "random")}
    given["differences"] = {}
    assert [a.short for a in opening(evaluation=given).answers] == ["No claim", "No claim"]
    assert "no trained model" in opening(evaluation=given).answers[0].text


def test_one_run_claims_nothing_of_wns_over_ns():
    answer = wns(evaluation=evaluation())
    assert answer.short == "No claim"
    assert answer.text.startswith(
        "In this run, over 120 queries by 30 artists, WNS found more than NS, by 0.050 [0.030, 0.070]. But")
    assert "each was trained once" in answer.text and "at least 3 seeds" in answer.text
    answer = wns(evaluation=evaluation(wns_ns=(-0.05, -0.07, -0.03)))
    assert answer.short == "No claim" and "artists, NS found more than WNS, by 0.050" in answer.text
    answer = wns(evaluation=evaluation(wns_ns=(0.01, -0.01, 0.03)))
    assert answer.text == "In this run, over 120 queries by 30 artists: WNS − NS is 0.010 [−0.010, 0.030] " \
                         "(no claim: the interval includes 0)."


@pytest.mark.parametrize(("given", "short", "text"), [
    ({}, "Yes", "over 120 queries by 30 artists and 5 seeds: WNS beats NS by 0.021 [0.008, 0.034]. The "
                "lyrics are the reason: with them dealt out at random among the songs, it finds less (WNS is "
                "ahead by 0.018 [0.006, 0.031])."),
    ({"of_shuffled": None}, "Yes", "Whether the lyrics are the reason is open"),
    ({"of_shuffled": (0.01, -0.002, 0.02)}, "No claim",
     "it does not beat WNS with the lyrics shuffled (difference 0.010 [−0.002, 0.020])"),
    ({"of_shuffled": (-0.01, -0.02, -0.002)}, "No claim", "does not beat WNS with the lyrics shuffled"),
    ({"ahead": (-0.02, -0.03, -0.01)}, "No", "NS beats WNS by 0.020 [0.010, 0.030]"),
    ({"ahead": (0.02, -0.01, 0.05)}, "No claim",
     "WNS − NS is 0.020 [−0.010, 0.050] (no claim: the interval includes 0)."),
    ({"seeds": 2}, "No claim", "2 seeds: WNS beats NS by 0.021 [0.008, 0.034]. But a claim needs 3 seeds."),
    ({"queries": 60}, "No claim", "(no claim: 60 queries, and a claim needs 100)"),
])
def test_a_study_answers_whatever_the_one_run_says(given: dict[str, Any], short: str, text: str):
    study = study_of("seeds", ["as it is"], **given)
    answer = wns(evaluation=evaluation(wns_ns=(-0.05, -0.07, -0.03)), studies=[study])
    assert answer.short == short and text in answer.text
    assert answer.text.startswith("Study “seeds”, over ") and "In this run" not in answer.text


def test_the_study_with_most_seeds_answers():
    few, many = study_of("few", ["a"], seeds=2), study_of("many", ["a"], seeds=5)
    assert wns(studies=[few, many]).text == wns(studies=[many, few]).text
    assert wns(studies=[few, many]).text.startswith("Study “many”, over ")


def test_a_study_without_the_two_leaves_the_answer_to_the_run():
    study = study_of("mfcc alone", ["a"])
    study["differences"] = [row for row in study["differences"] if row["b"].endswith("untrained")]
    assert "In this run" in wns(evaluation=evaluation(), studies=[study]).text


def test_the_variants_of_a_study_are_counted():
    study = study_of("segments.trim", ["none", "fixed", "structure"])
    study["differences"][-5]["metrics"]["recall@10"] |= {"value": -0.02, "low": -0.03, "high": -0.01}
    assert study["differences"][-5]["a"] == "structure/wns"
    answer = wns(studies=[study])
    assert "variant “none”" in answer.text
    assert "Of its 3 variants, WNS beats NS in 2, and NS beats WNS in 1." in answer.text


def test_a_narrow_prior_is_said_to_weigh_nothing():
    study = study_of("seeds", ["a"])
    assert "sd(log w) = 0.52." in wns(studies=[study]).text
    study["sd_log_w"] = {"a/wns": 0.12}
    assert "sd(log w) = 0.12, too little to weigh" in wns(studies=[study]).text


def test_a_difference_may_stand_the_other_way_round():
    study = study_of("seeds", ["a"])
    for row in study["differences"]:
        row["a"], row["b"] = row["b"], row["a"]
    result = between(study, "a", "wns", "ns")
    assert result is not None and (result.value, result.low, result.high) == (-0.021, -0.034, -0.008)
    assert wns(studies=[study]).short == "No"


def test_labels_of_variants_may_hold_a_slash():
    study = study_of("model.pretrained", ["a/b", "c/d"])
    labels = {(c.variant, c.other) for c in comparisons(study)}
    assert labels == {("a/b", "a/b"), ("c/d", "c/d"), ("c/d", "a/b")}
    assert [c.pair for c in comparisons(study) if c.variant != c.other] == ["c/d − a/b"]
    shown, = shown_studies([study])
    assert [name for name, *_ in shown["forests"]] == [
        "Which variant is better", "Which method is better: a/b", "Which method is better: c/d"]
    assert shown["variants"][0]["rows"][3]["sd_log_w"] == 0.52


def test_doubts_are_told():
    card = {"loss": "wns", "warnings": ["sd(log w) is 0.10, under 0.3"]}
    doubts = " ".join(opening(evaluation=evaluation(60, truth="same artist"), training=[card],
                              synthetic=True).doubts)
    said = wns(evaluation=evaluation(), synthetic=True).text
    assert said.startswith("Synthetic songs. In this run, over")
    for text in ("songs are synthetic", "fewer than 100 queries", "“same artist” stands in",
                 "count, WNS finds 25 %; where they do not, 12 %", "trained once",
                 "WNS: sd(log w) is 0.10, under 0.3"):
        assert text in doubts, text
    page_opening = opening(evaluation=evaluation(), training=[card], studies=[study_of("s", ["a"])])
    doubts = " ".join(page_opening.doubts)
    for text in ("synthetic", "fewer than", "stands in", "trained once"):
        assert text not in doubts, text


def test_what_compare_gives_is_understood():
    """120 songs of 24 artists; a method hears the artist through noise of its own, drawn anew each seed."""
    rng, artists = np.random.default_rng(0), np.arange(120) // 5
    names = [f"AR{a}" for a in artists]
    songs = EvaluationSongs([f"TR{i}" for i in range(120)], names, names, names, [None] * 120)
    heard = rng.standard_normal((24, 16))[artists]
    config = EvaluationSettings.model_validate({"bootstrap": 100, "ks": [1, 10]})
    runs = []
    for seed in range(3):
        vectors = {name: heard + noise * rng.standard_normal((120, 16))
                   for name, noise in (("ns", 1.6), ("wns", 0.8), ("wns_shuffled", 1.6))}
        _, queries = evaluate_queries(vectors, songs, [from_same_artist(songs)], None, config)
        runs.append(RunFigures("as it is", seed, queries))
    study = {"name": "seeds", "over": {}, "metric": "recall@10", **compare(runs, resamples=200)}
    answer = wns(studies=[study])
    assert answer.short == "Yes" and "over 120 queries by 24 artists and 3 seeds: WNS beats NS" in answer.text
    assert "The lyrics are the reason" in answer.text
    figures = study["differences"][0]["metrics"]["recall@10"]
    assert study["differences"][0]["a"] == "as it is/wns" and f"{figures['value']:.3f}" in answer.text
    assert len(comparisons(study)[0].by_seed) == 3
    assert "Study: seeds" in Page(render(replace(EMPTY, studies=[study]))).words
