"""The layout of audio files, as far as tags must be told from sound. No decoder is involved, and no size in a
file is believed beyond the file's end."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, Literal

Range = tuple[int, int]                 # offsets in bytes: first, behind the last
Chunk = tuple[bytes, int, int]          # a name, and where its content begins and ends

_BLOCK = 1 << 16
_PADDING = 1 << 16                      # zeros between an ID3 tag and the first frame, at most
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
EBML = b"\x1a\x45\xdf\xa3"
MP4_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp"))


class Reader:
    """Random access to a file by small reads, a block held."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        self._at, self._block = 0, b""

    def at(self, start: int, length: int) -> bytes:
        """Fewer bytes only at the file's end; none before its beginning."""
        if start < 0:
            return b""
        offset = start - self._at
        if offset < 0 or offset + length > len(self._block):
            self._at, offset = start, 0
            self._block = os.pread(self.file.fileno(), max(length, _BLOCK), start)
        return self._block[offset:offset + length]

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        while start < end and (block := os.pread(self.file.fileno(), min(end - start, 1 << 20), start)):
            yield block
            start += len(block)


def untagged(reader: Reader) -> Range:
    """The file without ID3v2 tags before it and ID3v1, ID3v2, APE and Lyrics3 tags behind it."""
    start, end = 0, reader.size
    while (length := _id3_bytes(reader.at(start, 10), b"ID3")) and start + length <= end:
        start += length
    while (length := _tag_at_end(reader, end)) and end - length >= start:
        end -= length
    return start, end


def _tag_at_end(reader: Reader, end: int) -> int:
    """The length of a tag that ends there; 0 where there is none."""
    if reader.at(end - 128, 3) == b"TAG":
        return 128 + (227 if reader.at(end - 355, 4) == b"TAG+" else 0)
    tail = reader.at(max(end - 32, 0), min(end, 32))
    if len(tail) == 32 and tail.startswith(b"APETAGEX"):
        size, _, flags = struct.unpack_from("<III", tail, 12)
        return size + (32 if flags & 1 << 31 else 0)
    if tail.endswith(b"LYRICS200") and tail[-15:-9].isdigit():
        return int(tail[-15:-9]) + 15
    return _id3_bytes(tail[-10:], b"3DI")


def _id3_bytes(header: bytes, magic: bytes) -> int:
    """The length of an ID3v2 tag, by its header or footer; 0 where that is none."""
    if len(header) < 10 or not header.startswith(magic) or any(byte > 0x7F for byte in header[6:10]):
        return 0
    a, b, c, d = header[6:10]
    footer = 10 if header[5] & 0x10 or magic == b"3DI" else 0
    return 10 + footer + (a << 21 | b << 14 | c << 7 | d)


def sound_ranges(reader: Reader) -> Iterator[Range]:
    """Where the encoded sound lies: what tagging, and copying into a new container of the same kind, leave as
    they are. Nothing where the file is of no known layout."""
    start, end = untagged(reader)
    head = reader.at(start, 16)
    if head.startswith(b"fLaC"):
        yield from _flac(reader, start, end)
    elif head.startswith(b"OggS"):
        yield from _ogg(reader, start, end)
    elif head.startswith(EBML):
        yield from (_block(reader, *block) for name, *block in elements(reader, start, end)
                    if name in (b"\xa3", b"\xa1"))
    elif head[4:8] in MP4_BOXES:
        yield from ((a, b) for name, a, b in _boxes(reader, start, end) if name == b"mdat")
    elif head.startswith((ASF_HEADER, W64_RIFF)) or _is_chunked(head):
        for name, a, b in chunks(reader, start, end):
            if name == ASF_DATA:
                yield min(a + 26, b), b             # behind its own ids and counts
            elif (name := name[:4].rstrip()) == b"fmt" and not head.startswith(b"DSD "):
                yield from ((a + 2, a + 8), (a + 14, a + 16))       # channels, rate; bits
            elif name in (b"data", b"SSND", b"COMM", b"DSD", b"DST", b"desc", b"fmt"):
                yield a, b
    else:
        yield _past_counts(reader, start, end), end


def _is_chunked(head: bytes) -> bool:
    return head[:4] in (b"RIFF", b"RIFX", b"RF64", b"FORM", b"FRM8", b"DSD ", b"caff")


def chunks(reader: Reader, start: int, end: int) -> Iterator[Chunk]:
    """The chunks of RIFF, AIFF, Wave64, ASF, DSF, DSDIFF and CAF files, and of a RIFF list."""
    head = reader.at(start, 16)
    order: Literal["little", "big"] = "little"
    name_bytes, size_bytes, inclusive, align = 4, 4, False, 2
    at = start + 12
    if head.startswith(ASF_HEADER):
        name_bytes, size_bytes, inclusive, align, at = 16, 8, True, 1, start
    elif head.startswith(W64_RIFF):
        name_bytes, size_bytes, inclusive, align, at = 16, 8, True, 8, start + 40
    elif head.startswith(b"DSD "):
        size_bytes, inclusive, align, at = 8, True, 1, start + 28
    elif head.startswith(b"FRM8"):
        size_bytes, order, at = 8, "big", start + 16
    elif head.startswith(b"caff"):
        size_bytes, order, align, at = 8, "big", 1, start + 8
    elif head.startswith((b"FORM", b"RIFX")):
        order = "big"
    header = name_bytes + size_bytes
    while at + header <= end:
        name = reader.at(at, name_bytes)
        size = int.from_bytes(reader.at(at + name_bytes, size_bytes), order)
        length = size if inclusive else size + header
        if length < header:
            return
        yield name, at + header, min(at + length, end)
        at += length + -length % align


def _boxes(reader: Reader, start: int, end: int) -> Iterator[Chunk]:
    """The top boxes of an MP4 file."""
    at = start
    while at + 8 <= end:
        size, name = struct.unpack(">I4s", reader.at(at, 8))
        header = 8
        if size == 1:
            header, size = 16, int.from_bytes(reader.at(at + 8, 8), "big")
        elif size == 0:
            size = end - at
        if size < header:
            return
        yield name, at + header, min(at + size, end)
        at += size


def _flac(reader: Reader, start: int, end: int) -> Iterator[Range]:
    at, last = start + 4, False
    while not last and at + 4 <= end:
        header = reader.at(at, 4)
        last = bool(header[0] & 0x80)
        if header[0] & 0x7F == 0:
            yield at + 4, min(at + 22, end)         # of STREAMINFO all but the checksum, which may be unset
        at += 4 + int.from_bytes(header[1:], "big")
    yield min(at, end), end


def _ogg(reader: Reader, start: int, end: int) -> Iterator[Range]:
    """The packets but those that hold comments: a stream's second, or in FLAC all between the first and the
    sound."""
    done: dict[bytes, int] = {}             # by stream: its packets that have ended
    comment: dict[bytes, bool] = {}         # whether the packet that goes on is one
    flac: dict[bytes, bool] = {}
    at = start
    while at + 27 <= end:
        header = reader.at(at, 27)
        if not header.startswith(b"OggS"):
            at += max(reader.at(at + 1, _BLOCK).find(b"OggS") + 1, 0) or _BLOCK - 3
            continue
        flags, stream, lacing = header[5], header[14:18], reader.at(at + 27, header[26])
        at += 27 + header[26]
        if flags & 2:
            done[stream], flac[stream] = 0, reader.at(at, 5) == b"\x7fFLAC"
        number, piece = done.get(stream, 0), at
        if number > 2 and not flac.get(stream):
            at += sum(lacing)
            yield piece, min(at, end)
            continue
        for index, length in enumerate(lacing):
            if index == 0 or lacing[index - 1] < 255:               # a packet begins
                if index or not flags & 1:
                    comment[stream] = (number > 0 and reader.at(at, 1) != b"\xff" if flac.get(stream)
                                       else number == 1)
                piece = at
            at += length
            if length < 255 or index == len(lacing) - 1:
                if not comment.get(stream):
                    yield piece, min(at, end)
                number += length < 255
        done[stream] = number


def elements(reader: Reader, start: int, end: int) -> Iterator[Chunk]:
    """The elements of a Matroska file in their order; segments, clusters and groups of blocks are entered."""
    at = start
    while at < end:
        name = _vint(reader, at)
        size = _vint(reader, at + len(name))
        if not name or not size:
            return
        at += len(name) + len(size)
        length = int.from_bytes(size, "big") & (1 << 7 * len(size)) - 1
        unknown = length == (1 << 7 * len(size)) - 1
        if name in (b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\xa0"):
            continue
        if unknown:
            return
        yield name, at, min(at + length, end)
        at += length


def _vint(reader: Reader, at: int) -> bytes:
    """A number of Matroska's, with the bit that tells its length; empty where there is none."""
    first = reader.at(at, 1)
    length = 9 - first[0].bit_length() if first and first[0] else 0
    data = reader.at(at, length)
    return data if len(data) == length else b""


def _block(reader: Reader, start: int, end: int) -> Range:
    """A block without its track, time and flags."""
    return min(start + len(_vint(reader, start)) + 3, end), end


_KBITS = ((0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),       # MPEG 1, layer III
          (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160))           # MPEG 2, 2.5
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def _past_counts(reader: Reader, start: int, end: int) -> int:
    """Where the first frame begins: behind zeros, and an MP3's frame of counts, which tools write anew."""
    head = reader.at(start, min(_PADDING, end - start))
    at = start + len(head) - len(head.lstrip(b"\0"))
    frame = reader.at(at, min(1500, end - at))
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:       # no layer III
        return at
    version, bits, rate = frame[1] >> 3 & 3, frame[2] >> 4, frame[2] >> 2 & 3
    if version == 1 or not 0 < bits < 15 or rate == 3:
        return at
    first, mono = version == 3, frame[3] >> 6 == 3
    length = (144_000 if first else 72_000) * _KBITS[not first][bits] // _RATES_HZ[version][rate] \
        + (frame[2] >> 1 & 1)
    side = 4 + ((17 if mono else 32) if first else (9 if mono else 17))
    counted = frame[side:side + 4] in (b"Xing", b"Info") or frame[36:40] == b"VBRI"
    return min(at + length, end) if counted else at
