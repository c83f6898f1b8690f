"""The report: one page that asks nobody for anything, escapes what it is given, and claims what the numbers
allow."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from simsong.config import EvaluationSettings
from simsong.evaluation.evaluate import evaluate
from simsong.evaluation.ground_truth import EvaluationSongs, from_same_artist, from_similar_artists
from simsong.evaluation.report import Clip, Neighbours, ReportData, examples, render
from simsong.evaluation.report.words import number
from tests.report_pages import Page, made_up, study_of, without

HOSTILE = '</title><script>alert("x")</script><img src=//evil.example/x onerror=alert(1)>'
ALL = ("funnel", "training", "evaluation", "studies", "songs", "places", "neighbours", "clips", "versions")


@pytest.fixture(scope="module")
def report() -> ReportData:
    return made_up()


@pytest.fixture(scope="module")
def html(report: ReportData) -> str:
    return render(report)


def test_the_page_is_well_formed_and_asks_nobody(html: str):
    page = Page(html)
    assert not {t for t, _ in page.tags} & {"link", "iframe", "img", "object", "embed", "form", "base"}
    for _, attributes in page.tags:
        assert not [a for a in attributes if a.startswith("on") or a in ("href", "srcset", "action")]
        assert (attributes.get("src") or "data:audio/").startswith("data:audio/")
    assert "url(" not in html and "@import" not in html and not re.search(r"https?:", html)
    assert len(html) < 1_500_000


def test_only_its_own_script_runs(html: str):
    """The policy names it by digest, so nothing that a title smuggles in would run either."""
    scripts = re.findall(r"<script>(.*?)</script>", html)
    assert len(scripts) == html.count("<script") == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy"\s+content="([^"]*)"', html)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'" and rules["script-src"] == f"'sha256-{digest}'"
    assert rules["media-src"] == "data:"


def test_the_page_says_what_there_is(report: ReportData, html: str):
    words = Page(html).words
    for text in ("s3://music/simsong-store", "14 March 2026, 15:09 UTC", "PyTorch 2.13.0", "fetch audio",
                 "no_match 38", "rate_limited 19", "WNS", "MFCC", "recall@100", "Among held-out songs",
                 "without the query's artist", "same genre", "600 steps · 400 songs · 30 min", "1,834,752",
                 "priors: lyrics1", "Not every query has every embedding: Lyrics 6", "Study: seeds",
                 "Do the embeddings mean something", "Validation recall@10", "WNS, lyrics shuffled",
                 "my-net"):
        assert text in words, text
    assert "synthetic" not in words and "no claim rests" not in words


def test_its_figures_are_those_of_the_evaluation(report: ReportData, html: str):
    """Every cell of the table of all figures, the first setting."""
    evaluation, words = report.evaluation, Page(html).words
    assert evaluation is not None
    for method, figures in evaluation["methods"].items():
        for metric in ("recall@1", "recall@10", "recall@100", "ndcg@10", "mrr"):
            cell = figures[metric]
            told = f"{number(cell['value'], 3)}[{number(cell['low'], 3)}, {number(cell['high'], 3)}]"
            assert told in words, (method, metric)
    cell = evaluation["methods"]["wns"]["recall@10"]
    assert f"WNS at 10: {cell['value']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]" in html


@pytest.mark.parametrize("missing", [(name,) for name in ALL] + [ALL])
def test_what_is_missing_is_left_out(report: ReportData, missing: tuple[str, ...]):
    words = Page(render(without(report, *missing))).words
    gone = {"funnel": "What was done", "training": "Validation recall@10", "studies": "Study: seeds",
            "evaluation": "Which method is better Among all songs", "songs": "The songs on a map",
            "places": "The songs on a map", "neighbours": "Some songs and their neighbours",
            "clips": "can be heard", "versions": "PyTorch 2.13.0"}
    for name, text in gone.items():
        if name in missing:
            assert text not in words, name
    assert ("Nothing has been evaluated yet" in words) == ("evaluation" in missing)


def test_a_synthetic_world_says_so(report: ReportData):
    words = Page(render(replace(report, synthetic=True, places=None))).words
    assert "These songs are synthetic" in words and "nothing of real music" in words


def test_hostile_text_stays_text(report: ReportData):
    assert report.songs is not None
    ids, names = report.songs.track_ids, [HOSTILE] * len(report.songs)
    songs = EvaluationSongs(ids, report.songs.artist_ids, names, names, names)
    study = study_of(HOSTILE, [HOSTILE, "other"])
    study["variants"][0]["methods"][HOSTILE] = study["variants"][0]["methods"].pop("untrained")
    card = {"loss": HOSTILE, HOSTILE: HOSTILE, "data": {HOSTILE: HOSTILE}, "warnings": [HOSTILE],
            "curves": [{"step": i, "loss": i} for i in range(3)]}
    assert report.evaluation is not None
    evaluation = {**report.evaluation, "meaning": {HOSTILE: {"clustering": {"nmi": 0.5}}}}
    html = render(replace(
        report, songs=songs, store=HOSTILE, description=HOSTILE, versions={HOSTILE: HOSTILE},
        funnel={HOSTILE: {"ok": 1, "failed": {HOSTILE: 1}, "pending": {HOSTILE: 1}}}, training=[card],
        evaluation=evaluation, studies=[study], embedding_name=HOSTILE,
        clips={ids[n.query]: Clip(f'x" onplay="{HOSTILE}', b"x") for n in report.neighbours}))
    page = Page(html)
    assert html.count("<script") == 1 and not page.of("img")
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert page.words.count(HOSTILE) > 20


def test_an_empty_store_has_a_page():
    html = render(ReportData("empty", datetime(2026, 1, 1, tzinfo=UTC), "No songs.", False))
    assert "Nothing has been evaluated yet" in Page(html).words


def test_few_songs_have_a_page(report: ReportData):
    songs = EvaluationSongs(["a", "b", "c"], ["x", "y", None], ["X", None, "Z"], ["1", None, "3"], [None] * 3)
    found = evaluate({"ns": np.eye(3)}, songs, [from_same_artist(songs)], None,
                     EvaluationSettings.model_validate({}))
    page = Page(render(replace(without(report, "studies", "clips"), evaluation=found, songs=songs,
                               places=np.eye(3)[:, :2], neighbours=[Neighbours(1, [(0, 0.5)])],
                               training=[{"loss": "ns"}])))
    assert "nothing to measure" in page.words and "unknown artist" in page.words


def test_similar_artists_are_shown_without_the_querys_own(report: ReportData):
    """One ground truth among several, and a method of sparse vectors."""
    assert report.songs is not None
    similar = from_similar_artists(report.songs, ["AR0", "AR1"], ["AR1", "AR2"])
    truths = [from_same_artist(report.songs), similar]
    vectors = np.random.default_rng(0).standard_normal((len(report.songs), 8))
    vectors = {"wns": vectors, "words": csr_matrix(np.abs(vectors))}
    found = evaluate(vectors, report.songs, truths, None,
                     EvaluationSettings.model_validate({"bootstrap": 100}))
    words = Page(render(replace(report, evaluation=found, places=None))).words
    assert "Ground truth: same artist, which stands in for similarity" in words
    head, _, other = words.partition("The same with another ground truth: similar artists")
    assert "artists that the catalogue lists as similar to the query's" in other
    assert "the query's own artist is left out" in other
    assert "Among all songs · 400 candidates" in head and "Among all songs · " not in other
    assert "Among all songs, without the query's artist · 400 candidates, 8 queries" in other
    assert "Words" in head and "WNS − Words" in other


def test_neighbours_are_marked_and_heard(report: ReportData):
    assert report.songs is not None
    songs = EvaluationSongs(["a", "b", "c", "d"], ["x", "x", "y", None], ["X", "X", "Y", None],
                            ["1", "2", "3", "4"], ["rock", "jazz", "rock", None])
    shown = replace(without(report, "evaluation", "studies", "places"), songs=songs,
                    neighbours=[Neighbours(0, [(1, 0.9), (2, 0.8), (3, 0.7)])],
                    clips={"a": Clip("audio/mpeg", b"abc"), "c": Clip("audio/ogg", b"xyz")})
    page = Page(render(shown))
    assert "2X ◆ · jazz0.900" in page.words and "3Y · rock ●0.800" in page.words
    assert "4unknown artist0.700" in page.words
    sources = [attributes["src"] for attributes in page.of("audio")]
    assert sources == ["data:audio/mpeg;base64,YWJj", "data:audio/ogg;base64,eHl6"]
    assert all(a["preload"] == "none" and "autoplay" not in a for a in page.of("audio"))


def test_examples_spread_over_genres_and_never_show_the_song_itself(report: ReportData):
    assert report.songs is not None
    vectors = np.random.default_rng(0).standard_normal((len(report.songs), 8))
    chosen = examples(vectors, report.songs, 6, 5)
    assert len({report.songs.genres[n.query] for n in chosen}) == 6
    for one in chosen:
        assert len(one.hits) == 5 and one.query not in [row for row, _ in one.hits]
        scores = [score for _, score in one.hits]
        assert scores == sorted(scores, reverse=True)
    assert examples(np.full((2, 3), np.nan), report.songs) == []


def test_examples_compare_as_the_evaluation_does():
    """By MFCC, whose first dimension alone is large: plain cosines would all be near 1."""
    vectors = np.array([[1000.0, 1, 0], [1000, 1, 0.1], [1000, -1, 0], [1000, -1, 0.1]])
    songs = EvaluationSongs(list("abcd"), list("wxyz"), [None] * 4, [None] * 4, [None] * 4)
    found = {n.query: n.hits for n in examples(vectors, songs, 4, 3, name="mfcc")}
    assert {query: last for query, (*_, (last, _)) in found.items()} == {0: 3, 1: 2, 2: 1, 3: 0}
    assert [score for _, score in found[0]] == pytest.approx([0, 0, -1], abs=1e-6)
