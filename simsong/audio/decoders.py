"""Any audio file to 16 kHz mono samples, in process: FFmpeg's decoders (PyAV), libsndfile where they fail.

Headers are not believed: a file's duration is the number of samples that came out of it, samples are written
as they come, and playlists, which name other files, are not opened. None of this keeps a C library from
crashing or from never coming back: hence the workers of `simsong.audio.guard`, in which this runs.
"""

from __future__ import annotations

import errno
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import av
import av.error
import numpy as np
import soundfile as sf
import soxr
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from simsong.audio.samples import RATE_HZ, Samples
from simsong.errors import AudioTooLong, AudioUndecodable, FileMissing

MIN_SOURCE_HZ, MAX_SOURCE_HZ = 1_000, 768_000      # DSD reaches 705,600 in FFmpeg
MAX_CHANNELS = 32
MAX_PLANES = 8                # AV_NUM_DATA_POINTERS; PyAV counts more planes by reading past their end
BATCH_FRAMES = 12_288         # worked on at a time: in stereo 96 KB, which malloc keeps, and a cache holds
IDLE_PACKETS = 10_000         # in a row without a sample: four minutes of an MP3. No sound will follow
FULL_SCALE = 1 - 2**-15       # the largest of 16 bits

# FFmpeg's demuxers that hold sound. Left out on purpose: hls, dash, concat and the like, which open whatever
# file or address they name, and text and image "formats", which accept anything.
CONTAINERS = ("aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,iff,ircam,"
              "loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,nistsphere,nut,ogg,oma,osq,qoa,rm,shn,spdif,tak,"
              "truehd,tta,voc,w64,wav,webm,wv,xwma")
# How an MP3 begins. libsndfile's decoder for it bears less than FFmpeg's, and complains on stderr.
_MP3 = (b"ID3", b"\xff")

_SCALE = {"u8": 2.0**-7, "s16": 2.0**-15, "s32": 2.0**-31, "s64": 2.0**-63, "flt": 1.0, "dbl": 1.0}
_DTYPE = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}

Block: TypeAlias = tuple[Samples, int]             # sound as it came from a decoder, and its rate in Hz


@dataclass(frozen=True)
class Decoded:
    codec: str           # FFmpeg's name: "mp3", "vorbis", "flac", …
    samples: int         # at RATE_HZ
    clipped: float       # share of the values at full scale, as they came from the decoder: 0..1


class _Unusable(Exception):
    """A decoder makes nothing of the file; `str` says why."""


class SinkError(Exception):
    """Samples cannot be written; `str` says why."""


class _Damaged(_Unusable):
    """A decoder knows the file, and most of it is broken: no other need try."""


def decode_into(sink: BinaryIO | None, path: Path, name: str, max_duration_s: float) -> Decoded:
    """Write a file's sound to `sink`: float32 in [-1, 1], mono, 16 kHz. None: only see what is in it.

    Args: name: what errors call the file.
    Raises: FileMissing, AudioUndecodable, AudioTooLong; MemoryError; SinkError.
    """
    try:
        return _decode_into(sink, path, name, max_duration_s)
    except OSError as error:
        raise FileMissing(name, f"cannot be read ({error.strerror or error})") from None


def _decode_into(sink: BinaryIO | None, path: Path, name: str, max_duration_s: float) -> Decoded:
    if not path.is_file():                       # opening a pipe or a device could block for ever
        raise FileMissing(name, "is not a file" if path.exists() else "there is no such file")
    with path.open("rb", buffering=0) as file:
        size, failures = os.fstat(file.fileno()).st_size, []
        if not size:
            raise AudioUndecodable(name, "not decodable as audio (empty file)")
        for decoder in (_by_ffmpeg, _by_libsndfile):
            file.seek(0)
            out = _Output(sink, name, max_duration_s)
            try:
                codec = decoder(file, size, out)
                return Decoded(codec, out.samples, out.full / out.values)
            except _Unusable as failure:
                failures.append(str(failure))
                if isinstance(failure, _Damaged):
                    break
    raise AudioUndecodable(name, f"not decodable as audio ({'; '.join(filter(None, failures))})")


def _by_ffmpeg(file: io.FileIO, size: int, out: _Output) -> str:
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
            out.take(_gathered(_ffmpeg_frames(container, stream, size)))
            return codec
    except MemoryError:
        raise
    except av.error.ArgumentError:
        raise _Unusable("not a known audio format") from None
    except (av.error.FFmpegError, ValueError, RuntimeError) as error:
        raise _Unusable(getattr(error, "strerror", None) or str(error)) from None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _Unusable("it leads outside of itself") from None     # to a place before the file's beginning


def _ffmpeg_frames(container: InputContainer, stream: AudioStream, size: int) -> Iterator[AudioFrame]:
    """The decoded frames, without damaged packets. Raises: _Unusable if most are."""
    good = bad = at = idle = 0
    try:
        for packet in container.demux(stream):
            at = packet.pos or at
            idle += 1
            if idle > IDLE_PACKETS:
                bad += max(size - at, 0)
                break
            try:
                frames = packet.decode()
            except MemoryError:
                raise
            except av.error.FFmpegError:
                bad += packet.size
                continue
            good += packet.size
            for frame in frames:
                if frame.samples:
                    idle = 0
                    yield frame
    except MemoryError:
        raise
    except av.error.FFmpegError:                 # the container itself is broken from here on
        bad += max(size - at, 0)
    if bad > good:
        raise _Damaged(f"damaged: {bad} of {good + bad} bytes are lost")


def _gathered(frames: Iterable[AudioFrame]) -> Iterator[Block]:
    """Blocks of about BATCH_FRAMES: to work on each of a codec's frames would cost more than to decode it.
    Raises: _Unusable for what no song is made of."""
    queue, kind_before = AudioFifo(), ("", 0, 0)
    for frame in frames:
        # The queue looks at two of these itself, and with more channels than before would read past an end.
        kind = (frame.format.name, frame.layout.nb_channels, frame.rate)
        if kind != kind_before:
            yield from _taken(queue, kind_before[2])
            _check(kind[2], kind[1])
            if frame.format.is_planar and kind[1] > MAX_PLANES:
                raise _Unusable(f"{kind[1]} separate channels")
            queue, kind_before = AudioFifo(), kind
        frame.pts = None                         # what a file says of times is not believed
        queue.write(frame)
        if queue.samples >= BATCH_FRAMES:
            yield from _taken(queue, kind_before[2])
    yield from _taken(queue, kind_before[2])


def _taken(queue: AudioFifo, rate_hz: int) -> Iterator[Block]:
    if frame := queue.read():
        yield _planes(frame), rate_hz


def _planes(frame: AudioFrame) -> Samples:
    """(channels, n) in [-1, 1] from any of FFmpeg's sample formats.

    PyAV's own `to_ndarray` lacks 64-bit integers, and with 8 planes takes the frame's line sizes for a ninth.
    """
    kind, channels = frame.format.name.removesuffix("p"), frame.layout.nb_channels
    planes = cast("Sequence[Any]", frame.planes)  # buffers, though PyAV's types do not say so
    if frame.format.is_planar:
        values = np.stack([np.frombuffer(plane, _DTYPE[kind], frame.samples) for plane in planes[:channels]])
    else:
        values = np.frombuffer(planes[0], _DTYPE[kind], frame.samples * channels).reshape(-1, channels).T
    if kind == "flt":
        return values
    if kind == "u8":
        values = values.astype(np.float32) - 128
    return np.multiply(values, _SCALE[kind], dtype=np.float32, casting="unsafe")


def _check(rate_hz: int, channels: int) -> None:
    """Raises: _Unusable for a rate or a channel count that no song has."""
    if not MIN_SOURCE_HZ <= rate_hz <= MAX_SOURCE_HZ:
        raise _Unusable(f"{rate_hz} samples a second")
    if not 1 <= channels <= MAX_CHANNELS:
        raise _Unusable(f"{channels} channels")


def _by_libsndfile(file: io.FileIO, _size: int, out: _Output) -> str:
    if file.read(3).startswith(_MP3):
        raise _Unusable
    file.seek(0)
    try:
        with sf.SoundFile(file.fileno(), closefd=False) as sound:
            _check(sound.samplerate, sound.channels)
            out.take(_libsndfile_blocks(sound))
            return f"{sound.format}/{sound.subtype}".lower()
    except (sf.SoundFileError, RuntimeError, ValueError) as error:
        raise _Unusable(getattr(error, "error_string", None) or str(error)) from None


def _libsndfile_blocks(sound: sf.SoundFile) -> Iterator[Block]:
    while len(frames := np.asarray(sound.read(BATCH_FRAMES, dtype="float32", always_2d=True), np.float32)):
        yield frames.T, sound.samplerate


class _Output:
    """What one decoder gives: mixed, resampled, written as it comes, and counted."""

    def __init__(self, sink: BinaryIO | None, name: str, max_duration_s: float) -> None:
        self.sink, self.name, self.max_duration_s = sink, name, max_duration_s
        self.samples = 0                # written, at RATE_HZ
        self.values = self.full = self.broken = 0       # as they came: all, at full scale, no numbers

    def take(self, blocks: Iterable[Block]) -> None:
        """Raises: AudioTooLong; SinkError; _Unusable if there is no sound in it, or most is no numbers."""
        if self.sink is not None:       # from the start, in case another decoder has tried before
            self.sink.seek(0)
            self.sink.truncate()
        limit = round(self.max_duration_s * RATE_HZ)
        for piece in _resampled(self._mixed(blocks)):
            self.samples += len(piece)
            if self.samples > limit:
                raise AudioTooLong(self.name, f"longer than {self.max_duration_s:g} s")
            self._write(piece.clip(-1, 1))
        if self.broken > self.values / 2:
            raise _Unusable(f"{self.broken} of {self.values} values are not numbers")
        if not self.samples:
            raise _Unusable("no samples in it")
        self._write(None)

    def _write(self, piece: Samples | None) -> None:
        """None: what is left in the buffer."""
        if self.sink is None:
            return
        try:
            if piece is None:
                self.sink.flush()
            else:
                self.sink.write(piece.data)
        except OSError as error:
            raise SinkError(error.strerror or str(error)) from None

    def _mixed(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """(channels, n) → (n,), the mean of the channels."""
        for block, rate_hz in blocks:
            self.values += block.size
            most = float(np.abs((block.min(), block.max())).max())      # no number, if any value is none
            if not math.isfinite(most):
                finite = np.isfinite(block)
                self.broken += block.size - int(finite.sum())
                block = np.where(finite, block, np.float32(0))
            if not most < FULL_SCALE:
                self.full += int(np.count_nonzero(np.abs(block) >= FULL_SCALE))
                block = block.clip(-1, 1)        # as any player does, and before a filter can overflow
            yield (block[0] if len(block) == 1 else block.mean(axis=0)), rate_hz


def _resampled(blocks: Iterable[Block]) -> Iterator[Samples]:
    """(n,) pieces at RATE_HZ. The rate may change inside a file: chained Ogg streams, joined MP3s."""
    for rate_hz, run in groupby(blocks, key=itemgetter(1)):
        if rate_hz == RATE_HZ:
            yield from (block for block, _ in run)
            continue
        resampler = soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32", quality="HQ")
        for block, _ in run:
            yield resampler.resample_chunk(np.ascontiguousarray(block))
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
