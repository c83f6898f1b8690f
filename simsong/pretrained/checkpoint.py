"""Tensors of a TensorFlow checkpoint (version 2 of the format), without TensorFlow.

`NAME.index` is a LevelDB table of protocol buffers (BundleEntryProto: where a tensor lies), and
`NAME.data-00000-of-00001` holds the tensors' bytes. Read here are float32 tensors of an uncompressed index
and of one data file, as `tf.train.Saver` writes them. Format: tensorflow/core/util/tensor_bundle,
leveldb/doc/table_format.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack

import numpy as np

from simsong.errors import ModelError

MAGIC = 0xDB4775248B80FB57
FOOTER = 48                         # bytes: two block handles, padded, and the magic number
TRAILER = 5                         # bytes after a block: its compression and a checksum
FLOAT = 1                           # DataType DT_FLOAT


def read_checkpoint(index: bytes, data: bytes) -> dict[str, np.ndarray]:
    """Name → values, float32. Tensors of other types (the step counter) are left out.

    Raises: ModelError for what is no such checkpoint, or a cut one.
    """
    try:
        return dict(_tensors(index, data))
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise ModelError(f"not a TensorFlow checkpoint that can be read ({error})") from None


def _tensors(index: bytes, data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    for key, value in table(index):
        if not key:                 # the empty key holds the header: number of data files, byte order
            header = integers(value)
            if header.get(1, 0) != 1 or header.get(2, 0) != 0:
                raise ValueError("more than one data file, or big-endian")
            continue
        entry = integers(value)
        if entry.get(1) != FLOAT:
            continue
        shape = tuple(integers(size).get(1, 0) for number, part in messages(value) if number == 2
                      for dimension, size in messages(part) if dimension == 2)
        start, length = entry.get(4, 0), entry.get(5, 0)
        if length != 4 * int(np.prod(shape, dtype=np.int64)) or start + length > len(data):
            raise ValueError(f"{key.decode()}: {length} bytes from {start} on do not hold {shape}")
        yield key.decode(), np.frombuffer(data[start:start + length], "<f4").reshape(shape)


def table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table, in its order. Raises: ValueError, IndexError."""
    if len(content) < FOOTER or int.from_bytes(content[-8:], "little") != MAGIC:
        raise ValueError("no LevelDB table")
    footer = content[-FOOTER:]
    _, at = varint(footer, 0)                           # the metaindex: its offset and size, not needed
    _, at = varint(footer, at)
    for _, handle in block(content, footer[at:]):
        yield from block(content, handle)


def block(content: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block. Each key shares a prefix with the one before.

    Args: handle: offset and size, as two varints.
    """
    start, at = varint(handle, 0)
    size, _ = varint(handle, at)
    body = content[start:start + size]
    if len(body) < size or len(content) < start + size + TRAILER:
        raise ValueError("cut short")
    if content[start + size] != 0:
        raise ValueError("compressed")
    end = size - 4 - 4 * unpack("<I", body[-4:])[0]     # restart points, and how many there are
    if size < 4 or end < 0:
        raise ValueError("a damaged block")
    at, key = 0, b""
    while at < end:
        shared, at = varint(body, at)
        unshared, at = varint(body, at)
        length, at = varint(body, at)
        key = key[:shared] + body[at:at + unshared]
        at += unshared
        yield key, body[at:at + length]
        at += length


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a protocol buffer: integers, or bytes for what has a length."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(message, at)
        elif kind == 2:
            length, at = varint(message, at)
            value, at = message[at:at + length], at + length
        elif kind in (1, 5):
            width = 8 if kind == 1 else 4
            value, at = int.from_bytes(message[at:at + width], "little"), at + width
        else:
            raise ValueError(f"wire type {kind}")
        yield tag >> 3, value


def integers(message: bytes) -> dict[int, int]:
    return {number: value for number, value in fields(message) if isinstance(value, int)}


def messages(message: bytes) -> list[tuple[int, bytes]]:
    return [(number, value) for number, value in fields(message) if isinstance(value, bytes)]


def varint(content: bytes, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
