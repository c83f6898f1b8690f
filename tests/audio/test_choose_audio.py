"""Choosing the right recording among search results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simsong.audio.choose import Candidate, choose, rank_all, score, verdicts
from simsong.config import FetchSettings
from simsong.records import Wanted

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "youtube"
DEFAULTS = FetchSettings.model_validate({})
HELLO = Wanted("t", "Adele", "Hello", 295.0)


def hit(title: str, duration_s: float | None = 295, channel: str | None = "xy", **more: Any) -> Candidate:
    return Candidate("http://site/x", title, duration_s, channel, **more)

RIGHT = hit("Adele - Hello (Official Video)", 296)


@pytest.mark.parametrize("other", [
    hit("Adele - Hello (Karaoke Version)"), hit("Adele - Hello", channel="Sing King Karaoke", verified=True),
    hit("Adele - Hello [1 hour]", 3600),
    hit("Adele - Hello", 3600), hit("Adele - Hello (10 Hours Loop)", 36000),
    hit("Nightcore - Hello (Adele)", 236), hit("Adele - Hello (8D AUDIO)"),
    hit("Adele - Hello (Live at the NRJ Awards)", 295, "Adele", verified=True),
    hit("Hello - Adele (cover by Jane Doe)"), hit("Hello", 295, "Lionel Richie - Topic"),
    hit("Lionel Richie - Hello"), hit("Adele - Hello (Sped Up)", 250),
    hit("adele - hello (slowed + reverb)", 340),
    hit("Adele - Hello (Xeno Remix)"), hit("Adele - Hello (Instrumental)"), hit("Adele - Hello Reaction"),
    hit("Adele - Someone Like You", 285, "Adele", verified=True), hit("Adele - Hello (Piano Version)"),
    hit("Adele 25 Full Album", 2900, "Adele", verified=True), hit("Hello Kitty", 295, "Sanrio"),
    hit("アデル『ハロー』カラオケ Adele Hello"), hit("Adele - Hello (ao vivo)"),
], ids=lambda c: c.title)
def test_another_recording_never_wins_and_is_no_match_alone(other: Candidate) -> None:
    threshold = DEFAULTS.threshold
    assert [s.candidate for s in choose(HELLO, [other, RIGHT], threshold)] == [RIGHT]
    assert choose(HELLO, [other], threshold) == []


@pytest.mark.parametrize(("wanted", "candidate"), [
    (HELLO, hit("Hello", 295, "Adele - Topic")),
    (HELLO, hit("Adele - Hello", 296, "AdeleVEVO", verified=True)),
    (HELLO, hit("Hello by Adele (Lyrics)", 294)),
    (HELLO, hit("ADELE “HELLO” Official Music Video HD", 300)),
    (HELLO, hit("Adele - Hello", None, None)),
    (HELLO, hit("Hello", None, None)),
    (HELLO, hit("Adele - Hello", None)),
    (Wanted("t", "Adele", "Hello"), hit("Adele - Hello")),
    (Wanted("t", "Oasis", "Live Forever", 276), hit("Oasis - Live Forever (Official Video)", 280)),
    (Wanted("t", "Wings", "Live and Let Die (Remastered 2018)", 192),
     hit("Live And Let Die", 192, "Wings - Topic")),
    (Wanted("t", "Live", "Selling the Drama", 206), hit("+Live+ - Selling The Drama", 207)),
    (Wanted("t", "Nirvana", "Lithium (Live)", 265), hit("Nirvana - Lithium (Live at Reading 1992)", 266)),
    (Wanted("t", "Calvin Harris feat. Rihanna", "We Found Love (feat. Rihanna)", 215),
     hit("Rihanna - We Found Love ft. Calvin Harris", 216)),
    (Wanted("t", "Rihanna", "We Found Love", 215), hit("Rihanna - We Found Love (feat. Calvin Harris)", 215)),
    (Wanted("t", "Beyoncé", "Déjà Vu (feat. JAY-Z)", 240), hit("Beyonce - Deja Vu", 240)),
    (Wanted("t", "The Rolling Stones", "(I Can't Get No) Satisfaction", 222),
     hit("The Rolling Stones - (I Can't Get No) Satisfaction (Official Lyric Video)", 226)),
    (Wanted("t", "Iron Maiden", "Iron Maiden", 216), hit("Iron Maiden", 217, "Iron Maiden - Topic")),
    (Wanted("t", "宇多田ヒカル", "First Love", 258), hit("宇多田ヒカル「First Love」Music Video", 260)),
    (Wanted("t", "Кино", "Группа крови", 286), hit("Кино — Группа крови", 286)),
    (Wanted("t", "방탄소년단", "봄날", 274), hit("방탄소년단 - 봄날", 275)),
    (Wanted("t", "The Buggles", "Video Killed the Radio Star", 253),
     hit("The Buggles - Video Killed The Radio Star (Official Music Video)", 255)),
    (Wanted("t", "Bob Marley & The Wailers", "No Woman, No Cry (Live)", 427),
     hit("No Woman, No Cry (Live At The Lyceum, London/1975)", 428, "Bob Marley - Topic")),
    (Wanted("t", "Metallica", "One (Album Version)", 447), hit("Metallica: One (Official Audio)", 447)),
], ids=str)
def test_the_recording_itself_is_a_match(wanted: Wanted, candidate: Candidate) -> None:
    assert score(wanted, candidate) >= DEFAULTS.threshold


@pytest.mark.parametrize(("wanted", "candidate"), [
    (Wanted("t", "Oasis", "Live Forever", 276), hit("Oasis - Live Forever (Live at Knebworth)", 276)),
    (Wanted("t", "Nirvana", "Lithium (Live)", 257), hit("Nirvana - Lithium", 262)),
    (Wanted("t", "Iron Maiden", "Iron Maiden", 216), hit("Iron Maiden - The Trooper", 216)),
    (Wanted("t", "Taylor Swift", "Love Story", 235), hit("Taylor Swift: Love Story (Taylor’s Version)")),
    (Wanted("t", "Pink Floyd", "Another Brick in the Wall, Pt. 2", 239),
     hit("Pink Floyd - Another Brick in the Wall, Pt. 1", 200)),
    (Wanted("t", "Lost Identities", "Moments", 219), hit("Lost Identities - Moments of Pleasure", 225)),
], ids=str)
def test_what_only_looks_like_it_is_not(wanted: Wanted, candidate: Candidate) -> None:
    assert score(wanted, candidate) < DEFAULTS.threshold


@pytest.mark.parametrize(("wanted", "right", "other"), [
    # a day in the title is a concert's
    (HELLO, hit("Adele - Hello"), hit("Adele - Hello - The O2 3.4.2016")),
    # the concert that was asked for, or one that is not named, and no other
    (Wanted("t", "Adele", "Hello (Live in Oslo)", 295), hit("Adele - Hello [Live, Oslo]"),
     hit("Hello (Live in Rome)", 295, "Adele - Topic")),
    (Wanted("t", "Adele", "Hello (Live in Oslo)", 295), hit("Adele - Hello (Live)"),
     hit("Adele - Hello (Live in Rome)")),
    (Wanted("t", "Adele", "Hello (Xeno Remix)", 295), hit("Adele - Hello (Xeno Remix)"),
     hit("Adele - Hello (Yolo Remix)")),
    # where the length is right, it may be called an edit
    (HELLO, hit("Adele - Hello (Radio Edit)", 295), hit("Adele - Hello (Radio Edit)", 270)),
    (HELLO, hit("Adele - Hello", 295), hit("Adele - Hello (Xeno Edit)", 295)),
    (HELLO, hit("Adele - Hello (Original Mix)", 295), hit("Adele - Hello (Dark Mix)", 295)),
    (Wanted("t", "Adele", "Hello (Clean)", 295), hit("Adele - Hello (Clean)"),
     hit("Hello", 295, "Adele - Topic")),
    (HELLO, hit("Adele - Hello"), hit("Hello (Clean)", 295, "Adele - Topic")),
    # parts, however they are numbered
    (Wanted("t", "Yes", "The Suite (Parts VI-IX)", 400), hit("The Suite (Pts. 6-9)", 400, "Yes - Topic"),
     hit("The Suite (Pts. 1-5)", 400, "Yes - Topic")),
    (Wanted("t", "Yes", "Suite, Pt. 2", 400), hit("Yes - Suite, Part Two", 400),
     hit("Yes - Suite, Part One", 400)),
    # who is heard is only in the description; who wrote it is not meant
    (HELLO, hit("Hello", 295, "Various Artists - Topic", description="Provided by X Hello · Adele 25 ℗ 2015"),
     hit("Hello", 295, "Jane Doe - Topic", description="Provided by X Hello · Jane Doe 1 Composer: Adele")),
    (HELLO, hit("25 - Hello - OST", 295, "uploads", description="Music: Hello. Singer: Adele."),
     hit("Hello", 295, "uploads", description="My cover of Adele")),
    # a channel in the title that is not the artist's is who performs it
    (HELLO, hit("Adele - Hello", 295, "Jane Doe"), hit("Hello - Adele | Jane Doe Band", 295, "Jane Doe")),
    # scripts: romanised, or not to be compared
    (Wanted("t", "Kino", "Gruppa krovi", 286), hit("Кино — Группа крови", 286), hit("Кино — Кукушка", 286)),
    (Wanted("t", "Χάρις Αλεξίου", "Όλα σε θυμίζουν", 259), hit("Haris Alexiou - Ola se thimizoun", 259),
     hit("Haris Alexiou - Zeibekiko", 259)),
    (Wanted("t", "宇多田ヒカル", "First Love", 258), hit("First Love", 258, "Hikaru Utada - Topic"),
     hit("First Love", 240, "Hikaru Utada - Topic")),
    (Wanted("t", "아이유 (IU)", "밤편지", 253), hit("밤편지", 253, "IU - Topic"),
     hit("다른 노래", 253, "IU - Topic")),
    # names: initials, signs, the artist within the title
    (Wanted("t", "N.W.A", "Express Yourself", 264), hit("N W A - Express Yourself", 264),
     hit("Labrinth - Express Yourself", 264)),
    (Wanted("t", "NWA", "Express Yourself", 264), hit("N.W.A. - Express Yourself", 264),
     hit("Labrinth - Express Yourself", 264)),
    (Wanted("t", "!!!", "Me and Giuliani", 500), hit("!!! - Me and Giuliani", 500),
     hit("Me - Giuliani", 500)),
    (Wanted("t", "Adele", "Adele - Hello", 295), hit("Adele - Hello"), hit("Adele - Skyfall")),
    (Wanted("t", "Live", "Selling the Drama", 206), hit("Live - Selling the Drama", 206),
     hit("Live - Selling the Drama (Live at the Paradiso)", 206)),
    # a version's name in brackets is not the title
    (Wanted("t", "Adele", "Acoustic", 209), hit("Adele - Acoustic", 209),
     hit("Adele - Driver (Acoustic)", 209)),
], ids=str)
def test_the_one_and_not_the_other(wanted: Wanted, right: Candidate, other: Candidate) -> None:
    assert score(wanted, right) >= DEFAULTS.threshold
    assert score(wanted, other) < score(wanted, right)


def test_words_that_nobody_asked_for_cost_a_little() -> None:
    plain, wordy = hit("Adele - Hello"), hit("Adele - Hello (sunset beach memories)")
    assert score(HELLO, plain) - score(HELLO, wordy) == pytest.approx(3.0)  # three of them
    guest = hit("Adele x Jane Doe - Hello")
    assert score(HELLO, guest) == score(HELLO, plain)      # whoever sings along is no such


def test_against_says_what_people_understand() -> None:
    def against(candidate: Candidate) -> tuple[str, ...]:
        return rank_all(HELLO, [candidate])[0].against

    assert against(hit("Adele - Hello (Karaoke Version)")) == ("karaoke",)
    assert against(hit("Adele - Hello", 328)) == ()
    assert against(hit("Adele - Hello", 395)) == ("100 s too long",)
    assert against(hit("Adele - Hello", 100)) == ("195 s too short",)
    assert against(hit("Adele - Someone Like You")) == ("other title",)
    assert against(hit("Lionel Richie - Hello")) == ("other artist",)
    assert against(hit("Adele - Hello", live=True)) == ("a live stream",)
    candidates = [hit("Adele - Hello"), hit("Adele - Hello", 300), hit("Adele - Hello (Live)"),
                  hit("Hi", None, None)]
    judged = verdicts(rank_all(HELLO, candidates), 60, candidates[0], {})
    assert [v.why for v in judged] == ["the best", "another is better", "live", "other title"]
    assert [v.chosen for v in judged] == [True, False, False, False]


def test_among_good_ones_the_official_and_the_nearest_in_length_win() -> None:
    topic, upload = hit("Hello", 295, "Adele - Topic"), hit("Adele - Hello", 295, "xX music Xx")
    near, far = hit("Adele - Hello", 296), hit("Adele - Hello ", 310)
    assert [s.candidate for s in choose(HELLO, [upload, topic], 0)] == [topic, upload]
    assert [s.candidate for s in choose(HELLO, [far, near], 0)] == [near, far]
    scores = [s.score for s in choose(HELLO, [upload, far, topic, near], 0)]
    assert scores == sorted(scores, reverse=True) and 0 <= scores[-1] < scores[0] <= 100


def test_the_first_hit_may_be_titled_in_the_readers_language() -> None:
    wanted = Wanted("t", "Nena", "99 Luftballons", 232.4)
    shown = hit("Ninety-nine red air balloons", 232, "Great Label", verified=True, views=1_000_000, rank=0)
    again = hit("Nena - 99 Luftballons", 232, "somebody", views=100, rank=1)
    assert choose(wanted, [shown, again], 60)[0].candidate is shown
    # not if it is longer, further down, or anybody's
    for other in (replace(shown, duration_s=236), replace(shown, rank=2), replace(shown, verified=False)):
        assert [s.candidate for s in choose(wanted, [other, again], 60)] == [again]


def test_a_perfect_candidate_scores_as_the_weights_say() -> None:
    # 58 for the text, 24 for the length, 14 for the channel, 4·(7/7) for 10^7 views
    assert score(HELLO, hit("Hello", 295, "Adele - Topic", views=9_999_999)) == 100
    # 58 + 24·0.6 + 14·0.5 + 4·0.5, where the site tells a title alone
    assert score(HELLO, hit("Adele - Hello", None, None)) == pytest.approx(81.4)
    # and ten seconds off, one of them forgiven: 24·exp(-0.9)
    assert score(HELLO, hit("Adele - Hello", 305, None)) == pytest.approx(58 + 24 * 0.40657 + 7 + 2, abs=0.01)


def searched(name: str) -> list[Candidate]:
    """The videoRenderer entries of YouTube's answer, as yt-dlp reads them."""
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not there")

    def entries(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if "videoRenderer" in node:
                yield node["videoRenderer"]
            node = list(node.values())
        if isinstance(node, list):
            for inner in node:
                yield from entries(inner)

    def seconds(clock: str) -> int:
        return sum(int(part) * 60**power for power, part in enumerate(reversed(clock.split(":"))))

    return [Candidate(
        entry["videoId"], "".join(run["text"] for run in entry["title"]["runs"]),
        seconds(entry["lengthText"]["simpleText"]), entry["ownerText"]["runs"][0]["text"],
        any("VERIFIED" in badge["metadataBadgeRenderer"]["style"] for badge in entry.get("ownerBadges", [])),
        int(entry["viewCountText"]["simpleText"].split()[0].replace(",", "")), rank,
    ) for rank, entry in enumerate(entries(json.loads((DATA / f"{name}.json").read_text("utf-8"))))]


@pytest.mark.parametrize(("name", "wanted", "right"), [
    ("search_abstrakt_nobody_else", Wanted("t", "Abstrakt", "Nobody Else", 162.4), "bNXMlIogpXc"),
    ("search_lost_identities_moments", Wanted("t", "Lost Identities", "Moments", 219.6), "14CjyUYO8lE"),
])
def test_real_searches(name: str, wanted: Wanted, right: str) -> None:
    candidates = searched(name)
    chosen = choose(wanted, candidates, DEFAULTS.threshold)
    assert len(candidates) >= 30
    assert chosen[0].candidate.url == right
    assert all(abs((s.candidate.duration_s or 0) - (wanted.duration_s or 0)) < 40 for s in chosen)
    words = ("hour", "nightcore", "remix", "instrumental", "acoustic", "bass boost", "extended")
    assert not [s.candidate.title for s in chosen if any(word in s.candidate.title.lower() for word in words)]
