"""Any audio file to 16 kHz mono samples, in process: FFmpeg's decoders (PyAV), libsndfile where they fail.

Headers are not believed: a file's duration is the number of samples that came out of it, memory grows with
what was decoded and not with what was announced, and playlists, which name other files, are not opened.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias, cast

import av
import av.error
import numpy as np
import soundfile as sf
import soxr
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from simsong.errors import AudioTooLong, AudioUndecodable, FileMissing

RATE_HZ = 16_000
MIN_SOURCE_HZ, MAX_SOURCE_HZ = 1_000, 768_000      # DSD reaches 705,600 in FFmpeg
MAX_CHANNELS = 32
MAX_PLANES = 8                # AV_NUM_DATA_POINTERS; PyAV counts more planes by reading past their end
READ_FRAMES = 65_536          # libsndfile is asked for that many at a time

# FFmpeg's demuxers that hold sound. Left out on purpose: hls, dash, concat and the like, which open whatever
# file or address they name, and text and image "formats", which accept anything.
CONTAINERS = ("aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,iff,ircam,"
              "loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,nistsphere,nut,ogg,oma,osq,qoa,rm,shn,spdif,tak,"
              "truehd,tta,voc,w64,wav,webm,wv,xwma")
# How an MP3 begins. libsndfile's decoder for it bears less than FFmpeg's, and complains on stderr.
_MP3 = (b"ID3", b"\xff")

_SCALE = {"u8": 2.0**-7, "s16": 2.0**-15, "s32": 2.0**-31, "s64": 2.0**-63, "flt": 1.0, "dbl": 1.0}
_DTYPE = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}

Samples: TypeAlias = NDArray[np.float32]
Block: TypeAlias = tuple[Samples, int]             # sound as it came from a decoder, and its rate in Hz


@dataclass(frozen=True)
class AudioInfo:
    """What a file holds, found by decoding it."""

    codec: str           # FFmpeg's name: "mp3", "vorbis", "flac", …
    duration_s: float
    bytes: int
    sha256: str


class _Unusable(Exception):
    """A decoder makes nothing of the file; `str` says why."""


class _Damaged(_Unusable):
    """A decoder knows the file, and most of it is broken: no other need try."""


def decode(path: Path, max_duration_s: float = 1200.0) -> Samples:
    """The file's sound: (n,) float32 in [-1, 1], mono (mean of the channels), 16 kHz.

    Damage inside a file costs the packets that it hits, as long as the decoder refuses less than half of the
    bytes. Values that are not finite become 0, as long as most are finite.
    Raises: FileMissing; AudioUndecodable; AudioTooLong past `max_duration_s`, where decoding stops.
    """
    return _decode(path, max_duration_s)[0]


def probe(path: Path, max_duration_s: float = 1200.0) -> AudioInfo:
    """Codec, duration and digest of a file. It is decoded whole: what `probe` accepts, `decode` decodes.

    Raises: as `decode`.
    """
    samples, codec = _decode(path, max_duration_s)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return AudioInfo(codec, len(samples) / RATE_HZ, path.stat().st_size, digest)


def _decode(path: Path, max_duration_s: float) -> tuple[Samples, str]:
    name, failures = str(path), []
    try:
        if not path.is_file():                   # opening a pipe or a device could block for ever
            raise FileMissing(name, "is not a file" if path.exists() else "there is no such file")
        size = path.stat().st_size
        if not size:
            raise AudioUndecodable(name, "not decodable as audio (empty file)")
        with path.open("rb", buffering=0) as file:
            for decoder in (_by_ffmpeg, _by_libsndfile):
                file.seek(0)
                try:
                    return decoder(file, size, name, max_duration_s)
                except _Unusable as failure:
                    failures.append(str(failure))
                    if isinstance(failure, _Damaged):
                        break
    except OSError as error:
        raise FileMissing(name, f"cannot be read ({error.strerror or error})") from None
    raise AudioUndecodable(name, f"not decodable as audio ({'; '.join(filter(None, failures))})")


def _by_ffmpeg(file: io.FileIO, size: int, name: str, max_duration_s: float) -> tuple[Samples, str]:
    try:
        # The open file, not its name: FFmpeg takes some for addresses ("concat:a|b"); not all are UTF-8.
        with av.open(file, "r", metadata_errors="ignore",
                     container_options={"format_whitelist": CONTAINERS}) as container:
            if not container.streams.audio:
                raise _Unusable("no audio stream")
            stream = container.streams.audio[0]
            if stream.codec_context is None:     # pyright: ignore[reportUnnecessaryComparison]
                raise _Unusable("unknown codec")
            codec = stream.codec_context.codec.name
            return _collect(_ffmpeg_blocks(container, stream, size), name, max_duration_s), codec
    except av.error.ArgumentError:
        raise _Unusable("not a known audio format") from None
    except (av.error.FFmpegError, ValueError, RuntimeError) as error:
        raise _Unusable(getattr(error, "strerror", None) or str(error)) from None


def _ffmpeg_blocks(container: InputContainer, stream: AudioStream, size: int) -> Iterator[Block]:
    """The decoded frames, (channels, n) each, without damaged packets. Raises: _Unusable if most are."""
    good = bad = at = 0
    try:
        for packet in container.demux(stream):
            at = packet.pos or at
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                bad += packet.size
                continue
            good += packet.size
            yield from ((_planes(frame), frame.rate) for frame in frames if frame.samples)
    except av.error.FFmpegError:                 # the container itself is broken from here on
        bad += max(size - at, 0)
    if bad > good:
        raise _Damaged(f"damaged: {bad} of {good + bad} bytes are lost")


def _planes(frame: AudioFrame) -> Samples:
    """(channels, n) in [-1, 1] from any of FFmpeg's sample formats.

    PyAV's own `to_ndarray` lacks 64-bit integers, and with 8 planes takes the frame's line sizes for a ninth.
    """
    kind, channels = frame.format.name.removesuffix("p"), frame.layout.nb_channels
    if frame.format.is_planar and channels > MAX_PLANES:
        raise _Unusable(f"{channels} separate channels")
    planes = cast("Sequence[Any]", frame.planes)  # buffers, though PyAV's types do not say so
    if frame.format.is_planar:
        values = np.stack([np.frombuffer(plane, _DTYPE[kind], frame.samples) for plane in planes[:channels]])
    else:
        values = np.frombuffer(planes[0], _DTYPE[kind], frame.samples * channels).reshape(-1, channels).T
    if kind == "u8":
        values = values.astype(np.float32) - 128
    return np.multiply(values, _SCALE[kind], dtype=np.float32, casting="unsafe")


def _by_libsndfile(file: io.FileIO, _size: int, name: str, max_duration_s: float) -> tuple[Samples, str]:
    if file.read(3).startswith(_MP3):
        raise _Unusable
    file.seek(0)
    try:
        with sf.SoundFile(file.fileno(), closefd=False) as sound:
            if sound.channels > MAX_CHANNELS:
                raise _Unusable(f"{sound.channels} channels")
            codec = f"{sound.format}/{sound.subtype}".lower()
            return _collect(_libsndfile_blocks(sound), name, max_duration_s), codec
    except (sf.SoundFileError, RuntimeError, ValueError) as error:
        raise _Unusable(getattr(error, "error_string", None) or str(error)) from None


def _libsndfile_blocks(sound: sf.SoundFile) -> Iterator[Block]:
    while len(frames := np.asarray(sound.read(READ_FRAMES, dtype="float32", always_2d=True), np.float32)):
        yield frames.T, sound.samplerate


def _collect(blocks: Iterable[Block], name: str, max_duration_s: float) -> Samples:
    """The blocks mixed, resampled, joined and clipped: (n,) at RATE_HZ."""
    pieces: list[Samples] = []
    n, limit = 0, round(max_duration_s * RATE_HZ)
    for piece in _resample(_mix(blocks)):
        pieces.append(piece)
        n += len(piece)
        if n > limit:
            raise AudioTooLong(name, f"longer than {max_duration_s:g} s")
    if not n:
        raise _Unusable("no samples in it")
    return np.concatenate(pieces).clip(-1, 1)


def _mix(blocks: Iterable[Block]) -> Iterator[Block]:
    """(channels, n) → (n,). Raises: _Unusable for a rate or channel count no song has, or for NaNs."""
    total = broken = 0
    for block, rate_hz in blocks:
        if not MIN_SOURCE_HZ <= rate_hz <= MAX_SOURCE_HZ:
            raise _Unusable(f"{rate_hz} samples a second")
        if not 1 <= len(block) <= MAX_CHANNELS:
            raise _Unusable(f"{len(block)} channels")
        finite = np.isfinite(block)
        total += block.size
        if not finite.all():
            broken += block.size - int(finite.sum())
            block = np.where(finite, block, np.float32(0))
        block = block.clip(-1, 1)                # as any player does, and before a filter can overflow
        yield (block[0] if len(block) == 1 else block.mean(axis=0)), rate_hz
    if broken > total / 2:
        raise _Unusable(f"{broken} of {total} values are not numbers")


def _resample(blocks: Iterable[Block]) -> Iterator[Samples]:
    """(n,) pieces at RATE_HZ. The rate may change inside a file: chained Ogg streams, joined MP3s."""
    for rate_hz, run in groupby(blocks, key=itemgetter(1)):
        if rate_hz == RATE_HZ:
            yield from (block for block, _ in run)
            continue
        resampler = soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32", quality="HQ")
        for block, _ in run:
            yield resampler.resample_chunk(np.ascontiguousarray(block))
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
