"""Training: batches, splits, gradients where they belong, resume to the bit, the card."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from simsong import config
from simsong.errors import ModelError
from simsong.model.encoder import Encoder, build, embed_segments, song_embedding
from simsong.model.logmel import RATE_HZ, UNITS_PER_DB, LogMel
from simsong.model.presets import preset
from simsong.training.augment import _add_floor, augment, eq_curves, shift_bands
from simsong.training.data import Batches, Features, build_features
from simsong.training.split import held_out_artists
from simsong.training.train import TrainingResult, centred, learning_rate, train

SEGMENT_S = 3.0
MODEL = config.Model(preset="tiny")
FINISHED = ["config.json", "model.safetensors", "training.json"]


def textures(songs: int = 24, segments: int = 3) -> Iterator[tuple[str, int, np.ndarray]]:
    """Songs told apart by their timbre: noise through a filter of the song's own."""
    for song in range(songs):
        filtered = np.random.default_rng(song).normal(size=12)
        for segment in range(segments):
            noise = np.random.default_rng((song, segment)).normal(0, 0.05, round(SEGMENT_S * RATE_HZ))
            yield f"TR{song}", segment, np.asarray(lfilter(filtered, 1, noise), np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Features:
    folder = tmp_path_factory.mktemp("features")
    return build_features(textures(), preset("tiny"), folder, key="textures", segment_s=SEGMENT_S)


def settings(**changes: object) -> config.Training:
    few = {"steps": 6, "batch": 8, "augment": "off", "checkpoint_s": 3600}
    return config.Training.model_validate(few | changes)


def run(data: Features, folder: Path, loss: config.Loss = "ns", prior: np.ndarray | None = None,
        **changes: object) -> TrainingResult:
    return train(data, loss, prior, settings(**changes), MODEL, folder, threads=1)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Features and batches

def test_features_are_computed_once(data: Features, tmp_path: Path) -> None:
    def refuse() -> Iterator[tuple[str, int, np.ndarray]]:
        raise AssertionError("computed again")
        yield

    first = build_features(textures(3, 2), preset("tiny"), tmp_path, key="a", segment_s=SEGMENT_S)
    again = build_features(refuse(), preset("tiny"), tmp_path, key="a", segment_s=SEGMENT_S)
    assert again.track_ids == ["TR0", "TR1", "TR2"] and again.song.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(first.array, again.array)
    with pytest.raises(AssertionError):                        # other content
        build_features(refuse(), preset("tiny"), tmp_path, key="b", segment_s=SEGMENT_S)


def test_features_cut_short_are_computed_again(tmp_path: Path) -> None:
    first = build_features(textures(2, 2), preset("tiny"), tmp_path, key="a", segment_s=SEGMENT_S)
    whole = np.array(first.array)
    os.truncate(tmp_path / "features.f16", 100)
    again = build_features(textures(2, 2), preset("tiny"), tmp_path, key="a", segment_s=SEGMENT_S)
    np.testing.assert_array_equal(again.array, whole)


def test_features_are_the_log_mel_of_the_whole_segment(data: Features) -> None:
    waveform = next(textures())[2]
    expected = LogMel(64, 20)(torch.from_numpy(waveform)[None])[0].numpy()
    assert data.array.shape == (72, 149, 64)                   # 1 + (48,000 − 400) // 320
    np.testing.assert_allclose(data.array[0], expected, atol=2e-3)


def test_waveforms_of_another_rate_are_refused(tmp_path: Path) -> None:
    """The prototype handed 44.1 kHz to a 16 kHz extractor."""
    segments = [("TR0", 0, np.zeros(3 * 44_100, np.float32))]
    with pytest.raises(ModelError, match="48000 samples"):
        build_features(segments, preset("tiny"), tmp_path, key="a", segment_s=SEGMENT_S)


def test_a_batch_is_two_segments_of_each_song_and_a_function_of_the_step(data: Features) -> None:
    batches = Batches(data, 8, seed=0)
    for step in (0, 1, 100):
        rows = batches.rows_of(step)
        assert data.song[rows].tolist() == np.repeat(batches.songs_of(step), 2).tolist()
        assert len(set(rows)) == 16 and len(set(batches.songs_of(step))) == 8
    assert torch.equal(batches[5].features, Batches(data, 8, seed=0)[5].features)
    assert not np.array_equal(batches.rows_of(5), Batches(data, 8, seed=1).rows_of(5))
    np.testing.assert_array_equal(batches[0].features.numpy(), data.array[batches.rows_of(0)])


def test_views_are_stretches_of_the_segment_anywhere_on_the_grid(data: Features) -> None:
    batches = Batches(data, 24, seed=0, preset=replace(preset("tiny"), view=4))
    starts: set[int] = set()
    for step in range(5):
        batch = batches[step]
        assert batch.at is not None and batch.features.shape == (48, 64, 64)      # 4 patches of 16 frames
        for view, row, at in zip(batch.features, batches.rows_of(step), batch.at.tolist(), strict=True):
            np.testing.assert_array_equal(view.numpy(), data.array[row, 16 * at:16 * at + 64])
        starts |= set(batch.at.tolist())
    assert starts == set(range(6))                             # 9 patches of 149 frames hold 6 such stretches
    whole = Batches(data, 24, seed=0, preset=replace(preset("tiny"), view=100))[0]
    assert whole.at is not None and whole.at.tolist() == [0] * 48 and whole.features.shape[1] == 9 * 16


def test_every_song_comes_once_a_round(data: Features) -> None:
    batches = Batches(data, 8, seed=0)
    for first in (0, 3):                                       # rounds of 24 / 8 steps
        assert Counter(np.concatenate([batches.songs_of(first + i) for i in range(3)])) == Counter(range(24))
    assert not np.array_equal(batches.songs_of(0), batches.songs_of(3))


def test_songs_with_one_segment_are_left_out_and_two_songs_are_needed(tmp_path: Path) -> None:
    segments = [row for row in textures(4, 2) if row[:2] != ("TR1", 1)]
    some = build_features(segments, preset("tiny"), tmp_path / "some", key="a", segment_s=SEGMENT_S)
    batches = Batches(some, 32, seed=0)
    assert batches.size == 3 and sorted(batches.songs_of(0)) == [0, 2, 3]
    few = build_features(segments[:3], preset("tiny"), tmp_path / "few", key="a", segment_s=SEGMENT_S)
    with pytest.raises(ModelError, match="two songs with two segments each, and has 1 of 2"):
        Batches(few, 32, seed=0)


# Augmentation

def test_augmentation_off_does_nothing_and_each_view_has_its_own() -> None:
    same = np.repeat(np.random.default_rng(1).normal(0, 0.3, (1, 50, 64)), 3, axis=0).astype(np.float32)
    views = same.copy()
    augment(views, np.random.default_rng(0), "off")
    np.testing.assert_array_equal(views, same)
    for strength in ("light", "strong"):
        views, again = same.copy(), same.copy()
        augment(views, np.random.default_rng(0), strength)
        augment(again, np.random.default_rng(0), strength)
        np.testing.assert_array_equal(views, again)
        assert np.isfinite(views).all()
        assert not np.allclose(views[0], views[1]) and not np.allclose(views[1], views[2])
        masked = (views.std(1) < 1e-4).mean()                  # bands that no longer move
        assert 0 < masked < 0.1


def test_a_noise_floor_adds_power() -> None:
    """30 dB below what is loud: it lifts silence to there, and adds 0.004 dB to what is loud."""
    views = np.full((1, 100, 8), 1.0, np.float32)
    views[:, :50] -= 80 * UNITS_PER_DB
    _add_floor(views, np.full((1, 8), 30.0))
    np.testing.assert_allclose(views[0, :50], 1 - 30 * UNITS_PER_DB, atol=1e-4)
    np.testing.assert_allclose(views[0, 50:], 1 + 10 * np.log10(1.001) * UNITS_PER_DB, atol=1e-5)


def test_bands_move_together() -> None:
    for bands, expected in ((0, [1, 2, 3, 4, 5]), (2, [1, 1, 1, 2, 3]), (-1, [2, 3, 4, 5, 5])):
        view = np.tile(np.arange(1, 6, dtype=np.float32), (3, 1))
        shift_bands(view, bands)
        assert view.tolist() == [expected] * 3


def test_gain_and_equaliser_are_in_db_and_smooth() -> None:
    curves = eq_curves(4000, 64, 3.0, np.random.default_rng(0))
    assert curves[:, 0].std() == pytest.approx(3.0, rel=0.05)              # at a knot: as asked for
    assert np.abs(np.diff(curves, axis=1)).max() < 3.0                     # from band to band
    waveform = next(textures())[2]
    quiet, loud = LogMel(64, 20)(torch.from_numpy(np.stack([waveform, 2 * waveform])))
    assert (loud - quiet).mean().item() == pytest.approx(6.02 * UNITS_PER_DB, rel=0.02)


# Splits

def test_artists_are_on_one_side_and_stay_there() -> None:
    """The prototype had songs of one artist in train and test."""
    songs = [f"AR{i % 100}" for i in range(1000)]              # ten songs of each
    held_out = held_out_artists(songs, 0.3, seed=0)
    assert 20 <= len(held_out) <= 40 and held_out <= set(songs)
    grown = held_out_artists([*songs, *(f"NEW{i}" for i in range(500))], 0.3, seed=0)
    assert {artist for artist in grown if artist.startswith("AR")} == held_out
    assert held_out_artists(songs[::-1], 0.3, seed=0) == held_out != held_out_artists(songs, 0.3, seed=1)


def test_small_collections_are_not_split_and_both_sides_have_two_artists() -> None:
    artists = [f"AR{i}" for i in range(8)]
    assert held_out_artists(artists[:7], 0.3, seed=0) == set()
    assert held_out_artists(artists, 0.0, seed=0) == set()
    for seed in range(20):
        assert len(held_out_artists(artists, 0.01, seed)) == 2
        assert len(held_out_artists(artists, 0.99, seed)) == 6


# The training itself

def test_the_encoder_learns_and_not_only_its_head(data: Features, tmp_path: Path) -> None:
    """The prototype detached the encoder's output, so that only the projection trained."""
    run(data, tmp_path, steps=1, warmup=0)
    before, after = build(MODEL, 0, segment_s=SEGMENT_S), Encoder.load(tmp_path)
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        if not name.endswith("k_proj.bias"):                   # to which softmax is blind
            assert not torch.equal(old, new), name


def test_a_centred_training_makes_a_centred_encoder(data: Features, tmp_path: Path) -> None:
    first_loss = []
    for blind in (False, True):
        card = run(data, tmp_path / str(blind), steps=1, centred=blind).card
        first_loss.append(card["curves"][0]["loss"])
        assert Encoder.load(tmp_path / str(blind)).preset.centred is card["preset"]["centred"] is blind
    assert first_loss[1] > first_loss[0] + 1                   # songs that differ in mean spectrum alone


def test_the_lyrics_reach_the_loss_and_not_the_audio_in_their_place(data: Features, tmp_path: Path) -> None:
    """The prototype computed the "lyric" weight from the audio similarity."""
    rng = np.random.default_rng(0)
    lyrics = rng.normal(size=(24, 16)).astype(np.float32)

    def first_loss(name: str, loss: config.Loss = "wns", prior: np.ndarray | None = None) -> float:
        return run(data, tmp_path / name, loss, prior, steps=1).card["curves"][0]["loss"]

    plain, own = first_loss("ns", "ns"), first_loss("own", prior=lyrics)
    assert abs(own - first_loss("shuffled", prior=rng.permutation(lyrics))) > 1e-3 and abs(own - plain) > 1e-3
    assert first_loss("same", prior=np.ones((24, 16))) == pytest.approx(plain, abs=1e-5)
    assert first_loss("unknown", prior=np.full((24, 16), np.nan)) == pytest.approx(plain, abs=1e-5)


def test_steps_read_no_files(data: Features, tmp_path: Path) -> None:
    """The prototype read lyrics from a CSV once per song per step."""
    lyrics = np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)
    opened: list[str] = []
    watching = True
    sys.addaudithook(lambda event, args: opened.append(event) if event == "open" and watching else None)
    counts = []
    for steps in (2, 8):
        opened.clear()
        run(data, tmp_path / str(steps), "wns", lyrics, steps=steps)
        counts.append(len(opened))
    watching = False
    assert counts[0] == counts[1]


def test_loss_falls_well_below_chance_and_songs_come_apart(data: Features, tmp_path: Path) -> None:
    result = run(data, tmp_path, steps=30, batch=24)
    curves = result.card["curves"]
    assert np.log(47) > curves[0]["loss"] > 0.5 and np.mean([c["loss"] for c in curves[-3:]]) < 0.1
    trained, waveforms = Encoder.load(tmp_path), [waveform for _, _, waveform in textures()]
    songs = embed_segments(trained, waveforms).reshape(24, 3, 384)
    nearest = (songs[:, 2] @ np.stack([song_embedding(song[:2]) for song in songs]).T).argmax(1)
    assert (nearest == np.arange(24)).mean() > 0.9


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(step, settings(steps=100, warmup=0.1, learning_rate=1.0)) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5) and rates[99] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_centred_by_hand() -> None:
    lyrics = np.array([[2.0, 1], [0, 1], [np.nan, 0], [1, 4]])            # around (1, 2)
    expected = np.array([[0.5, -0.5], [-0.5, -0.5], [np.nan, np.nan], [0, 1]])
    expected[:2] *= np.sqrt(2)
    np.testing.assert_allclose(centred(lyrics).numpy(), expected, atol=1e-7)


# Stop, kill, go on

def test_stopped_and_resumed_is_undisturbed_to_the_bit(data: Features, tmp_path: Path) -> None:
    lyrics = np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)
    whole = train(data, "wns", lyrics, settings(augment="light"), MODEL, tmp_path / "whole", threads=1)
    answers = iter([False, False, False, True])
    first = train(data, "wns", lyrics, settings(augment="light"), MODEL, tmp_path / "cut", threads=1,
                  stop=lambda: next(answers))
    assert (first.finished, first.steps) == (False, 3)
    assert names(tmp_path / "cut") == ["checkpoint.pt"]
    second = train(data, "wns", lyrics, settings(augment="light"), MODEL, tmp_path / "cut", threads=1)
    assert second.finished and second.card | {"cost": 0} == whole.card | {"cost": 0}
    assert (tmp_path / "cut" / "model.safetensors").read_bytes() == \
        (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert names(tmp_path / "cut") == FINISHED


KILLED = """
import sys
from pathlib import Path
from simsong import config
from simsong.model.presets import preset
from simsong.training.data import build_features
from simsong.training.train import train
data = build_features(iter(()), preset("tiny"), Path(sys.argv[1]), key="textures", segment_s=3.0)
training = config.Training(steps=40, batch=8, augment="light", checkpoint_s=1e-6)
train(data, "ns", None, training, config.Model(), Path(sys.argv[2]), threads=1)
"""


def test_killed_and_run_again_is_undisturbed_to_the_bit(data: Features, tmp_path: Path) -> None:
    features = Path(str(getattr(data.array, "filename", ""))).parent
    again = settings(steps=40, augment="light")
    whole = train(data, "ns", None, again, MODEL, tmp_path / "whole", threads=1)
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(features), str(folder)])
    while not (folder / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL                   # it was in the middle
    resumed: list[int] = []
    result = train(data, "ns", None, again, MODEL, folder, threads=1,
                   stop=lambda: bool(resumed.append(1)))       # counts the steps that were left
    assert 0 < len(resumed) < 40
    assert result.card["weights"] == whole.card["weights"]
    assert names(folder) == FINISHED


def test_finished_training_is_not_repeated_and_another_is(data: Features, tmp_path: Path) -> None:
    first = run(data, tmp_path)
    written = (tmp_path / "model.safetensors").stat().st_mtime_ns
    assert run(data, tmp_path).card == json.loads((tmp_path / "training.json").read_text()) == first.card
    assert run(data, tmp_path, checkpoint_s=5).card == first.card          # says how, not what
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == written
    assert run(data, tmp_path, seed=1).card["weights"] != first.card["weights"]


@pytest.mark.parametrize("left", ["damaged", "of another training"])
def test_a_checkpoint_that_does_not_fit_is_left_alone(data: Features, tmp_path: Path, left: str) -> None:
    answers = iter([False, False, True])
    train(data, "ns", None, settings(seed=7), MODEL, tmp_path, threads=1, stop=lambda: next(answers))
    if left == "damaged":
        os.truncate(tmp_path / "checkpoint.pt", 5000)
    result = run(data, tmp_path)
    assert len(result.card["curves"]) == 6
    assert result.card["weights"] == run(data, tmp_path / "fresh").card["weights"]


# The card, and what is refused

def test_the_card(data: Features, tmp_path: Path) -> None:
    lyrics = np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)
    lyrics[:4] = np.nan
    result = train(data, "wns", lyrics, settings(), MODEL, tmp_path, threads=1,
                   validate=lambda encoder: {"training": float(encoder.training)})
    card = json.loads((tmp_path / "training.json").read_text())
    assert card == result.card and result.finished
    assert card["data"] == {"songs": 24, "segments": 72, "songs_used": 24, "segments_used": 72, "batch": 8,
                            "songs_with_lyrics": 20}
    assert [point["step"] for point in card["curves"]] == [0, 1, 2, 3, 4, 5]
    assert set(card["curves"][0]) == {"step", "loss", "learning_rate", "alignment", "uniformity", "sd_log_w"}
    assert all(0 <= c["alignment"] <= 4 and c["uniformity"] <= 0 for c in card["curves"])
    assert np.mean([c["sd_log_w"] for c in card["curves"]]) > 0.3 and card["warnings"] == []
    assert card["validation"] == [{"step": step, "training": 0} for step in (1, 2, 4, 5, 6)]
    assert card["weights"] == Encoder.load(tmp_path).weights_digest()
    assert card["cost"]["threads"] == 1 and card["cost"]["seconds"] > 0


def test_the_card_warns_where_the_lyrics_do_not_weigh(data: Features, tmp_path: Path) -> None:
    lyrics = np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)
    card = run(data, tmp_path, "wns", lyrics, prior_temperature=10).card
    assert len(card["warnings"]) == 1 and "InfoNCE in all but name" in card["warnings"][0]


def test_threads_and_determinism_are_put_back(data: Features, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    train(data, "ns", None, settings(steps=1), MODEL, tmp_path, threads=before + 1)
    assert torch.get_num_threads() == before and not torch.are_deterministic_algorithms_enabled()


def test_wns_needs_lyrics_that_fit(data: Features, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none were given"):
        run(data, tmp_path, "wns")
    with pytest.raises(ModelError, match="do not fit 24 songs"):
        run(data, tmp_path, "wns", np.zeros((23, 4)))


def test_a_loss_that_is_no_longer_finite_ends_the_training(data: Features, tmp_path: Path) -> None:
    broken = Features("nan", SEGMENT_S, data.track_ids, data.song, np.full_like(data.array, np.nan))
    with pytest.raises(ModelError, match="the loss is nan at step 0"):
        run(broken, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
