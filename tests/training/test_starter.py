"""An encoder distilled from a tagger: of which songs, and that it learns."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import soundfile
import torch
from click.testing import CliRunner

from simsong.config import ModelSettings
from simsong.errors import ModelError
from simsong.model.embedding import embed_segments
from simsong.model.encoder import Encoder, build
from simsong.model.logmel import STD
from simsong.pretrained import cache
from simsong.training import starter
from simsong.training.starter import Heard, Lessons, _mixed, allowed, distil, main, settle
from tests.checkpoints import musicnn_weights


def noise(n: int, seconds: float, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.1, round(seconds * 16_000)).astype(np.float32) for _ in range(n)]


@pytest.mark.parametrize(("licence", "may"), [
    ("CC0", True), ("CC BY 4.0", True), ("CC BY-SA 3.0 (DS10Forum release)", True), ("GPLv2+", True),
    ("https://creativecommons.org/licenses/by-sa/2.5/", True), ("CC CC BY-SA", True), ("OGA-BY 3.0", True),
    ("", False), ("CC", False), ("All rights reserved", False),
    ("CC BY-NC 3.0", False), ("CC CC  BY-NC-SA", False), ("CC BY-ND 2.0", False), ("CC BY NC", False),
    ("https://creativecommons.org/licenses/by-nc/3.0/", False),
    ("https://creativecommons.org/licenses/by-nd/3.0/", False),
    ("per track, see librosa/data", False), ("CC0 (unverified)", False), ("CC BY, not stated", False),
    ("not stated per file (credited in docs/CREDITS.md; repo AGPL-3.0)", False),
    ("composition public domain; recording from elsewhere, status unverified", False)])
def test_only_what_a_licence_allows_is_learnt_of(licence: str, may: bool) -> None:
    assert allowed(licence) is may


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with random weights, where `simsong pretrained fetch` would put it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = cache.find(starter.TEACHER).folder
    folder.mkdir(parents=True)
    content = safetensors.numpy.save(musicnn_weights())
    (folder / cache.WEIGHTS).write_bytes(content)
    (folder / cache.LICENCE).write_text("Do as you like.")
    (folder / cache.CARD).write_text(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}))


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    rows = ["file,artist,title,licence"]
    for number, licence in enumerate(("CC0", "CC BY-NC 4.0", "CC BY 4.0", "CC0", "not stated")):
        soundfile.write(tmp_path / f"{number}.wav", noise(1, 8, number)[0], 16_000)
        rows.append(f"{number}.wav,Artist {number},Title {number},{licence}")
    (tmp_path / "3.wav").write_bytes(b"no sound")
    (tmp_path / "catalogue.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "catalogue.csv"


def made(catalogue: Path, work: str, *arguments: str, code: int = 0) -> str:
    folder = catalogue.parent
    run = CliRunner().invoke(main, ["--catalogue", str(catalogue), "--out", str(folder / work / "out"),
                                    "--work", str(folder / work), "--threads", str(torch.get_num_threads()),
                                    *arguments])
    assert run.exit_code == code, run.output
    return run.output


@pytest.mark.usefixtures("teacher")
def test_it_is_made_of_what_may_be_heard(catalogue: Path) -> None:
    few = ("--songs", "3", "--demo-songs", "1", "--steps", "4")
    output = made(catalogue, "a", *few)
    assert "3 songs, 4 steps" in output and "Artist 3 - Title 3: left out" in output
    out = catalogue.parent / "a" / "out"
    card = json.loads((out / "training.json").read_text())
    assert [song["artist"] for song in card["heard"]] == ["Artist 0", "Artist 2"]
    assert card["sha256"] == hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    assert len(card["curves"]) == 4 and {point["long"] for point in card["curves"]} == {0.0, 1.0}
    assert "Artist 2: Title 2 (CC BY 4.0)" in (out / "CARD.md").read_text()
    encoder = Encoder.load(out)
    assert np.isfinite(embed_segments(encoder, noise(2, 30))).all()
    made(catalogue, "b", *few)
    other = json.loads((catalogue.parent / "b" / "out" / "training.json").read_text())
    assert other["sha256"] == card["sha256"]


@pytest.mark.usefixtures("teacher")
def test_what_cannot_be_made_is_one_line(catalogue: Path, tmp_path: Path) -> None:
    (catalogue.parent / "2.wav").write_bytes(b"no sound either")
    assert "1 real songs are too few" in made(catalogue, "a", "--demo-songs", "0", code=1)
    catalogue.write_text("a,b\n1,2\n")
    assert "not a catalogue" in made(catalogue, "b", code=1)
    shutil.rmtree(tmp_path / "cache")
    assert "is not here" in made(catalogue, "c", code=1)


def lessons_of(student: Encoder, songs: int = 3) -> Lessons:
    rng = np.random.default_rng(0)
    heard = [[Heard(rng.normal(size=(400, 64)).astype(np.float16), np.array([0, 149, 240]),
                    rng.normal(size=(3, 12)).astype(np.float32))] for _ in range(songs)]
    return Lessons(heard, [False] * songs, student, 0)


class Cut(Lessons):
    """A training that ends in the middle."""

    def __getitem__(self, step: int):
        if step == starter.CHECKPOINT_STEPS + 2:
            raise KeyboardInterrupt
        return super().__getitem__(step)


def test_it_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    steps = starter.CHECKPOINT_STEPS + 5

    def student() -> Encoder:
        return build(ModelSettings(), 0, segment_s=4)

    whole, cut, again = student(), student(), student()
    lessons = lessons_of(whole)
    curves = distil(whole, lessons, steps, tmp_path / "whole", "key")
    lessons.__class__ = Cut
    with pytest.raises(KeyboardInterrupt):
        distil(cut, lessons, steps, tmp_path / "cut", "key")
    heard: list[int] = []

    class Listening(Lessons):
        def __getitem__(self, step: int):
            heard.append(step)
            return super().__getitem__(step)

    lessons.__class__ = Listening
    assert distil(again, lessons, steps, tmp_path / "cut", "key") == curves
    assert heard == list(range(starter.CHECKPOINT_STEPS, steps))
    assert again.weights_digest() == whole.weights_digest()
    distil(student(), lessons, 1, tmp_path / "cut", "another key")
    assert heard[-1] == 0


def test_it_learns_what_the_teacher_says(tmp_path: Path) -> None:
    student = build(ModelSettings(), 0, segment_s=4)
    curves = distil(student, lessons_of(student), 30, tmp_path, "key")
    short = [point for point in curves if not point["long"]]
    first, last = ({name: np.mean([point[name] for point in part])
                    for name in ("regression", "relations", "contrast")} for part in (short[:6], short[-6:]))
    assert all(last[name] < 0.8 * first[name] for name in first), (first, last)


def test_one_song_is_too_few() -> None:
    student = build(ModelSettings(), 0, segment_s=4)
    with pytest.raises(ModelError, match="1 real songs are too few"):
        lessons_of(student, 1)


def test_a_songs_two_views_sound_with_the_same_other_one() -> None:
    levels = np.repeat(np.arange(6.0, dtype=np.float32), 2)             # of six songs, two views each
    views, targets = _mixed(np.tile(levels[:, None, None] / (2 * STD), (1, 3, 2)), levels[:, None],
                            np.random.default_rng(1))
    assert np.array_equal(views[::2], views[1::2]) and np.array_equal(targets[::2], targets[1::2])
    second = np.tile([[0], [0.1]], (6, 1)) + levels[:, None]            # of each pair 0.1 more than the first
    _, targets_of_pairs = _mixed(np.zeros((12, 3, 2), np.float32), second, np.random.default_rng(1))
    np.testing.assert_allclose(np.diff(targets_of_pairs[:, 0])[::2], 0.1, rtol=1e-4)
    changed = targets[::2, 0] != np.arange(6)
    assert changed.any() and np.array_equal(changed, ~np.isclose(views[::2, 0, 0] * 2 * STD, np.arange(6)))
    for song in np.flatnonzero(changed):
        shares = [((targets[2 * song, 0] - other) / (song - other), other) for other in range(6)
                  if other != song]
        powers = [share * np.exp(song) + (1 - share) * np.exp(other) for share, other in shares
                  if 0.5 <= share <= 1]
        assert np.isclose(np.exp(views[2 * song, 0, 0] * 2 * STD), powers).any()


def test_running_figures_are_those_of_whole_segments() -> None:
    student = build(ModelSettings(), 0, segment_s=4).train()
    rng = np.random.default_rng(0)
    frames = student.feature_shape[0]
    songs = [[Heard(rng.normal(song, 1, (2 * frames, 64)).astype(np.float16), np.array([0]),
                    np.zeros((1, 1), np.float32))] for song in range(3)]
    settle(student, songs)
    whole = [song[0].features[start:start + frames] for song in songs for start in (0, frames)]
    with torch.inference_mode():
        result = student.eval()(torch.from_numpy(np.stack(whole)).float())
    torch.testing.assert_close(result.mean(0), torch.zeros(student.dim), atol=1e-3, rtol=0)
    torch.testing.assert_close(result.var(0), torch.ones(student.dim), atol=0.1, rtol=0)
