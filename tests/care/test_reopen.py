"""Which failed songs are tried again, and what `status` and `retry` say of them."""

from __future__ import annotations

import json
import shlex
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from simsong.care.reopen import Chosen, failures, moment, reopen
from simsong.config_loader import load
from simsong.errors import ConfigError
from storage.catalogue import Catalogue
from storage.store import Store
from tests.cli.test_cli import simsong
from tests.small_world import configured, refresh, write_song

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
ESC = "\x1b[31m"

# track → stage, status, reason, attempts, age in days
ROWS = {
    "T0": ("fetch_audio", "ok", None, 1, 9),
    "T1": ("fetch_audio", "failed", "timeout", 3, 9),
    "T2": ("fetch_audio", "failed", "timeout", 1, 1),
    "T3": ("fetch_audio", "failed", "private", 1, 9),
    "T4": ("fetch_audio", "pending", "rate_limited", 1, 9),
    "T5": ("fetch_audio", "failed", "timeout", 3, 3),
    "T6": ("fetch_lyrics", "failed", "no_lyrics", 1, 9),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two shards of audio, one of lyrics, and a record that became no song."""
    root = str(tmp_path / "store")
    with Store.writing(root) as opened:
        opened.write("tracks", [[{"track_id": i, "artist": "Ann", "title": f"Song{ESC} {i}",
                                  "source": "table", "shard": n // 3} for n, i in enumerate(ROWS)]], "id")
        for stage, shard, ids in (("fetch_audio", 0, ("T0", "T1", "T2")),
                                  ("fetch_audio", 1, ("T3", "T4", "T5")), ("fetch_lyrics", 2, ("T6",))):
            opened.write("outcomes", [[row(i) for i in ids]], f"id{shard}", partition=stage, shard=shard,
                         facts={"outputs": {}, "open": 0})
        opened.write("outcomes", [[{"track_id": "BAD", "status": "failed", "reason": "no_title",
                                    "detail": "BAD: no title", "attempts": 1}]], "id", partition="ingest")
    return Store.open(root)


def row(track_id: str) -> dict[str, Any]:
    _, status, reason, attempts, age = ROWS[track_id]
    return {"track_id": track_id, "status": status, "reason": reason, "attempts": attempts,
            "detail": f"{ESC}told of {track_id}\n" if reason else None, "at": NOW - timedelta(days=age)}


def songs(store: Store, chosen: Chosen) -> set[str]:
    with Store.writing(store.backend.url) as writer:
        return reopen(writer, chosen).songs


@pytest.mark.parametrize(("chosen", "expected"), [
    (Chosen("fetch_audio"), {"T1", "T2", "T3", "T5"}),
    (Chosen("fetch_audio", ["timeout"]), {"T1", "T2", "T5"}),
    (Chosen("fetch_audio", ["timeout", "private"]), {"T1", "T2", "T3", "T5"}),
    (Chosen("fetch_audio", ["rate_limited"]), set()),                           # pending, so tried anyway
    (Chosen("fetch_audio", (), ["T1", "T3", "T0", "T9"]), {"T1", "T3"}),
    (Chosen("fetch_audio", (), (), NOW - timedelta(days=2)), {"T1", "T3", "T5"}),
    (Chosen("fetch_audio", ["timeout"], (), NOW - timedelta(days=4)), {"T1"}),
    (Chosen("fetch_audio", ["timeout"], ["T3"]), set()),
    (Chosen("fetch_lyrics"), {"T6"}),
    (Chosen("trim"), set()),
])
def test_songs_are_chosen_by_all_conditions(store: Store, chosen: Chosen, expected: set[str]) -> None:
    assert songs(store, chosen) == expected
    for partition in ("fetch_audio", "fetch_lyrics"):
        for result in store.read("outcomes", partition=partition).to_pylist():
            before = row(result["track_id"])
            if result["track_id"] in expected:
                assert (result["status"], result["attempts"]) == ("pending", 0)
                assert (result["reason"], result["at"]) == (before["reason"], before["at"])
            else:
                assert {name: result[name] for name in before} == before
    opened = {shard for partition in ("fetch_audio", "fetch_lyrics")
              for shard in store.shards("outcomes", partition)
              if store.footers("outcomes", shard, partition)[0].facts["open"]}
    assert opened == {list(ROWS).index(track_id) // 3 for track_id in expected}


def test_a_reopened_song_alone_is_done_again(tmp_path: Path) -> None:
    for name in ("ann", "bob", "cat"):
        write_song(tmp_path / "music", name)
    short = write_song(tmp_path / "music", "dan", seconds=0.5)
    config = configured(tmp_path / "music", tmp_path / "store")
    refresh(config)
    assert refresh(config) == set()
    store = Store.open(config.store)
    failed = [r for r in store.read("outcomes", partition="segments").to_pylist() if r["status"] == "failed"]
    assert [r["reason"] for r in failed] == ["too_short"]
    assert songs(store, Chosen("segments")) == {failed[0]["track_id"]}
    assert {stage for stage, _ in refresh(config)} == {"segments"}
    again = {r["track_id"]: r for r in store.read("outcomes", partition="segments").to_pylist()}
    assert [again[failed[0]["track_id"]][name] for name in ("status", "attempts")] == ["failed", 1]
    assert short.exists() and refresh(config) == set()


def test_what_is_not_asked_for_uses_up_no_attempt(tmp_path: Path) -> None:
    (tmp_path / "songs.csv").write_text("artist,title\nAnn,Road\n")
    config = load(None, {"store": str(tmp_path / "store"), "sources": {"table": str(tmp_path / "songs.csv")},
                         "fetch": {"search": "http://127.0.0.1:9/?q={query}"}, "lyrics": {"provider": "none"},
                         "network": {"min_free_mb": 10**9, "attempts": 2}}, {})       # so nobody is asked
    for _ in range(3):
        refresh(config)
    rows = Store.open(config.store).read("outcomes", partition="fetch_audio").to_pylist()
    assert [(r["status"], r["reason"], r["attempts"]) for r in rows] == [("pending", "disk_full", 0)]
    kinds, = failures(Store.open(config.store), attempts=2)[:1]
    assert (kinds.songs, kinds.again, kinds.pending) == (1, 1, 1)


@pytest.mark.parametrize(("text", "expected"), [
    ("7d", datetime(2026, 3, 3, 12, tzinfo=UTC)), ("12h", datetime(2026, 3, 10, 0, tzinfo=UTC)),
    ("30m", datetime(2026, 3, 10, 11, 30, tzinfo=UTC)), (" 2W ", datetime(2026, 2, 24, 12, tzinfo=UTC)),
    ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
    ("2026-01-31T06:00+02:00", datetime(2026, 1, 31, 4, tzinfo=UTC)),
])
def test_ages_and_dates(text: str, expected: datetime) -> None:
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "7", "d", "7y", "-1d", "yesterday", "2026-13-01", "999999w"])
def test_other_words_are_no_age(text: str) -> None:
    with pytest.raises(ConfigError, match="give an age"):
        moment(text, NOW)


def test_failures_are_counted_by_reason_with_an_example(store: Store) -> None:
    by_reason = {(f.stage, f.reason): f for f in failures(store, attempts=3)}
    assert list(by_reason) == [("ingest", "no_title"), ("fetch_audio", "timeout"), ("fetch_audio", "private"),
                               ("fetch_audio", "rate_limited"), ("fetch_lyrics", "no_lyrics")]
    timeout = by_reason["fetch_audio", "timeout"]
    assert (timeout.songs, timeout.again, timeout.pending, timeout.kind) == (3, 1, 0, "transient")
    assert (timeout.track_id, timeout.detail) == ("T1", f"{ESC}told of T1\n")
    limited = by_reason["fetch_audio", "rate_limited"]
    assert (limited.songs, limited.again, limited.pending) == (1, 1, 1)
    assert not by_reason["ingest", "no_title"].retried


def test_status_says_what_is_worth_another_try_and_how(store: Store) -> None:
    root = store.backend.url
    rows = json.loads(simsong("status", "--store", root, "--json").stdout)["failures"]
    by_reason = {row["reason"]: row for row in rows}
    assert by_reason["timeout"]["worth_retrying"] == \
        "yes: 2 were given up after 3 attempts; 1 more the next run tries anyway"
    assert by_reason["private"]["worth_retrying"] == "no, unless something has changed"
    assert by_reason["rate_limited"]["worth_retrying"] == "yes: the next run does it anyway"
    assert by_reason["timeout"]["command"] == shlex.join(
        ["simsong", "retry", "--stage", "fetch_audio", "--reason", "timeout", "--store", root])
    assert by_reason["rate_limited"]["command"] == shlex.join(["simsong", "refresh", "--store", root])
    assert by_reason["no_title"]["command"] is None
    text = simsong("status", "--store", root).stdout
    assert f"    {by_reason['timeout']['command']}\n" in text
    assert "e.g. Ann - Song [31m T1 (T1):  [31mtold of T1" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(("words", "said"), [
    (("--reason", "rate_limited"), "no such song failed at fetch_audio; 1 pending, which any run tries"),
    (("--track", "T9"), "nothing to try again: no such song failed at fetch_audio ("),
    (("--older-than", "2020-01-01"), "nothing to try again"),
    (("--older-than", "soon"), "give an age"),
])
def test_nothing_to_retry_is_one_line_and_no_run(store: Store, words: tuple[str, ...], said: str) -> None:
    process = simsong("retry", "--stage", "fetch_audio", *words, "--store", store.backend.url, code=1)
    assert len(process.stderr.splitlines()) == 1, process.stderr        # so Prefect was not started
    assert said in process.stderr
    assert process.stdout == ""


def test_a_retry_of_what_lost_many_songs_goes_on_with_consent(tmp_path: Path) -> None:
    """Also where a refused one has marked the songs before."""
    for number in range(6):
        file = write_song(tmp_path / "music", f"a{number}", lyrics=None)
        file.write_bytes(b"no music")
    config = configured(tmp_path / "music", tmp_path / "store")
    refresh(config)
    for number in range(2):
        shutil.rmtree(tmp_path / f"music/a{number}")
    words = ("retry", "--stage", "fetch_audio", "--store", config.store)
    refused = simsong(*words, code=1)
    assert "2 of the catalogue's 6 songs are no longer in its sources" in refused.stderr
    assert "or retry with --yes" in refused.stderr
    assert len(Catalogue(Store.open(config.store)).ids()) == 6
    assert "6 pending, which any run tries" in simsong(*words, code=1).stderr
    output = simsong(*words, "--yes", code=1).stderr
    assert "6 songs to try again" in output and "no song came through fetch_audio: 4 undecodable" in output
    store = Store.open(config.store)
    assert len(Catalogue(store).ids()) == 4
    rows = Catalogue(store).read("outcomes", partition="fetch_audio").to_pylist()
    assert [row["status"] for row in rows] == ["failed"] * 4


def test_fetching_many_songs_again_wants_consent(tmp_path: Path) -> None:
    """1,001 songs with audio of a site, of which a refused run marks none."""
    ids = [f"T{number:04}" for number in range(1001)]
    with Store.writing(str(tmp_path / "store")) as opened:
        opened.write("tracks", [[{"track_id": i, "artist": i, "title": i, "source": "table", "shard": 0}
                                 for i in ids]], "id")
        opened.write("audio", [[{"track_id": i, "file": f"audio/00/{i}.mp3", "sha256": i} for i in ids]],
                     "id", shard=0)
        opened.write("outcomes", [[{"track_id": i, "status": "ok", "attempts": 1} for i in ids]], "id",
                     shard=0, partition="fetch_audio", facts={"outputs": {}, "open": 0})
    words = ("refresh", "--refetch", "--store", tmp_path / "store", "--table", tmp_path / "none.csv")
    refused = simsong(*words, code=1).stderr
    assert len(refused.splitlines()) == 1 and "1,001 downloads; begin them with --yes" in refused
    store = Store.open(str(tmp_path / "store"))
    assert store.read("outcomes", partition="fetch_audio")["reason"].null_count == 1001
    few = simsong(*words, "--track", "T0003", code=1).stderr       # asks for nothing; the table is not there
    assert "1 song to ask for again" in few and "none.csv" in few
    all_of = simsong(*words, "--yes", code=1).stderr
    assert "1000 songs" in all_of or "1001 songs" in all_of
    assert store.read("outcomes", partition="fetch_audio")["reason"].to_pylist() == ["refetch"] * 1001


def test_retry_makes_no_store(tmp_path: Path) -> None:
    process = simsong("retry", "--stage", "trim", "--store", tmp_path / "none", code=1)
    assert "there is no store there" in process.stderr
    assert not (tmp_path / "none").exists()
