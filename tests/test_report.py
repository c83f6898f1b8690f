"""The report: one page that asks nobody for anything, escapes what it is given, and claims what the numbers
allow."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from simsong.config import Evaluation
from simsong.evaluation.charts import Line, line_chart, number, ticks
from simsong.evaluation.evaluate import evaluate
from simsong.evaluation.ground_truth import (
    Songs,
    from_same_artist,
    from_same_genre,
    from_similar_artists,
    from_similars,
)
from simsong.evaluation.projection import project
from simsong.evaluation.report import Neighbours, ReportData, examples, render, verdicts

GENRES = ["rock", "jazz", "hip hop", "techno", "folk", "metal", "soul", "ambient", "reggae", "classical",
          "polka"]
HOSTILE = '</title><script>alert("x")</script><img src=//evil.example/x onerror=alert(1)>'
VOID = {"meta", "br", "img", "path"}


class Page(HTMLParser):
    """Well-formedness, the tags, attributes and visible words of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words, self._open = "", list[str]()
        self.feed(html)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self._open and self._open[-1] == tag, (tag, self._open[-3:], self.getpos())
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "title"):
            self.words += data


def made_up(n: int = 400, seed: int = 0) -> ReportData:
    """A report such as a run on a real catalogue gives."""
    rng = np.random.default_rng(seed)
    artists = np.arange(n) // 4
    genre = artists % len(GENRES)
    songs = Songs([f"TR{i:05d}" for i in range(n)], [f"AR{a}" for a in artists],
                  [f"The {GENRES[g].title()} Band No. {a}" for a, g in zip(artists, genre, strict=True)],
                  [f"Song {i} about {'rain and ' * (i % 4)}trains" for i in range(n)],
                  [GENRES[g] if i % 17 else None for i, g in enumerate(genre)])
    signal = 1.6 * rng.standard_normal((len(GENRES), 24))[genre] + 0.8 * rng.standard_normal((n, 24))[artists]
    noise = rng.standard_normal((5, n, 24))
    lyrics = signal + 3 * noise[3]
    lyrics[::3] = np.nan
    vectors = {"mfcc": signal + 4 * noise[0], "lyrics": lyrics, "untrained": signal + 5 * noise[4],
               "ns": signal + 1.9 * noise[1], "wns": signal + 1.4 * noise[2]}
    alike = [rng.permutation(np.flatnonzero(genre == g))[:12].tolist() for g in genre]
    pairs = [(i, j) for i in range(n) for j in alike[i] if i != j]
    sources, targets = ([f"TR{pair[end]:05d}" for pair in pairs] for end in (0, 1))
    truth = from_similars(songs.track_ids, sources, targets, np.ones(len(pairs)), 0.1)
    config = Evaluation.model_validate({"bootstrap": 300})
    truths = [truth, from_same_artist(songs), from_same_genre(songs)]
    found = evaluate(vectors, songs, truths, artists % 10 < 3, config)
    steps = np.arange(1, 601)
    curves = {loss: [{"step": int(s), "loss": float(4.14 * np.exp(-s / rate) + floor + rng.normal(0, 0.12)),
                      "learning_rate": 1e-3} for s in steps]
              for loss, rate, floor in (("ns", 160, 1.35), ("wns", 150, 1.25))}
    funnel = {
        "ingest": {"ok": 520, "failed": {"malformed": 3, "untrusted": 9}},
        "fetch_audio": {"ok": 441, "pending": {"rate_limited": 19},
                        "failed": {"no_match": 38, "removed": 14, "geo_blocked": 6, "age_restricted": 2}},
        "segments": {"ok": 402, "failed": {"too_short": 31, "silent": 4, "undecodable": 4}},
        "fetch_lyrics": {"ok": 290, "failed": {"no_lyrics": 201, "junk_lyrics": 29}, "pending": {}},
        "lyric_embeddings": {"ok": 267}, "track_embeddings": {"ok": 400, "failed": {"one_segment": 2}},
    }
    return ReportData(
        "s3://music/simsong-store", datetime(2026, 3, 14, 15, 9, tzinfo=UTC),
        "520 songs of the Million Song Dataset, with similars by Last.fm.", False,
        {"SimSong": "0.1.0", "PyTorch": "2.13.0", "model": "wns/3"}, funnel,
        [{"loss": loss, "seconds": 1812.4, "songs": 402, "artists": 96, "parameters": 1_834_752,
          "sd_log_w": 0.42,
          "configuration": {"batch": 32, "temperature": 0.1, "augment": "light", "seed": 0},
          "curve": curves[loss]} for loss in ("ns", "wns")],
        found, songs, vectors["wns"], "wns", examples(vectors["wns"], songs),
        {t: f"../audio/{t[-2:]}/{t}.ogg" for t in songs.track_ids[:200]})


@pytest.fixture(scope="module")
def report() -> ReportData:
    return made_up()


@pytest.fixture(scope="module")
def html(report: ReportData) -> str:
    return render(report)


def test_the_page_is_well_formed_and_asks_nobody(html: str):
    page = Page(html)
    assert not {t for t, _ in page.tags} & {"script", "link", "iframe", "img", "object", "embed", "form"}
    for _, attributes in page.tags:
        assert not [a for a in attributes if a.startswith("on") or a in ("href", "srcset", "action")]
        assert re.match(r"\.\./audio/", attributes.get("src") or "../audio/")
    assert "url(" not in html and "@import" not in html and not re.search(r"https?://", html)
    assert "default-src 'none'" in html
    assert len(html) < 1_500_000


def test_the_page_says_what_there_is(report: ReportData, html: str):
    words = " ".join(Page(html).words.split())
    for text in ("s3://music/simsong-store", "14 March 2026, 15:09 UTC", "PyTorch 2.13.0", "fetch audio",
                 "no_match 38", "rate_limited 19", "WNS", "MFCC", "recall@100", "Among held-out songs",
                 "without the query's artist", "same genre", "sd log w", "0.42", "600 steps", "1,834,752",
                 "Not every query has every embedding: Lyrics 6"):
        assert text in words, text
    assert report.evaluation is not None
    recall = report.evaluation["methods"]["wns"]["recall@10"]["value"]
    assert number(recall, 3) in words
    assert "synthetic" not in words and "no claim rests" not in words


def test_a_synthetic_world_says_so(report: ReportData):
    assert "These songs are synthetic" in Page(render(replace(report, synthetic=True, embedding=None))).words


def test_hostile_text_stays_text(report: ReportData):
    assert report.songs is not None
    ids, names = report.songs.track_ids, [HOSTILE] * len(report.songs)
    songs = Songs(ids, report.songs.artist_ids, names, names, names)
    page = Page(render(replace(
        report, songs=songs, store=HOSTILE, description=HOSTILE, versions={HOSTILE: HOSTILE},
        funnel={HOSTILE: {"ok": 1, "failed": {HOSTILE: 1}, "pending": {HOSTILE: 1}}},
        training=[{"loss": HOSTILE, HOSTILE: HOSTILE, "curve": [{"step": i, "loss": i} for i in range(3)]}],
        audio={ids[n.query]: f'x" onplay="{HOSTILE}' for n in report.neighbours})))
    assert not [t for t, _ in page.tags if t in ("script", "img")]
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert page.words.count(HOSTILE) > 10


@pytest.mark.parametrize("href", ["https://evil.example/a.ogg", "//evil.example/a.ogg", "/etc/passwd",
                                  "javascript:alert(1)", "\\\\evil\\a", "data:audio/ogg,x"])
def test_only_relative_audio_is_linked(report: ReportData, href: str):
    assert report.songs is not None
    audio = dict.fromkeys(report.songs.track_ids, href)
    page = Page(render(replace(report, audio=audio, embedding=None)))
    assert not [t for t, _ in page.tags if t == "audio"]


def test_audio_names_are_url_encoded(report: ReportData):
    assert report.songs is not None
    audio = dict.fromkeys(report.songs.track_ids, "../a b/50% #1?.mp3")
    page = Page(render(replace(report, audio=audio, embedding=None)))
    sources = {a["src"] for t, a in page.tags if t == "audio"}
    assert sources == {"../a%20b/50%25%20%231%3F.mp3"}


def test_an_empty_store_has_a_page():
    html = render(ReportData("empty", datetime(2026, 1, 1, tzinfo=UTC), "No songs.", False))
    assert "Nothing has been evaluated yet" in Page(html).words


def test_few_songs_have_a_page(report: ReportData):
    songs = Songs(["a", "b", "c"], ["x", "y", None], ["X", None, "Z"], ["1", None, "3"], [None] * 3)
    found = evaluate({"ns": np.eye(3)}, songs, [from_same_artist(songs)], None, Evaluation.model_validate({}))
    page = Page(render(replace(report, evaluation=found, songs=songs, embedding=np.eye(3), audio={},
                               neighbours=[Neighbours(1, [(0, 0.5)])], training=[{"loss": "ns"}])))
    assert "nothing to measure" in page.words and "unknown artist" in page.words


def test_similar_artists_are_shown_without_the_querys_own(report: ReportData):
    """One ground truth among several, and a method of sparse vectors."""
    assert report.songs is not None and report.embedding is not None
    similar = from_similar_artists(report.songs, ["AR0", "AR1"], ["AR1", "AR2"])
    truths = [from_same_artist(report.songs), similar]
    vectors = {"wns": report.embedding, "words": csr_matrix(np.abs(report.embedding))}
    found = evaluate(vectors, report.songs, truths, None, Evaluation.model_validate({"bootstrap": 100}))
    words = " ".join(Page(render(replace(report, evaluation=found, embedding=None))).words.split())
    assert "Ground truth: same artist, which stands in for similarity" in words
    head, _, other = words.partition("The same with another ground truth: similar artists")
    assert "artists that the catalogue lists as similar to the query's" in other
    assert "the query's own artist is left out" in other
    assert "Among all songs · 400 candidates" in head and "Among all songs · " not in other
    assert "Among all songs, without the query's artist · 400 candidates, 8 queries" in other
    assert "Words" in head and "WNS − Words" in other


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
    found = verdicts({"protocol": protocol(queries), "methods": {"wns": {}, "ns": {}},
                      "differences": {"wns-ns": {"recall@10": row, "artist_filter": {"recall@10": row}}}})
    assert [(v.text, v.claim, v.pair) for v in found] == [(text, claim, "WNS − NS")]


def test_a_verdict_counts_the_queries_of_its_own_setting():
    row = {"value": 0.2, "low": 0.1, "high": 0.3}
    found = verdicts({"protocol": protocol(500), "methods": {"my-net": {}, "random": {}}, "differences": {
        "my-net-random": {"recall@10": row, "artist_filter": {"recall@10": row}}}}, ("artist_filter",))
    assert (found[0].claim, found[0].pair) == (False, "my-net − Random")


def test_examples_spread_over_genres_and_never_show_the_song_itself(report: ReportData):
    assert report.songs is not None and report.embedding is not None
    chosen = examples(report.embedding, report.songs, 6, 5)
    assert len({report.songs.genres[n.query] for n in chosen}) == 6
    for one in chosen:
        assert len(one.found) == 5 and one.query not in [row for row, _ in one.found]
        scores = [score for _, score in one.found]
        assert scores == sorted(scores, reverse=True)
    assert examples(np.full((2, 3), np.nan), report.songs) == []


def test_ticks_enclose_and_are_round():
    assert ticks(0.31, 4.2) == [0, 1, 2, 3, 4, 5]
    assert ticks(3, 3) == [2.4, 2.6, 2.8, 3, 3.2, 3.4, 3.6]


def test_lines_leave_out_what_is_not_finite():
    assert line_chart([Line("NS", "ns", np.array([1.0]), np.array([2.0]))]) is None
    assert line_chart([]) is None
    chart = line_chart([Line("NS", "ns", np.arange(4.0), np.array([1, np.nan, 3, np.inf]))])
    assert chart is not None and "nan" not in chart.svg and "inf" not in chart.svg


def test_the_map_keeps_groups_apart_and_is_the_same_each_time():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 30)
    vectors = np.eye(3)[group] + 0.05 * rng.standard_normal((90, 3))
    xy = project(vectors)
    assert np.array_equal(xy, project(vectors))
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=2) + 1e9 * np.eye(90)
    assert (group[distance.argmin(axis=1)] == group).all()
    assert project(np.eye(5)[:, :1]).shape == (5, 2)
