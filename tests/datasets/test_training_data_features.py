"""Features: computed once a part, whole segments of them, read from many files as from one array."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from simsong import config
from simsong.errors import ModelError
from simsong.model.encoder import Encoder, build
from simsong.model.logmel import RATE_HZ, LogMel
from simsong.model.presets import preset
from simsong.training.data import Batches
from simsong.training.features import CHUNK, Files, Part, TrainingFeatures, build_features

SEGMENT_S = 1.0
TINY = config.ModelSettings(preset="tiny")
Rows = Iterator[tuple[str, int, np.ndarray]]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return build(TINY, 0, segment_s=SEGMENT_S)


def waveform(song: int, segment: int, samples: int = RATE_HZ) -> np.ndarray:
    return np.random.default_rng((song, segment)).normal(0, 0.1, samples).astype(np.float32)


def rows(songs: range, segments: int = 2) -> Rows:
    for song in songs:
        for segment in range(segments):
            yield f"TR{song}", segment, waveform(song, segment)


def refuse() -> Rows:
    raise AssertionError("computed again")
    yield


def parts(*songs: range) -> list[Part]:
    return [Part(f"songs {some}", rows(some)) for some in songs]


def kept(*songs: range) -> list[Part]:
    return [Part(f"songs {some}", refuse()) for some in songs]


def test_features_are_those_of_whole_segments_in_order(encoder: Encoder, tmp_path: Path) -> None:
    features = build_features(parts(range(3), range(3, 4)), encoder, tmp_path)
    audio = torch.from_numpy(np.stack([audio for _, _, audio in rows(range(4))]))
    assert features.array.shape == (8, 49,
                                    64) and features.array.dtype == np.float16     # (16,000 − 400) // 320
    np.testing.assert_allclose(np.asarray(features.array, np.float32), LogMel(64, 20)(audio), atol=2e-3)
    assert features.track_ids == ["TR0", "TR1", "TR2", "TR3"]
    assert features.song.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert features.file_of().tolist() == [0, 0, 0, 1] and features.segment_s == SEGMENT_S


def test_features_of_30_s_are_not_cut(tmp_path: Path) -> None:
    """The prototype's stopped at 10.24 s: 1,024 frames of 10 ms."""
    whole = build(config.ModelSettings(preset="small"), 0)
    audio = np.zeros(30 * RATE_HZ, np.float32)
    audio[29 * RATE_HZ:] = waveform(0, 0)
    features = build_features([Part("a", iter([("TR0", 0, audio)]))], whole, tmp_path)
    assert features.array.shape == (1, 2998, 128)
    heard = np.flatnonzero(features.array[0].std(1) > 0.01)
    assert heard[0] == 2898 and heard[-1] == 2997               # from the first window into second 29


@pytest.mark.parametrize("rate_hz", [44_100, 22_050, 8_000])
def test_waveforms_of_another_rate_are_refused(encoder: Encoder, tmp_path: Path, rate_hz: int) -> None:
    """The prototype handed 44.1 kHz to a 16 kHz extractor."""
    second = [("TR0", 0, waveform(0, 0, rate_hz))]
    with pytest.raises(ModelError, match="must be 16000 samples"):
        build_features([Part("a", second)], encoder, tmp_path)
    assert not list(tmp_path.glob("*.f16"))


def test_only_new_parts_are_computed(encoder: Encoder, tmp_path: Path) -> None:
    first = build_features(parts(range(2), range(2, 4)), encoder, tmp_path)
    again = build_features(kept(range(2), range(2, 4)), encoder, tmp_path)
    assert again.key == first.key and again.track_ids == first.track_ids
    np.testing.assert_array_equal(again.array, first.array)
    grown = build_features([*kept(range(2), range(2, 4)), *parts(range(4, 5))], encoder, tmp_path)
    assert grown.key != first.key and grown.track_ids == [f"TR{song}" for song in range(5)]
    np.testing.assert_array_equal(grown.array[:8], first.array)
    with pytest.raises(AssertionError):                         # other content
        build_features(kept(range(3)), encoder, tmp_path)


def test_another_front_end_computes_its_own(encoder: Encoder, tmp_path: Path) -> None:
    first = build_features(parts(range(2)), encoder, tmp_path)
    same = build_features(kept(range(2)), build(TINY, 1, segment_s=SEGMENT_S), tmp_path)
    small = build(config.ModelSettings(preset="small"), 0, segment_s=SEGMENT_S)
    other = build_features(parts(range(2)), small, tmp_path)
    assert first.key == same.key != other.key and other.array.shape == (4, 98, 128)
    np.testing.assert_array_equal(build_features(kept(range(2)), encoder, tmp_path).array, first.array)


def test_features_of_models_that_take_samples_are_samples(tmp_path: Path) -> None:
    small = Wav2Vec2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                           conv_dim=(8, 8), conv_stride=(5, 64), conv_kernel=(10, 64),
                           num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2)
    Wav2Vec2Model(small).save_pretrained(tmp_path / "model")
    model = config.ModelSettings(preset="waveform", pretrained=str(tmp_path / "model"))
    features = build_features(parts(range(2)), build(model, 0, segment_s=SEGMENT_S), tmp_path / "features")
    assert features.array.shape == (4, RATE_HZ)
    for row, (_, _, audio) in zip(features.array[:], rows(range(2)), strict=True):
        np.testing.assert_allclose(row, (audio - audio.mean()) / audio.std(), atol=5e-3)
    batch = Batches(features, 2, seed=0, strength="light", preset=preset("waveform"))[0]
    assert batch.features.shape == (4, 48 * 320 + 400)          # all of the second: 49 strides


@pytest.mark.parametrize("damage", ["cut short", "no index", "broken index"])
def test_parts_that_are_not_whole_are_computed_again(encoder: Encoder, tmp_path: Path, damage: str) -> None:
    first = build_features(parts(range(2), range(2, 4)), encoder, tmp_path)
    whole = np.array(first.array)
    assert isinstance(first.array, Files)
    file = first.array.files[1][0]
    if damage == "cut short":
        os.truncate(file, 100)
    elif damage == "no index":
        file.with_suffix(".json").unlink()
    else:
        file.with_suffix(".json").write_text("{")
    again = build_features([*kept(range(2)), *parts(range(2, 4))], encoder, tmp_path)
    np.testing.assert_array_equal(again.array, whole)


def test_what_breaks_off_leaves_no_part_and_the_finished_ones(encoder: Encoder, tmp_path: Path) -> None:
    def broken() -> Rows:
        yield from rows(range(CHUNK))
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        build_features([*parts(range(2)), Part("b", broken())], encoder, tmp_path, workers=1)
    assert len(list(tmp_path.glob("*.f16"))) == 1
    features = build_features([*kept(range(2)), Part("b", rows(range(2, 4)))], encoder, tmp_path)
    assert len(features.song) == 8 and not list(tmp_path.glob("*.part"))


def test_workers_change_nothing(encoder: Encoder, tmp_path: Path) -> None:
    songs = [range(i, i + 1) for i in range(6)]
    one, three = (build_features(parts(*songs), encoder, tmp_path / str(workers), workers=workers)
                  for workers in (1, 3))
    assert one.key == three.key and one.track_ids == three.track_ids
    np.testing.assert_array_equal(one.array, three.array)


def test_empty_parts_and_songs_in_several_parts(encoder: Encoder, tmp_path: Path) -> None:
    features = build_features([Part("none", iter(())), *parts(range(2), range(1, 3)),
                               Part("no more", iter(()))],
                              encoder, tmp_path)
    assert features.track_ids == ["TR0", "TR1", "TR2"] and features.song.tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    assert features.file_of().tolist() == [0, 0, 1]
    nothing = build_features([], encoder, tmp_path)
    assert nothing.track_ids == [] and nothing.array.shape == (0, 49, 64) and len(nothing.file_of()) == 0


def test_they_go_to_other_processes(encoder: Encoder, tmp_path: Path) -> None:
    built = build_features(parts(range(2), range(2, 3)), encoder, tmp_path)
    sent: TrainingFeatures = pickle.loads(pickle.dumps(built))
    assert sent.key == built.key and sent.track_ids == built.track_ids and sent.segment_s == built.segment_s
    np.testing.assert_array_equal(sent.song, built.song)
    np.testing.assert_array_equal(sent.array, built.array)


def test_many_files_read_as_one_array(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(10, 3, 2)).astype(np.float16)
    files = []
    for name, some in (("a", slice(0, 4)), ("b", slice(4, 5)), ("c", slice(5, 10))):
        (tmp_path / name).write_bytes(values[some].tobytes())
        files.append((tmp_path / name, len(values[some])))
    array = Files(files, (3, 2))
    assert array.shape == values.shape and len(array) == 10
    for some in (0, 4, -1, np.int64(5), slice(2, 7), slice(None), np.array([9, 0, 4, 4, -2]), np.arange(0)):
        np.testing.assert_array_equal(array[some], values[some])
    np.testing.assert_array_equal(np.asarray(array, np.float32), values.astype(np.float32))
    for outside in (10, np.array([10]), -11):
        with pytest.raises(IndexError):
            array[outside]
