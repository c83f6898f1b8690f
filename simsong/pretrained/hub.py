"""Networks of transformers that hear music: a local folder, or an id on the hub, whose files lie in Hugging
Face's own cache. Without torch: which there are, and which version of their files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from simsong.errors import ModelError
from simsong.parallel import once
from simsong.pretrained import cache

FILES = ("*.json", "*.txt", "*.safetensors")        # pickles are never read
FORM = "1"                          # part of the version: change it with what `simsong.model.frozen` computes
KINDS = {"audio-spectrogram-transformer": "AST: audio tagger", "clap": "CLAP: audio and text"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LOCAL = ("/", "./", "../", "~")


@dataclass(frozen=True)
class FetchedCheckpoint:
    """A network in Hugging Face's cache."""

    name: str
    kind: str                       # transformers' model_type
    folder: Path


def folder_of(network: str) -> Path | None:
    """Where the files of a folder or hub id are; None for an id that was not fetched. Asks no network.

    Raises: ModelError for what is neither.
    """
    if (path := Path(network)).is_dir():
        return path
    if network.startswith(_LOCAL) or not _HUB_ID.fullmatch(network):
        names = ", ".join(cache.NETWORKS)
        raise ModelError(f"there is no pretrained network {network!r}; known are {names}, and folders and "
                         "ids on Hugging Face's hub (owner/name)")
    return _snapshot(network, local=True)


def version_of(network: str) -> str | None:
    """`hub-`, the last part of the name, and a digest of the files, the same in any place; None for a hub id
    that was not fetched. Raises: ModelError."""
    if (folder := folder_of(network)) is None:
        return None
    kind_of(folder, network)
    digest = hashlib.sha256(FORM.encode())
    try:
        files = sorted(path for pattern in FILES for path in folder.glob(pattern))
        for path in files:
            now = path.stat()
            digest.update(path.name.encode() + _file_digest(path, now.st_mtime_ns, now.st_size))
    except OSError as error:
        raise ModelError(f"{network}: cannot be read ({error.strerror or error})") from None
    if not any(path.suffix == ".safetensors" for path in files):
        raise ModelError(f"{network}: has no safetensors, and pickles are not read")
    name = Path(network).name or folder.resolve().name
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:60] or "model"
    return f"hub-{slug}-{digest.hexdigest()}"


def kind_of(folder: Path, network: str) -> str:
    """transformers' model_type, one of KINDS. Raises: ModelError for another, or none."""
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        raise ModelError(f"{network}: no model of transformers (config.json is lost or damaged)") from None
    if kind not in KINDS:
        raise ModelError(f"{network}: is {kind!r}; AST and CLAP are what hears music here")
    return kind


def fetch(network: str) -> Path:
    """Have Hugging Face's cache hold a network's files. Raises: ModelError."""
    if Path(network).is_dir():
        folder = Path(network)
    else:
        folder_of(network)                          # refuses what is no id
        snapshot = _snapshot(network, local=False)
        assert snapshot is not None
        folder = snapshot
    version_of(str(folder))
    return folder


def remove(network: str) -> bool:
    """Remove a hub id's files from Hugging Face's cache; whether there were any. Raises: ModelError."""
    if Path(network).is_dir():
        raise ModelError(f"{network}: is a folder of yours, and stays")
    folder_of(network)
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        info = scan_cache_dir()
    except CacheNotFound:
        return False
    revisions = [revision.commit_hash for repo in info.repos
                 if repo.repo_type == "model" and repo.repo_id == network for revision in repo.revisions]
    if revisions:
        info.delete_revisions(*revisions).execute()
    return bool(revisions)


def fetched_checkpoints() -> Iterator[FetchedCheckpoint]:
    """The networks of KINDS that Hugging Face's cache holds."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = sorted(scan_cache_dir().repos, key=lambda repo: repo.repo_id)
    except CacheNotFound:
        return
    for repo in repos:
        if repo.repo_type != "model" or (folder := _snapshot(repo.repo_id, local=True)) is None:
            continue
        try:
            yield FetchedCheckpoint(repo.repo_id, kind_of(folder, repo.repo_id), folder)
        except ModelError:
            continue


def _snapshot(name: str, *, local: bool) -> Path | None:
    from huggingface_hub import snapshot_download  # 0.5 s, and musicnn needs none of it
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES), local_files_only=local))
    except HFValidationError:
        raise ModelError(f"{name}: is no folder, and no id on the hub") from None
    except Exception as error:                      # of HTTP, of the disk, of the hub's own
        unanswered = isinstance(error, LocalEntryNotFoundError)
        if local and unanswered:
            return None
        reason = "it does not answer" if unanswered else type(error).__name__
        raise ModelError(f"{name}: cannot be had from Hugging Face's hub ({reason}); without it all else "
                         "works") from None


@once(maxsize=64)
def _file_digest(path: Path, mtime_ns: int, size: int) -> bytes:
    """Of one file as it is now: weights are not read again for each part that is planned."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
