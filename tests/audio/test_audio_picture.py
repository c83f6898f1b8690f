"""The picture of a song, and the option of `simsong explain` that writes it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simsong.audio.samples import RATE_HZ
from simsong.audio.trim import Trimmed
from simsong.config import Config
from simsong.config_loader import load
from simsong.errors import FileMissing
from simsong.parts.song_audio import sound_of
from storage.store import Store
from tests.small_world import SETTINGS, refresh, write_song

pytest.importorskip("matplotlib")

from simsong.audio import picture

PNG = b"\x89PNG\r\n\x1a\n"


def tone(seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def written(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def test_what_was_cut_and_the_segments_lie_where_they_are() -> None:
    figure: Any = picture.draw(tone(100), title="A - B", trimmed=Trimmed(10.5, 93.0, "structure"),
                               segments=[(10.5, 40.5), (40.5, 70.5)],
                               marks={"of MSD": 90.0, "elsewhere": 300.0})
    wave, level, change, windows = figure.axes
    for axes in figure.axes:
        assert axes.get_xlim() == (0, 100)
        assert {line.get_xdata()[0] for line in axes.lines} == {10.5, 93.0, 90.0}
    assert [(bar.get_x(), bar.get_width()) for bar in windows.patches[:2]] == [(10.5, 30), (40.5, 30)]
    assert [text.get_text() for text in windows.texts] == ["0", "1"]
    assert wave.get_title(loc="left") == \
        "1:40 long; trimming (structure): 10.5 s cut from the start and 7.0 s from the end; 2 segments"
    assert [text.get_text() for text in wave.texts] == ["0:10.5", "1:33.0", "of MSD"]
    (levels,) = level.patches[:1]
    assert levels.get_data().values == pytest.approx(-9.03, abs=0.01)      # of a sine with a peak of 0.5
    assert len(levels.get_data().values) == int(100 / 0.512)
    figure.canvas.draw()
    assert [tick.get_text() for tick in windows.get_xticklabels()][1:4] == ["0:00", "0:10", "0:20"]
    assert change.get_ylim()[0] == 0


def test_windows_that_overlap_lie_in_lanes() -> None:
    figure: Any = picture.draw(tone(10), title="x", segments=[(0, 4), (2, 6), (4, 8), (6, 10)])
    bars = figure.axes[3].patches
    assert [round(bar.get_y() + bar.get_height() / 2) for bar in bars] == [0, 1, 0, 1]


@pytest.mark.parametrize("samples", [tone(0.001), tone(0.6), np.zeros(5 * RATE_HZ, np.float32), tone(1500)])
def test_short_silent_and_long_songs_and_any_title_are_drawn(samples: np.ndarray,
                                                             recwarn: pytest.WarningsRecorder) -> None:
    data = written(picture.draw(samples, title="A$AP - $\\frac{ <b>初音ミク</b> $"))
    assert data.startswith(PNG)
    assert int.from_bytes(data[16:20], "big") == 1200                      # its width in pixels
    assert not [w for w in recwarn if "Glyph" not in str(w.message)]


@pytest.mark.parametrize(("seconds", "digits", "text"), [
    (0, 0, "0:00"), (61.26, 1, "1:01.3"), (59.96, 1, "1:00.0"), (59.6, 0, "1:00"), (3601, 0, "60:01")])
def test_times_are_minutes_and_seconds(seconds: float, digits: int, text: str) -> None:
    assert picture.clock(seconds, digits) == text


# --- the command

@dataclass
class World:
    config: Config
    folder: Path

    def explain(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        process = subprocess.run([sys.executable, "-m", "simsong.cli", "explain", *words, "--store",
                                  self.config.store], capture_output=True, text=True, check=False,
                                 timeout=120,
                                 env={**os.environ, "COLUMNS": "120"})
        assert process.returncode == code, process.stderr
        return process


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("picture")
    write_song(folder / "music", "one")
    broken = write_song(folder / "music", "two")
    broken.write_bytes(broken.read_bytes()[:20])
    config = load(None, {"store": str(folder / "store"), "sources": {"folder": str(folder / "music")},
                         **SETTINGS}, {})
    refresh(config)
    return World(config, folder)


def test_explain_draws_a_song_of_the_store(world: World) -> None:
    png, svg = world.folder / "one.png", world.folder / "one.svg"
    assert f"picture: {png}" in world.explain("song of one", "--picture", str(png)).stdout
    assert png.read_bytes().startswith(PNG)
    process = world.explain("song of one", "--json", "--picture", str(svg))
    assert json.loads(process.stdout)["title"] == "song of one"
    assert process.stderr == f"picture: {svg}\n"
    assert "<svg" in svg.read_text()


def test_what_cannot_be_drawn_is_one_line(world: World) -> None:
    (row,) = Store.open(world.config.store).read("audio").to_pylist()
    lines = [world.explain("song of two", "--picture", str(world.folder / "x.png"), code=1).stderr,
             world.explain("song of one", "--picture", str(world.folder / "x.txt"), code=1).stderr,
             world.explain("song of one", "--picture", str(world.folder / "none" / "x.png"), code=1).stderr]
    (world.folder / "music" / "one" / "song of one.wav").rename(world.folder / "gone.wav")
    lines.append(world.explain("song of one", "--picture", str(world.folder / "x.png"), code=1).stderr)
    assert [text.count("\n") for text in lines] == [1, 1, 1, 1]
    for text, says in zip(lines, ("there is no audio to draw", ".png, .svg or .pdf", "No such file",
                                  "one.wav"), strict=True):
        assert says in text
    with pytest.raises(FileMissing, match=r"aa/x\.ogg: no longer in the store; `simsong refresh --refetch"):
        sound_of(Store.open(world.config.store), "audio/aa/x.ogg", 60)
    assert row["file"].startswith("file:")
    assert not (world.folder / "x.png").exists()
