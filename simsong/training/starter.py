"""`python -m simsong.training.starter`: an encoder of preset `tiny` that knows some music before it hears a
library, distilled from a pretrained tagger. None comes with SimSong: docs/LEARNING.md tells why.

The tagger (musicnn) hears patches of 3 s of real songs whose licence allows it, and of the demo
world's. The encoder learns its features of them (regression), which patches it finds alike (relational
distillation, Park et al., CVPR 2019) and which are of one song (InfoNCE). Both hear each real song twice: as
it is, and at another speed and colour.

The same arguments give the same weights on the same machine and versions. What is finished is kept in the
work folder: started again, it goes on.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import pickle
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np
import safetensors.torch
import torch
from scipy.signal import lfilter, resample_poly
from torch import Tensor, nn
from torch.nn import functional

from simsong import config, progress
from simsong.audio.decode import decode
from simsong.audio.loudness import gain_to
from simsong.audio.samples import Samples
from simsong.demo.compose import render, song_score
from simsong.demo.plan import plan_world
from simsong.demo.synth import RATE_HZ as DEMO_RATE_HZ
from simsong.errors import ModelError, SimSongError
from simsong.matching import same_key
from simsong.model import losses
from simsong.model.ast import AST
from simsong.model.encoder import WEIGHTS, Encoder, build
from simsong.model.files import write_atomic
from simsong.model.logmel import RATE_HZ, STD
from simsong.pretrained import musicnn
from simsong.pretrained.musicnn import PATCH, MusicNN
from simsong.training.augment import augment
from simsong.training.task import versions
from simsong.training.train import deterministic

TEACHER = "msd-musicnn"
TAUGHT = ("penultimate", "mean_pool", "max_pool")   # of the teacher's features
HEARD_S = 96                        # of a real song, at most
DEMO_SEED, DEMO_S = 77, (60.0, 75.0)
EVERY = (2, 3)                      # of the teacher's patches that many is heard: of a song as it is, changed
HEARD_LUFS = -14.0                  # by the teacher: about what it was trained on; the student: [segments]
SPEEDS, COLOUR = (0.75, 1.3), 0.5   # of the changed version
DIMS = 128                          # principal components of the teacher's features
BATCH = 20                          # songs a step, two views of each
DEMO_SHARE = 0.25                   # of a batch
MIXED = 0.8                         # share of the songs that sound with another one of the batch
LONG_EVERY, LONG_PATCHES = 4, 48    # each so many steps views show whole segments, of which so many patches
LEARNING_RATE, WEIGHT_DECAY, WARMUP = 1e-3, 0.05, 0.05
RELATIONS, CONTRAST, TEMPERATURE = 10.0, 0.3, 0.2   # weights beside the regression's; of InfoNCE
CHECKPOINT, CHECKPOINT_STEPS, LOGGED = "checkpoint.pt", 25, 100
CARD, CARD_TEXT = "training.json", "CARD.md"

ALLOWED = ("CC0", "CC BY", "CC (Audionautix.com; CC BY)", "CC CC BY", "GPL", "OGA-BY", "Public domain",
           "https://creativecommons.org/licenses/by/", "https://creativecommons.org/licenses/by-sa/")
REFUSED = ("NC", "ND", "not stated", "unverified")


@dataclass(frozen=True)
class StarterSong:
    """A song to learn of. Attributes: load: its sound, at 16 kHz."""

    name: str
    artist: str
    title: str
    licence: str
    load: Callable[[], Samples]
    composed: bool = False


@dataclass(frozen=True)
class Heard:
    """A version of a song, as student and teacher hear it.

    Attributes:
        features: (frames, n_mels) float16, the student's.
        starts: (patches,) the frames at which the teacher's patches begin.
        taught: (patches, width) float32.
    """

    features: np.ndarray
    starts: np.ndarray
    taught: np.ndarray


def allowed(licence: str) -> bool:
    """Whether weights that ship may be trained on a song: its licence is known, and allows commercial use and
    derived works."""
    parts = licence.upper().replace("-", " ").split()
    refused = any(word in licence if word.islower() else word in parts for word in REFUSED)
    return licence.startswith(ALLOWED) and not refused


def real_songs(catalogues: Sequence[Path]) -> list[StarterSong]:
    """Those allowed, of catalogues with the columns file, artist, title and licence; files lie beside.

    Raises: ModelError for what is no such catalogue.
    """
    songs: list[StarterSong] = []
    for catalogue in catalogues:
        try:
            with catalogue.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            for number, row in enumerate(rows):
                if allowed(row["licence"]):
                    name = f"{catalogue.parent.name}-{number:05}"
                    songs.append(StarterSong(name, row["artist"], row["title"], row["licence"],
                                             _reader(catalogue.parent / row["file"])))
        except (OSError, ValueError, KeyError, csv.Error) as error:
            raise ModelError(f"{catalogue}: not a catalogue of files, artists, titles and licences "
                             f"({type(error).__name__}: {error})") from None
    return songs


def demo_songs(count: int) -> list[StarterSong]:
    """Of a demo world that nothing else is measured on."""
    if not count:
        return []
    return [StarterSong(f"demo-{number:05}", song.artist, song.title, "Apache-2.0 (composed by SimSong)",
                        lambda song=song: _resampled(render(song.spec, song_score(song.spec), "original")),
                        True)
            for number, song in enumerate(plan_world(count, DEMO_SEED, DEMO_S, {}).songs)]


def hear(source: StarterSong, seed: int, changed: bool, teacher: MusicNN, student: Encoder,
         folder: Path) -> Heard:
    """A song as both hear it; kept in the folder."""
    file = folder / f"{source.name}-{int(changed)}.npz"
    try:
        with np.load(file, allow_pickle=False) as saved:
            return Heard(saved["features"], saved["starts"], saved["taught"].astype(np.float32))
    except (OSError, ValueError, KeyError, EOFError):
        pass                                        # not heard yet, or cut short
    rng = np.random.default_rng((int(changed), seed))
    sound = source.load()[:HEARD_S * RATE_HZ]
    if changed:
        sound = _changed(sound, rng)
    sound = np.resize(sound, max(len(sound), PATCH)).astype(np.float32)
    loudness = config.SegmentsSettings().loudness_lufs
    assert isinstance(loudness, float)
    sound *= np.float32(gain_to(sound, loudness))
    features = student.features(torch.from_numpy(sound)[None])[0].numpy().astype(np.float16)
    first = int(rng.integers(max(1, min(PATCH, len(sound) - PATCH)))) if changed or source.composed else 0
    starts = np.arange(first, len(sound) - PATCH + 1,
                       PATCH * EVERY[changed or source.composed])
    loud = sound * np.float32(gain_to(sound, HEARD_LUFS))
    outputs = [teacher(musicnn.log_mel(loud, starts[at:at + musicnn.BATCH]))
               for at in range(0, len(starts), musicnn.BATCH)]
    taught = torch.cat([torch.cat([part[name] for name in TAUGHT], 1) for part in outputs]).numpy()
    lesson = Heard(features, starts // _hop(student), taught.astype(np.float16).astype(np.float32))
    buffer = io.BytesIO()
    np.savez(buffer, features=features, starts=lesson.starts, taught=taught.astype(np.float16))
    write_atomic(file, buffer.getvalue())
    return lesson


class Lessons:
    """Batches: a function of seed and step.

    Args: songs: of each its versions; composed: whether the demo world's.
    """

    def __init__(self, songs: Sequence[Sequence[Heard]], composed: Sequence[bool], student: Encoder,
                 seed: int) -> None:
        assert isinstance(student.backbone, AST)
        self.songs, self.seed, preset = songs, seed, student.preset
        self.real = np.flatnonzero(~np.array(composed, bool))
        self.composed = np.flatnonzero(np.array(composed, bool))
        if len(self.real) < 2:
            raise ModelError(f"{len(self.real)} real songs are too few to learn of; name catalogues with "
                             "licences that allow it")
        self.frames = student.feature_shape[0]
        bands, times = student.backbone.grid
        self.patches = bands * times
        shown = (PATCH // _hop(student) - preset.patch) // preset.stride + 1    # along time, in a short view
        self.short = (shown - 1) * preset.stride + preset.patch
        self.places = times - shown + 1
        taught = np.concatenate([lesson.taught for song in self.real.tolist() for lesson in songs[song]])
        mean, sd = taught.mean(0), taught.std(0) + 1e-3
        axes = np.linalg.svd((taught - mean) / sd, full_matrices=False)[2][:DIMS]
        axes = axes.T * np.sqrt(len(axes) / len(mean))     # a dimension's variance is 1 on average
        self.targets = [[((lesson.taught - mean) / sd @ axes).astype(np.float32)
                         for lesson in song] for song in songs]
        self.dims = axes.shape[1]

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """(2·songs, frames, n_mels), (2·songs, dims) what the teacher says, and for `Encoder.pool` `at` or
        `keep`. Rows 2i and 2i + 1 are of one song."""
        rng = np.random.default_rng((self.seed, step))
        composed = min(round(BATCH * DEMO_SHARE), len(self.composed))
        songs = np.concatenate([rng.permutation(self.real)[:BATCH - composed],
                                rng.permutation(self.composed)[:composed]]).repeat(2)
        view = self._long if step % LONG_EVERY == LONG_EVERY - 1 else self._short
        rows, targets = zip(*(view(int(song), rng) for song in songs), strict=True)
        views, taught = _mixed(np.stack(rows).astype(np.float32), np.stack(targets), rng)
        augment(views, rng, "light")
        at = keep = None
        if view == self._long:
            every = np.tile(np.arange(self.patches), (len(songs), 1))
            keep = torch.from_numpy(rng.permuted(every, axis=1)[:, :LONG_PATCHES])
        else:
            at = torch.from_numpy(rng.integers(self.places, size=len(songs)))
        return torch.from_numpy(views), torch.from_numpy(taught), at, keep

    def _short(self, song: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """What one of the teacher's patches shows."""
        version = int(rng.integers(len(self.songs[song])))
        lesson = self.songs[song][version]
        patch = int(rng.integers(len(lesson.starts)))
        return _stretch(lesson.features, int(lesson.starts[patch]), self.short), \
            self.targets[song][version][patch]

    def _long(self, song: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A segment, and the mean of what the teacher says of its patches."""
        version = int(rng.integers(len(self.songs[song])))
        lesson, targets = self.songs[song][version], self.targets[song][version]
        start = int(rng.integers(max(1, len(lesson.features) - self.frames + 1)))
        inside = (lesson.starts >= start) & (lesson.starts + self.short <= start + self.frames)
        return _stretch(lesson.features, start, self.frames), \
            (targets[inside] if inside.any() else targets).mean(0)


def distil(student: Encoder, lessons: Lessons, steps: int, folder: Path, key: str) -> list[dict[str, float]]:
    """Trains the student in place; goes on from the folder's checkpoint if it is one of the same key.

    Returns: curves. Raises: ModelError where the loss is no longer finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lessons.seed)
        regress = nn.Linear(student.dim, lessons.dims)
        nn.init.zeros_(regress.weight)          # at random it would be far off, and drown the other losses
    groups = student.parameter_groups(LEARNING_RATE, WEIGHT_DECAY)
    groups.append({"params": list(regress.parameters()), "lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY,
                   "scale": 1.0})
    optimizer = torch.optim.AdamW(groups)
    state: dict[str, Any] = {"student": student, "regress": regress, "optimizer": optimizer}
    first, curves = _resume(state, folder, key)
    learning = [parameter for group in groups for parameter in group["params"]]
    student.train()
    meters = progress.meter("distil", steps - first, "steps")
    with deterministic(None, student.device), meters as meter:      # to go on as if nothing had happened
        for step in range(first, steps):
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * _rate(step, steps)
            views, targets, at, keep = lessons[step]
            embeddings = student.standardise(student.pool(views, at, keep))
            parts = _losses(student, regress(embeddings), embeddings, targets)
            loss = torch.stack(list(parts.values())).sum()
            if not torch.isfinite(loss):
                raise ModelError(f"the loss is {loss.item()} at step {step}")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()
            if step % max(1, steps // LOGGED) == 0 or step == steps - 1:
                curves.append({"step": step, "long": float(keep is not None),
                               **{name: part.item() for name, part in parts.items()}})
            if (step + 1) % CHECKPOINT_STEPS == 0 or step == steps - 1:
                _save(state, folder, key, step + 1, curves)
            meter.step(note=f"loss {loss.item():.3f}")
    student.eval()
    return curves


@torch.inference_mode()
def settle(student: Encoder, songs: Sequence[Sequence[Heard]]) -> None:
    """Sets the running figures of `standardise` to those of whole segments, as they are embedded: those of
    training are of shorter views."""
    frames = student.feature_shape[0]
    pooled = [student.pool(torch.from_numpy(_stretch(versions[0].features, start, frames)[None])
                           .float())
              for versions in songs
              for start in range(0, max(1, len(versions[0].features) - frames + 1), frames)]
    variance, mean = torch.var_mean(torch.cat(pooled), 0)
    for name, value in (("running_mean", mean), ("running_var", variance)):
        student.standardise.get_buffer(name).copy_(value)


def write(student: Encoder, folder: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """The weights in half precision but for `standardise`, whose variances are too small for it; the
    settings, the card as JSON and as text. Returns: the card, with the weights' SHA-256."""
    weights = {name: value if name.startswith("standardise.") else value.half()
               for name, value in student.state_dict().items()}
    content = safetensors.torch.save(weights)
    student.save(folder)
    write_atomic(folder / WEIGHTS, content)
    full_card = {**card, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    write_atomic(folder / CARD, (json.dumps(full_card, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomic(folder / CARD_TEXT, _card_text(full_card).encode())
    return full_card


@click.command()
@click.option("--catalogue", "catalogues", multiple=True, required=True,
              type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="catalogue.csv beside the files: file, artist, title, licence. May be given again.")
@click.option("--out", required=True, type=click.Path(path_type=Path),
              help="Folder for the weights, the settings and a card.")
@click.option("--work", required=True, type=click.Path(path_type=Path),
              help="What is finished is kept here, to go on from.")
@click.option("--songs", type=click.IntRange(min=2), help="Real songs, at most; default: all allowed.")
@click.option("--demo-songs", default=32, show_default=True, type=click.IntRange(min=0))
@click.option("--steps", default=400, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1))
def main(catalogues: tuple[Path, ...], out: Path, work: Path, songs: int | None, demo_songs: int, steps: int,
         seed: int, threads: int) -> None:
    """Distil a pretrained tagger into an encoder of preset `tiny`."""
    torch.set_num_threads(threads)
    try:
        card = make(catalogues, out, work, songs, demo_songs, steps, seed)
    except (SimSongError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{card['songs']} songs, {card['steps']} steps: {out} ({card['bytes'] / 2**20:.1f} MiB, "
               f"{card['sha256'][:12]})")


def make(catalogues: Sequence[Path], out: Path, work: Path, songs: int | None, composed: int, steps: int,
         seed: int) -> dict[str, Any]:
    """Hears the songs, distils, writes. Returns: the card."""
    teacher = musicnn.load(TEACHER)
    student = build(config.ModelSettings(preset="tiny"), seed)
    sources = [*real_songs(catalogues)[:songs], *demo_songs(composed)]
    began, folder = time.perf_counter(), work / "heard"
    lessons_of = _hear_all(sources, teacher, student, folder)
    lessons = Lessons([versions for _, versions in lessons_of],
                      [source.composed for source, _ in lessons_of], student,
                      seed)
    digest = hashlib.sha256()
    for _, of in lessons_of:
        for version in of:
            digest.update(version.features.tobytes() + version.taught.tobytes())
    facts = {"seed": seed, "steps": steps, "data": digest.hexdigest(), "versions": versions()}
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    curves = distil(student, lessons, steps, work, key)
    settle(student, [versions for source, versions in lessons_of if not source.composed])
    real = [source for source, _ in lessons_of if not source.composed]
    return write(student, out, {
        "songs": len(lessons_of), "real_songs": len(real), "composed_songs": len(lessons_of) - len(real),
        "artists": len({same_key(source.artist) for source in real}),
        "teacher": TEACHER, "steps": steps, "seed": seed, "data": facts["data"],
        "seconds": round(time.perf_counter() - began), "curves": curves,
        "versions": {"simsong": metadata.version("simsong"), "python": platform.python_version(),
                     **versions()},
        "heard": [{"artist": source.artist, "title": source.title, "licence": source.licence}
                  for source in real]})


def _hear_all(sources: Sequence[StarterSong], teacher: MusicNN, student: Encoder,
              folder: Path) -> list[tuple[StarterSong, list[Heard]]]:
    """Each as it is and, if real, changed. Those that cannot be decoded are left out, and said."""
    lessons: list[tuple[StarterSong, list[Heard]]] = []
    for seed, source in enumerate(progress.track(sources, "hear")):
        try:
            lessons.append((source, [hear(source, seed, changed, teacher, student, folder)
                                     for changed in ((False,) if source.composed else (False, True))]))
        except SimSongError as error:
            click.echo(f"{source.artist} - {source.title}: left out ({error})", err=True)
    return lessons


def _losses(student: Encoder, said: Tensor, embeddings: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """What each adds to the loss."""
    power = targets.square().sum(1).mean()
    regression = (said - targets).square().sum(1).mean() / power + \
        (1 - functional.cosine_similarity(said, targets)).mean()
    ours, theirs = (functional.normalize(each, dim=1) for each in (embeddings, targets))
    others = ~torch.eye(len(targets), dtype=torch.bool)
    relations = (ours @ ours.T - theirs @ theirs.T)[others].square().mean()
    contrast = losses.info_nce(student.project(embeddings), temperature=TEMPERATURE)
    return {"regression": regression, "relations": RELATIONS * relations, "contrast": CONTRAST * contrast}


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate: linear warm-up, and a cosine to 0 over all steps."""
    return min(1.0, (step + 1) / (WARMUP * steps)) * (1 + math.cos(math.pi * step / steps)) / 2


def _save(state: Mapping[str, Any], folder: Path, key: str, step: int,
          curves: list[dict[str, float]]) -> None:
    buffer = io.BytesIO()
    torch.save({"key": key, "step": step, "curves": curves,
                **{name: part.state_dict() for name, part in state.items()}}, buffer)
    write_atomic(folder / CHECKPOINT, buffer.getvalue())


def _resume(state: Mapping[str, Any], folder: Path, key: str) -> tuple[int, list[dict[str, float]]]:
    """Steps that are done, and their curves; (0, []) without a checkpoint of this training."""
    try:
        saved = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
        if saved["key"] != key:
            return 0, []
        for name, part in state.items():
            part.load_state_dict(saved[name])
        return saved["step"], saved["curves"]
    except (OSError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError):
        return 0, []


def _changed(sound: Samples, rng: np.random.Generator) -> Samples:
    """At another speed, pitch with it, and brighter or darker."""
    quicker = resample_poly(sound, 40, round(40 * rng.uniform(*SPEEDS)))
    colour = rng.uniform(-COLOUR, COLOUR)
    return np.asarray(lfilter([1, colour], [1], quicker), np.float32)


def _mixed(views: np.ndarray, targets: np.ndarray,
           rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Views with those of another song of the batch under them, as powers; targets likewise (mixup, Zhang et
    al., ICLR 2018). Rows 2i and 2i + 1 stay of one song: they have the same partner and share."""
    songs = len(views) // 2
    other = rng.permutation(songs).repeat(2) * 2
    other[1::2] += 1
    share = np.where(rng.random(songs) < MIXED, rng.uniform(0.5, 1, songs), 1.0)
    share = share.repeat(2).astype(np.float32)[:, None]
    powers = np.exp(views * (2 * STD))
    views = np.log(share[..., None] * powers + (1 - share[..., None]) * powers[other]) / (2 * STD)
    return views.astype(np.float32), (share * targets + (1 - share) * targets[other]).astype(np.float32)


def _stretch(features: np.ndarray, start: int, frames: int) -> np.ndarray:
    """(frames, n_mels) from `start` on; what is shorter is repeated."""
    part = features[start:start + frames]
    return part if len(part) == frames else np.resize(part, (frames, features.shape[1]))


def _hop(student: Encoder) -> int:
    """Samples from frame to frame."""
    return student.preset.hop_ms * RATE_HZ // 1000


def _reader(path: Path) -> Callable[[], Samples]:
    return lambda: decode(path)


def _resampled(sound: Samples) -> Samples:
    return resample_poly(sound, RATE_HZ, DEMO_RATE_HZ).astype(np.float32)


def _card_text(card: Mapping[str, Any]) -> str:
    licences = Counter(song["licence"] for song in card["heard"])
    lines = [
        "# An encoder of preset `tiny`, distilled",
        "",
        f"An AST distilled from {card['teacher']} (musicnn, Pons & Serra 2019; ISC licence) on "
        f"{card['real_songs']} real songs by {card['artists']} artists and {card['composed_songs']} songs "
        f"that SimSong composed, {card['steps']} steps, seed {card['seed']}.",
        "Made by `python -m simsong.training.starter`; training.json beside this has settings, curves and "
        "versions.",
        "",
        f"Weights: {card['bytes'] / 2**20:.1f} MiB, half precision, SHA-256 `{card['sha256']}`.",
        "",
        "Meant as a first measure of likeness. It knows of music what these songs hold.",
        "",
        "## Songs heard, by licence",
        "",
        *(f"- {licence}: {count}" for licence, count in sorted(licences.items())),
        "",
        "## Songs heard",
        "",
        *(f"- {song['artist']}: {song['title']} ({song['licence']})" for song in card["heard"]),
        ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
