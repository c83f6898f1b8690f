"""Training: what learns, what the loss sees, what comes of it; the card, and what is refused."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simsong.errors import ModelError
from simsong.model import losses
from simsong.model.embedding import embed_segments, song_embedding
from simsong.model.encoder import Encoder, build
from simsong.training.data import Batches
from simsong.training.features import TrainingFeatures
from simsong.training.train import learning_rate, train
from tests.small_training import (
    MODEL,
    SEGMENT_S,
    features_of,
    lyrics_of,
    prior_of,
    run,
    settings,
    textures,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingFeatures:
    return features_of(tmp_path_factory.mktemp("features"))


# What learns, and from what

def test_the_encoder_learns_and_not_only_its_head(data: TrainingFeatures, tmp_path: Path) -> None:
    """The prototype detached the encoder's output, so that only the projection trained."""
    for chunk in (None, 5):
        run(data, tmp_path / str(chunk), steps=1, warmup=0, chunk=chunk)
        before, after = build(MODEL, 0, segment_s=SEGMENT_S), Encoder.load(tmp_path / str(chunk))
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
            if not name.endswith("k_proj.bias"):               # to which softmax is blind
                assert not torch.equal(old, new), name


def test_layers_that_are_frozen_stay_and_those_above_learn(data: TrainingFeatures, tmp_path: Path) -> None:
    card = run(data, tmp_path, steps=2, warmup=0, freeze=1, chunk=6).card
    before, after = build(MODEL, 0, segment_s=SEGMENT_S), Encoder.load(tmp_path)
    moved = {name: not torch.equal(old, new) for (name, old), new in
             zip(before.named_parameters(), after.parameters(), strict=True)}
    assert not any(moved[name] for name in moved if "layers.0." in name or "embeddings" in name)
    assert all(moved[name] for name in moved if "head" in name)
    assert any(moved[name] for name in moved if "layers.1." in name)
    assert 0 < card["learning_parameters"] < card["parameters"]


def test_lower_layers_move_less_where_rates_decay(data: TrainingFeatures, tmp_path: Path) -> None:
    """AdamW's first step is its rate in each direction, whatever the gradient: 1e-3, and a tenth a layer."""
    run(data, tmp_path, steps=1, warmup=0, layer_decay=0.1, weight_decay=0)
    before, after = build(MODEL, 0, segment_s=SEGMENT_S), Encoder.load(tmp_path)
    step = {name: (new - old).abs().max().item() for (name, old), new in
            zip(before.named_parameters(), after.parameters(), strict=True)}
    for layer, rate in ((0, 1e-5), (1, 1e-4)):
        moved = [size for name, size in step.items() if f"layers.{layer}." in name and "weight" in name]
        assert moved and max(moved) == pytest.approx(rate, rel=0.02)
    assert step["head.0.weight"] == pytest.approx(1e-3, rel=0.02)


def test_a_centred_training_makes_a_centred_encoder(data: TrainingFeatures, tmp_path: Path) -> None:
    first_loss = []
    for blind in (False, True):
        card = run(data, tmp_path / str(blind), steps=1, centred=blind).card
        first_loss.append(card["curves"][0]["loss"])
        assert Encoder.load(tmp_path / str(blind)).preset.centred is card["preset"]["centred"] is blind
    assert first_loss[1] > first_loss[0] + 1                   # songs that differ in mean spectrum alone


def test_the_first_loss_is_that_of_prior_and_untrained_encoder(data: TrainingFeatures,
                                                               tmp_path: Path) -> None:
    """What reaches the loss: the lyrics of the batch's songs, in the batch's order."""
    prior, training = prior_of(), settings(steps=1)
    first = run(data, tmp_path, "wns", prior, steps=1).card["curves"][0]
    encoder = build(MODEL, 0, segment_s=SEGMENT_S).train()
    batch = Batches(data, 8, seed=0, preset=encoder.preset)[0]
    with torch.no_grad():
        z = encoder.project(encoder(batch.features, batch.at))
    likeness = prior.matrix(batch.songs)
    setting = {"alpha": training.alpha, "beta": training.beta,
               "prior_temperature": training.prior_temperature}
    expected = losses.soft_info_nce(z, likeness, temperature=training.temperature, **setting)
    assert first["loss"] == pytest.approx(expected.item(), abs=1e-5)
    weights = losses.negative_weights(likeness, **setting)
    assert first["sd_log_w"] == pytest.approx(losses.weight_spread(weights, likeness), abs=1e-6)


def test_the_lyrics_reach_the_loss_and_not_the_audio_in_their_place(data: TrainingFeatures,
                                                                    tmp_path: Path) -> None:
    """The prototype computed the "lyric" weight from the audio similarity. So its spread changed as the
    encoder learnt, and with other audio; and the lyrics changed nothing."""
    def curve(name: str, what: TrainingFeatures = data, lyrics: np.ndarray | None = None,
              **changes: Any) -> list[dict[str, float]]:
        return run(what, tmp_path / name, "wns", prior_of(lyrics), **changes).card["curves"]

    own, slow = curve("own"), curve("slow", learning_rate=1e-5)
    assert own[-1]["loss"] != pytest.approx(slow[-1]["loss"], abs=1e-3)
    assert [point["sd_log_w"] for point in own] == [point["sd_log_w"] for point in slow]
    other = replace(data, key="other", array=np.asarray(data.array)[::-1].copy())
    assert [point["sd_log_w"] for point in curve("audio", other)] == [point["sd_log_w"] for point in own]

    plain = run(data, tmp_path / "ns").card["curves"]
    shuffled = curve("shuffled", lyrics=np.random.default_rng(0).permutation(lyrics_of()))
    assert abs(own[0]["loss"] - shuffled[0]["loss"]) > 1e-3 and abs(own[0]["loss"] - plain[0]["loss"]) > 1e-3
    for name, lyrics in (("same", np.ones((24, 16), np.float32)), ("unknown", np.full((24, 16), np.nan))):
        silent = curve(name, lyrics=lyrics)
        assert silent[0]["loss"] == pytest.approx(plain[0]["loss"], abs=1e-5)
        assert silent[0]["sd_log_w"] == pytest.approx(0, abs=1e-6)


def test_the_control_is_trained_with_the_lyrics_dealt_out_anew(data: TrainingFeatures,
                                                               tmp_path: Path) -> None:
    prior = prior_of()
    control = run(data, tmp_path / "control", "wns_shuffled", prior, seed=3).card
    by_hand = run(data, tmp_path / "by hand", "wns", prior.shuffled(3), seed=3).card
    assert control["loss"] == "wns_shuffled" and control["weights"] == by_hand["weights"]
    assert control["weights"] != run(data, tmp_path / "own", "wns", prior, seed=3).card["weights"]


def test_steps_read_no_files(data: TrainingFeatures, tmp_path: Path) -> None:
    """The prototype read lyrics from a CSV once per song per step."""
    opened: list[str] = []
    watching = True
    sys.addaudithook(lambda event, args: opened.append(event) if event == "open" and watching else None)
    counts = []
    for steps in (3, 9):                                       # rounds, in which both files are mapped
        opened.clear()
        run(data, tmp_path / str(steps), "wns", prior_of(), steps=steps)
        counts.append(len(opened))
    watching = False
    assert counts[0] == counts[1]


def test_loss_falls_well_below_chance_and_songs_come_apart(data: TrainingFeatures, tmp_path: Path) -> None:
    curves = run(data, tmp_path, steps=30, batch=24).card["curves"]
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


# The card, and what is refused

def test_the_card(data: TrainingFeatures, tmp_path: Path) -> None:
    lyrics = lyrics_of()
    lyrics[:4] = np.nan
    result = train(data, "wns", prior_of(lyrics), settings(), MODEL, tmp_path, threads=1,
                   about={"artists": 7, "shards": "ab12"})
    card = json.loads((tmp_path / "training.json").read_text())
    assert card == result.card and result.finished and card["steps"] == result.steps == 6
    assert card["data"] == {"digest": data.key, "songs": 24, "segments": 72, "songs_used": 24,
                            "segments_used": 72, "batch": 8, "known": {"lyrics": 20}, "artists": 7,
                            "shards": "ab12"}
    assert [point["step"] for point in card["curves"]] == [0, 1, 2, 3, 4, 5]
    assert set(card["curves"][0]) == {"step", "loss", "learning_rate", "alignment", "uniformity", "sd_log_w",
                                      "alpha", "beta", "prior_temperature", "temperature", "views_per_s"}
    assert all(0 <= c["alignment"] <= 4 and c["uniformity"] <= 0 for c in card["curves"])
    assert card["warnings"] == [] and card["validation"] == [] and card["validated"] is None
    assert card["weights"] == Encoder.load(tmp_path).weights_digest()
    assert {"simsong", "python", "torch", "transformers", "numpy"} == set(card["versions"])
    cost = card["cost"]
    assert (cost["threads"], cost["processes"], cost["precision"]) == (1, 1, "float32")
    assert cost["seconds"] > 0 and cost["peak_mb"] > 50 and 0 <= cost["waiting"] <= 1


def test_the_card_tells_means_over_all_steps_and_by_epoch(data: TrainingFeatures, tmp_path: Path) -> None:
    card = run(data, tmp_path, "wns", prior_of(), steps=8).card        # 3 steps an epoch
    points, epochs = card["curves"], card["epochs"]
    assert [(e["epoch"], e["step"], e["steps"]) for e in epochs] == [(1, 3, 3), (2, 6, 3), (2.667, 8, 2)]
    for name in ("loss", "sd_log_w"):
        values = [point[name] for point in points]
        means = [np.mean(values[:3]), np.mean(values[3:6]), np.mean(values[6:])]
        assert [e[name] for e in epochs] == pytest.approx(means)
    assert card["weighting"]["sd_log_w"] == pytest.approx(np.mean([p["sd_log_w"] for p in points]))
    assert card["weighting"]["sd_log_w"] > 0.3 and card["weighting"]["alpha"] == 0.9


def test_the_card_warns_where_the_prior_does_not_weigh(data: TrainingFeatures, tmp_path: Path) -> None:
    card = run(data, tmp_path, "wns", prior_of(), prior_temperature=10).card
    assert len(card["warnings"]) == 1 and "InfoNCE in all but name" in card["warnings"][0]


def test_a_limit_of_minutes_ends_the_training_and_is_told(data: TrainingFeatures, tmp_path: Path) -> None:
    card = run(data, tmp_path / "late", steps=500, minutes=1e-6).card
    assert card["steps"] == 1
    assert [warning for warning in card["warnings"]
            if "limit of 1e-06 minutes, after 1 of 500 steps" in warning]
    assert not run(data, tmp_path / "in time", minutes=60).card["warnings"]


def test_threads_and_determinism_are_put_back(data: TrainingFeatures, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    train(data, "ns", None, settings(steps=1, batch=2), MODEL, tmp_path, threads=before + 1)
    assert torch.get_num_threads() == before and not torch.are_deterministic_algorithms_enabled()


def test_finished_training_is_not_repeated_and_another_is(data: TrainingFeatures, tmp_path: Path) -> None:
    first = run(data, tmp_path)
    written = (tmp_path / "model.safetensors").stat().st_mtime_ns
    assert run(data, tmp_path).card == json.loads((tmp_path / "training.json").read_text()) == first.card
    how: dict[str, Any]
    for how in ({"checkpoint_s": 5}, {"chunk": 4}, {"alpha": 0.5}):        # not what; NS has no alpha
        assert run(data, tmp_path, **how).card == first.card
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == written
    assert run(data, tmp_path, seed=1).card["weights"] != first.card["weights"]


def test_wns_needs_a_prior_that_fits(data: TrainingFeatures, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none was given"):
        run(data, tmp_path, "wns")
    with pytest.raises(ModelError, match="a prior of 23 songs does not fit 24 songs"):
        run(data, tmp_path, "wns", prior_of(lyrics_of(23)))


def test_a_loss_that_is_no_longer_finite_ends_the_training(data: TrainingFeatures, tmp_path: Path) -> None:
    broken = replace(data, key="nan", array=np.full(data.array.shape, np.nan, np.float16))
    with pytest.raises(ModelError, match="the loss is nan at step 0"):
        run(broken, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
