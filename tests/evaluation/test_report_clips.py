"""Pieces of songs that lie in the page: what they hold, how long they may be, and where they come from."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from simsong.audio.samples import RATE_HZ
from simsong.evaluation.report import encode_clips
from simsong.evaluation.report.clips import (
    BIT_RATE,
    BUDGET,
    LONGEST_S,
    SHORTEST_S,
    Clip,
    clip_length_s,
    encode,
    middle,
)
from simsong.parts.stages import RunContext
from storage.store import Store
from tasks.evaluate import evaluate
from tasks.report import report
from tests.report_pages import Page, study_of
from tests.small_world import configured, refresh, write_song


def tone(hz: float, seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def flac(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def heard(clip: Clip) -> np.ndarray:
    with av.open(io.BytesIO(clip.audio), "r") as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


def loudest_hz(samples: np.ndarray, rate_hz: int = RATE_HZ) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples)))) * rate_hz / len(samples)


def test_a_clip_is_the_middle_of_its_segment():
    song = np.concatenate([tone(440, 10), tone(1000, 10), tone(440, 10)])
    clip = encode(middle(song, 9))
    assert clip is not None and clip.mime == "audio/mpeg"
    samples = heard(clip)
    assert len(samples) == pytest.approx(9 * RATE_HZ, abs=2500)
    assert loudest_hz(samples) == pytest.approx(1000, abs=2)
    assert clip.uri.startswith("data:audio/mpeg;base64,")
    assert len(clip.uri) == pytest.approx(9 * BIT_RATE / 8 * 4 / 3, rel=0.05)


def test_a_middle_fades_and_is_never_longer_than_there_is():
    piece = middle(np.ones(RATE_HZ, np.float32), 0.5)
    assert len(piece) == RATE_HZ // 2 and piece[0] == piece[-1] == 0 and piece[RATE_HZ // 4] == 1
    assert len(middle(np.ones(100, np.float32), 9)) == 100
    assert len(middle(np.ones(1, np.float32), 9)) == 1


def test_clips_are_as_long_as_the_page_allows():
    assert clip_length_s(36, BUDGET) == LONGEST_S
    assert clip_length_s(1000, BUDGET) == SHORTEST_S
    assert clip_length_s(0, BUDGET) == LONGEST_S
    assert clip_length_s(100, BUDGET) * 100 * BIT_RATE / 8 * 4 / 3 == pytest.approx(BUDGET / 1.05)


def test_clips_stay_within_their_budget():
    """Ten songs, of which one stands in the page three times, in the space of six shortest clips."""
    ids = [f"TR{i}" for i in range(10)]
    uses = dict.fromkeys(ids, 1) | {"TR1": 3}
    budget = round(6 * SHORTEST_S * BIT_RATE / 8 * 4 / 3 * 1.05)
    segments = [(track_id, flac(tone(300, 6))) for track_id in ids]
    clips = encode_clips(segments, uses, budget)
    assert list(clips) == ["TR0", "TR1", "TR2", "TR3"]
    assert sum(len(clip.uri) * uses[track_id] for track_id, clip in clips.items()) <= budget
    assert len(heard(clips["TR0"])) == pytest.approx(SHORTEST_S * RATE_HZ, abs=2500)
    assert encode_clips([], {}) == {}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunContext, Store]]:
    """Four songs, each by its own artist, measured by MFCC, with a study beside the figures."""
    top = tmp_path_factory.mktemp("report")
    for i in range(4):
        write_song(top / "music", f"artist {i}")
    config = configured(top / "music", top / "store")
    refresh(config)
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        evaluate.fn(run=run, after=[])
        yield run, store


def page(run: RunContext) -> Page:
    return Page(Path(run.config.store, "reports", "report.html").read_text("utf-8"))


def test_the_page_of_a_store_can_be_heard_and_follows_its_studies(world: tuple[RunContext, Store]):
    run, store = world
    assert not report.fn(run=run, after=[]).parts_reused
    first = page(run)
    sources = [attributes["src"] or "" for attributes in first.of("audio")]
    assert len(sources) == 16 and all(source.startswith("data:audio/mpeg;base64,") for source in sources)
    assert "4 songs of a folder of music." in first.words and "Study" not in first.words
    assert report.fn(run=run, after=[]).parts_reused == 1

    store.put_json("reports/studies/seeds.json", study_of("seeds", ["as it is"]))
    assert not report.fn(run=run, after=[]).parts_reused
    assert "Study: seeds" in page(run).words and "Study “seeds”, over 120 queries" in page(run).words
