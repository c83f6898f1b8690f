"""Decoding: real files made here in many formats, and other libraries' odd ones."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
import soundfile as sf
from av.audio.stream import AudioStream

from simsong.audio.decode import decode, probe
from simsong.audio.guard import Guard, Limits
from simsong.audio.samples import RATE_HZ
from simsong.errors import AudioTooLong, AudioUndecodable, FileMissing, SongError

ODD = Path(__file__).parents[2].parent / "shared" / "data" / "odd_audio"


def tone(seconds: float, rate_hz: int, hz: float = 440.0, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def is_tone(samples: np.ndarray, hz: float = 440.0, amplitude: float = 0.5, tolerance: float = 0.02) -> bool:
    """Whether the middle half of the samples is that tone, of whatever phase."""
    middle = samples[len(samples) // 4: 3 * len(samples) // 4]
    t = np.arange(len(middle)) / RATE_HZ
    basis = np.stack([np.cos(2 * np.pi * hz * t), np.sin(2 * np.pi * hz * t)], axis=1)
    fit, *_ = np.linalg.lstsq(basis, middle, rcond=None)
    residual = middle - basis @ fit
    return bool(abs(np.hypot(*fit) - amplitude) < tolerance and np.sqrt(np.mean(residual**2)) < tolerance)


@pytest.mark.parametrize("rate_hz", [1_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_any_rate_becomes_16_khz(tmp_path: Path, rate_hz: int) -> None:
    file = tmp_path / "a.wav"
    sf.write(file, tone(2, rate_hz, hz=300), rate_hz, subtype="PCM_24")
    samples = decode(file)
    assert samples.dtype == np.float32
    assert abs(len(samples) - 2 * RATE_HZ) <= 1
    assert is_tone(samples, hz=300, tolerance=1e-3)


@pytest.mark.parametrize(("name", "subtype"), [
    ("a.wav", "PCM_U8"), ("a.wav", "PCM_16"), ("a.wav", "PCM_32"), ("a.wav", "FLOAT"), ("a.wav", "DOUBLE"),
    ("a.wav", "ULAW"), ("a.flac", "PCM_24"), ("a.ogg", "VORBIS"), ("a.opus", "OPUS"),
    ("a.mp3", "MPEG_LAYER_III"), ("a.aiff", "PCM_16"), ("a.caf", "PCM_16"), ("a.au", "PCM_16"),
    ("a.mat", "PCM_16"), ("a.paf", "PCM_24")])
def test_any_sample_format(tmp_path: Path, name: str, subtype: str) -> None:
    """Matlab and PARIS files are known to libsndfile alone: the second try."""
    file = tmp_path / name
    container = {"a.opus": "OGG", "a.mat": "MAT5"}.get(name)
    sf.write(file, tone(2, 48_000), 48_000, subtype=subtype, format=container)
    samples = decode(file)
    assert abs(len(samples) - 2 * RATE_HZ) <= 0.06 * RATE_HZ          # lossy codecs pad
    assert is_tone(samples)


def test_64_bit_integers(tmp_path: Path) -> None:
    file = tmp_path / "a.nut"
    with av.open(str(file), "w") as out:
        stream = out.add_stream("pcm_s64le", rate=RATE_HZ, layout="mono")
        frame = av.AudioFrame("s64", "mono", RATE_HZ)
        frame.planes[0].update((tone(1, RATE_HZ) * 2.0**63).astype("<i8").tobytes())
        frame.sample_rate = RATE_HZ
        out.mux(stream.encode(frame))
    np.testing.assert_allclose(decode(file), tone(1, RATE_HZ), atol=1e-6)


@pytest.mark.parametrize(("name", "channels"), [("a.wav", 2), ("a.flac", 6), ("a.flac", 8), ("a.ogg", 8),
                                                ("a.wav", 17), ("a.wav", 32)])
def test_channels_are_averaged(tmp_path: Path, name: str, channels: int) -> None:
    """One channel has the tone, the others are silent. Vorbis's 8 channels come as 8 planes."""
    file = tmp_path / name
    frames = np.zeros((2 * RATE_HZ, channels))
    frames[:, channels - 1] = tone(2, RATE_HZ, amplitude=0.9)
    sf.write(file, frames, RATE_HZ)
    assert is_tone(decode(file), amplitude=0.9 / channels, tolerance=0.005)


def test_more_channels_or_other_rates_than_music_has(tmp_path: Path) -> None:
    for name, rate_hz, channels in (("many.wav", 16_000, 33), ("slow.wav", 500, 1), ("fast.wav", 900_000, 1)):
        sf.write(tmp_path / name, np.full((2_000, channels), 0.1), rate_hz)
        with pytest.raises(AudioUndecodable):
            decode(tmp_path / name)


def test_a_rate_that_changes_inside_a_file(tmp_path: Path) -> None:
    """Two MP3s one after the other are one MP3."""
    both = tmp_path / "both.mp3"
    with both.open("wb") as out:
        for rate_hz in (44_100, 22_050):
            sf.write(tmp_path / "a.mp3", tone(3, rate_hz), rate_hz)
            out.write((tmp_path / "a.mp3").read_bytes())
    samples = decode(both)
    assert abs(len(samples) - 6 * RATE_HZ) < 0.1 * RATE_HZ
    assert is_tone(samples[:3 * RATE_HZ])
    assert is_tone(samples[-3 * RATE_HZ + 1_000:])


def test_sound_in_a_video_is_found(tmp_path: Path) -> None:
    file = tmp_path / "a.mkv"
    with av.open(str(file), "w") as out:
        picture = out.add_stream("mpeg4", rate=5)
        picture.width = picture.height = 64
        sound = out.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray((tone(1, RATE_HZ) * 2**15).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = RATE_HZ
        out.mux(picture.encode(av.VideoFrame(64, 64, "yuv420p")))
        out.mux([*picture.encode(None), *sound.encode(frame)])
    np.testing.assert_allclose(decode(file), tone(1, RATE_HZ), atol=2**-15)
    assert probe(file).codec == "pcm_s16le"


def test_probe_tells_what_came_out(tmp_path: Path) -> None:
    for name, codec in (("a.mp3", "mp3"), ("a.ogg", "vorbis"), ("a.flac", "flac"), ("a.wav", "pcm_s16le")):
        file = tmp_path / name
        sf.write(file, tone(2, 44_100), 44_100)
        info = probe(file)
        assert info.codec.startswith(codec)
        assert info.duration_s == len(decode(file)) / RATE_HZ == pytest.approx(2, abs=0.06)
        assert info.bytes == file.stat().st_size
        assert info.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_header_that_claims_hours_costs_nothing(tmp_path: Path) -> None:
    """A WAV header of 32 bits' worth of data, 27 hours, before half a second of it."""
    file = tmp_path / "a.wav"
    pcm = (tone(0.5, 22_050) * 2**15).astype("<i2").tobytes()
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 2**32 - 1, b"WAVE", b"fmt ", 16, 1, 1, 22_050, 44_100,
                         2, 16, b"data", 2**32 - 46)
    file.write_bytes(header + pcm)
    tracemalloc.start()
    samples = decode(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert abs(len(samples) - RATE_HZ // 2) <= 1
    assert peak < 5e6


def test_too_long_stops_there(tmp_path: Path) -> None:
    """An hour of silence in a few kB of FLAC; decoding stops after a minute of it."""
    file = tmp_path / "a.flac"
    sf.write(file, np.zeros(3_600 * 8_000, np.int16), 8_000)
    start = time.process_time()
    with pytest.raises(AudioTooLong) as error:
        decode(file, max_duration_s=60)
    assert str(error.value) == f"{file}: longer than 60 s"
    assert time.process_time() - start < 2
    short = tmp_path / "b.wav"
    sf.write(short, tone(2, RATE_HZ), RATE_HZ)
    assert len(decode(short, max_duration_s=2.0)) == 2 * RATE_HZ
    with pytest.raises(AudioTooLong):
        probe(short, max_duration_s=1.99)


def noisy_tone() -> np.ndarray:
    return tone(20, 44_100) + np.random.default_rng(0).normal(0, 0.05, 20 * 44_100)


def test_damage_costs_what_it_hits(tmp_path: Path) -> None:
    file = tmp_path / "a.mp3"
    sf.write(file, noisy_tone(), 44_100)
    data, rng = file.read_bytes(), np.random.default_rng(0)
    a, b = len(data) // 2, len(data) * 6 // 10
    file.write_bytes(data[:a] + rng.bytes(b - a) + data[b:])
    samples = decode(file)
    assert 17 * RATE_HZ < len(samples) < 20.1 * RATE_HZ
    assert is_tone(samples[:9 * RATE_HZ], tolerance=0.06)
    assert is_tone(samples[-7 * RATE_HZ:], tolerance=0.06)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_a_file_that_is_mostly_damaged_is_not_decodable(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    sf.write(file, noisy_tone(), 44_100)
    data = file.read_bytes()
    a, b = len(data) // 10, len(data) * 8 // 10
    file.write_bytes(data[:a] + np.random.default_rng(0).bytes(b - a) + data[b:])
    with pytest.raises(AudioUndecodable) as error:
        decode(file)
    assert "damaged" in str(error.value)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "a.flac", "a.wav"])
def test_a_cut_off_file_keeps_what_is_there(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    sf.write(file, noisy_tone(), 44_100)
    file.write_bytes(file.read_bytes()[:file.stat().st_size * 6 // 10])
    assert 11 * RATE_HZ < len(decode(file)) < 13 * RATE_HZ


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    values = tone(2, RATE_HZ).astype(np.float32)
    values[100:110], values[200], values[300] = np.nan, np.inf, 1e30
    sf.write(file, values, RATE_HZ, subtype="FLOAT")
    samples = decode(file)
    assert not samples[100:110].any()
    assert samples[200] == 0
    assert samples[300] == 1
    np.testing.assert_array_equal(samples[301:], values[301:])
    values[:] = np.nan
    sf.write(file, values, RATE_HZ, subtype="FLOAT")
    with pytest.raises(AudioUndecodable) as error:
        decode(file)
    assert "32000 of 32000 values are not numbers" in str(error.value)


def test_an_offset_is_taken_off(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", tone(2, 44_100) + 0.2, 44_100)
    samples = decode(tmp_path / "a.wav")
    assert abs(samples.mean()) < 1e-6
    assert is_tone(samples)


def test_clipping_is_told_and_taken(tmp_path: Path) -> None:
    """sin x > 0.5 a third of the time, and as long below -0.5: twice the level clips two thirds."""
    sf.write(tmp_path / "a.wav", tone(2, 44_100, amplitude=2.0).clip(-1, 1), 44_100)
    sf.write(tmp_path / "b.wav", tone(2, 44_100, amplitude=0.99), 44_100)
    assert probe(tmp_path / "a.wav").clipped == pytest.approx(2 / 3, abs=0.002)
    assert probe(tmp_path / "b.wav").clipped == 0
    assert np.abs(decode(tmp_path / "a.wav")).max() == 1


def test_packets_without_sound_are_not_read_for_ever(tmp_path: Path) -> None:
    """Frame headers of MP3 alone: 50 MB of which each is damaged."""
    file = tmp_path / "a.mp3"
    file.write_bytes(b"\xff\xfb\x90\x00" * (50 << 18))
    with Guard(1, Limits(cpu_s=2)) as guard, pytest.raises(AudioUndecodable) as error:
        guard.decode(file, 1200.0)
    assert "damaged: 52428800 of 52428800 bytes are lost" in str(error.value)


def test_what_is_no_audio_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp3")
    for path in (tmp_path / "absent.mp3", tmp_path, tmp_path / "pipe.mp3"):
        with pytest.raises(FileMissing):
            decode(path)
    (tmp_path / "empty.mp3").write_bytes(b"")
    (tmp_path / "text.mp3").write_text("a list of songs\n" * 500)
    (tmp_path / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(100))
    for name in ("empty.mp3", "text.mp3", "noise.mp3"):
        with pytest.raises(AudioUndecodable) as error:
            decode(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: not decodable as audio (")


def test_playlists_are_not_followed(tmp_path: Path) -> None:
    """Files that name other files or addresses would let a download read what it likes."""
    sf.write(tmp_path / "secret.mp3", tone(2, RATE_HZ), RATE_HZ)
    lists = {"a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.mp3\n#EXT-X-ENDLIST\n",
             "b.ffconcat": "ffconcat version 1.0\nfile secret.mp3\n"}
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(AudioUndecodable):
            decode(tmp_path / name)


def test_names_that_are_not_utf8_or_look_like_addresses(tmp_path: Path) -> None:
    for name in (b"a\xff\xfe.wav", b"concat:a|b ~ '%s.wav"):
        path = tmp_path / os.fsdecode(name)
        with path.open("wb") as file:
            sf.write(file, tone(1, RATE_HZ), RATE_HZ, format="WAV")
        assert len(decode(path)) == RATE_HZ


def assert_samples_or_reason(guard: Guard, path: Path) -> str:
    """Decode a file within 10 s and 500 MB. "samples", or the reason why there are none."""
    start = time.monotonic()
    try:
        samples = guard.decode(path, 1200.0)
        assert samples.ndim == 1, path
        assert len(samples), path
        assert np.abs(samples).max() <= 1, path
        outcome = "samples"
    except SongError as error:
        outcome = error.reason
    assert time.monotonic() - start < 10, path
    for pid in guard.pids:
        status = Path(f"/proc/{pid}/status").read_text()
        peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        assert peak_kb * 1024 < 500e6, path
    return outcome


@pytest.mark.skipif(not ODD.is_dir(), reason="needs the odd files of shared/data/odd_audio")
def test_odd_files_end_in_samples_or_typed_errors() -> None:
    with Guard(1) as guard:
        outcomes = Counter(assert_samples_or_reason(guard, path)
                           for path in sorted(ODD.rglob("*")) if path.is_file())
    assert outcomes.keys() == {"samples", "undecodable"}
    assert outcomes["samples"] >= 180


@pytest.mark.parametrize(("name", "codec"), [
    ("a.mp3", "libmp3lame"), ("a.oga", "flac"), ("a.opus", "libopus"), ("a.flac", "flac"),
    ("a.wav", "pcm_s16le"), ("a.aiff", "pcm_s16be"), ("a.mp4", "aac"), ("a.aac", "aac"), ("a.mka", "flac"),
    ("a.wma", "wmav2"), ("a.wv", "wavpack"), ("a.tta", "tta"), ("a.ac3", "ac3"), ("a.caf", "alac")])
def test_mangled_files_end_in_samples_or_typed_errors(tmp_path: Path, name: str, codec: str) -> None:
    """A second of sound, some bytes of it overwritten, most of them near its beginning; half are cut off."""
    file = tmp_path / name
    with av.open(str(file), "w") as out:
        stream = cast("AudioStream", out.add_stream(codec, rate=48_000, layout="stereo"))
        stream.bit_rate = 128_000
        both = np.tile(tone(1, 48_000), (2, 1)).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(both, "fltp", "stereo")
        sound.sample_rate, sound.pts = 48_000, 0
        out.mux(stream.encode(sound))
        out.mux(stream.encode(None))
    data, rng = file.read_bytes(), np.random.default_rng(0)
    with Guard(1) as guard:
        assert assert_samples_or_reason(guard, file) == "samples"
        outcomes: Counter[str] = Counter()
        for _ in range(40):
            mangled = bytearray(data)
            for at in rng.random(rng.integers(1, 20)) ** 4 * len(data):
                mangled[int(at)] = (0, 1, 127, 128, 255)[rng.integers(5)]
            file.write_bytes(mangled[:len(data) if rng.random() < 0.5 else rng.integers(len(data))])
            outcomes[assert_samples_or_reason(guard, file)] += 1
    assert outcomes.keys() <= {"samples", "undecodable", "too_long"}


def test_nothing_is_printed(tmp_path: Path) -> None:
    """libmpg123 complains on stderr of what FFmpeg has refused already."""
    (tmp_path / "a.mp3").write_bytes(b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + b"\xff\xfb\x90\x00" + bytes(40))
    code = ("import sys; from pathlib import Path; from simsong.audio.decode import decode; "
            "from simsong.errors import AudioUndecodable\n"
            "try: decode(Path(sys.argv[1]))\nexcept AudioUndecodable: sys.exit()\nsys.exit('it was decoded')")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.mp3"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
