"""Composes and renders one song: `song_score` writes the notes down, `render` plays them.

Both are pure functions of a `SongSpec`. Tempo, intro and outro are known, since they are chosen here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simsong.demo.styles import CHORDS, SCALES, STYLES, Style
from simsong.demo.synth import RATE_HZ, Production, Samples, Voice, band_noise, drum_kit, produce

Role = Literal["bass", "chords", "lead", "layer"]
Variant = Literal["original", "karaoke", "live", "cover", "nightcore"]
# Sections and their shares of the body.
SECTIONS = (("verse", 2), ("chorus", 2), ("verse", 2), ("chorus", 2), ("bridge", 1), ("chorus", 2))
INTENSITY = {"verse": 0.75, "chorus": 1.0, "bridge": 0.6}
NIGHTCORE = 1.25


@dataclass(frozen=True)
class Latent:
    """What makes two songs of a style alike; each 0..1, each audible."""

    pace: float                # place in the style's range of tempi
    density: float             # notes a bar
    length: float              # staccato to legato
    drums: float               # their level
    mood: float                # sad to glad scales


@dataclass(frozen=True)
class Traits:
    """What an artist's songs have in common beside their latents."""

    kit_pitch: float
    kit_length: float
    kit_snap: float
    tilt: float                # of every instrument's spectrum
    formant: float
    attack: float
    tonic: int                 # the favourite key, 0..11
    lead: str
    chords: str
    bass: str
    comping: int               # favourite pattern
    drums: int


@dataclass(frozen=True)
class SongSpec:
    seed: tuple[int, ...]
    style: str
    latent: Latent
    traits: Traits
    duration_s: float          # wanted; the bars of the body decide the true one


@dataclass(frozen=True)
class Note:
    role: Role
    start_s: float
    midi: int
    duration_s: float
    level: float


@dataclass(frozen=True)
class Hit:
    name: str
    start_s: float
    level: float


@dataclass(frozen=True)
class Score:
    tempo: float
    tonic: int
    scale: str
    intro: str
    outro: str
    intro_s: float
    outro_s: float
    duration_s: float
    sections: tuple[tuple[str, float], ...]    # name, start
    instruments: dict[Role, str]
    notes: list[Note]
    hits: list[Hit]


def song_score(spec: SongSpec) -> Score:
    """The whole song as notes and drum hits. The same spec gives the same score."""
    return _Composer(spec).compose()


class _Composer:
    """Holds what all parts of one song share: key, tempo, motifs, the random numbers."""

    def __init__(self, spec: SongSpec) -> None:
        self.spec, self.style, self.rng = spec, STYLES[spec.style], np.random.default_rng([*spec.seed, 1])
        style, latent, traits, rng = self.style, spec.latent, spec.traits, self.rng
        self.tempo = style.tempo[0] + (style.tempo[1] - style.tempo[0]) * latent.pace
        self.step_s = 60 / self.tempo / 4
        self.bar_s = self.step_s * style.steps
        self.swing = rng.uniform(*style.swing)
        self.tonic = int(traits.tonic if rng.random() < 0.6 else rng.integers(12))
        mood = np.clip(latent.mood + rng.normal(0, 0.12), 0, 0.999)
        self.scale_name = style.scales[int(mood * len(style.scales))]
        self.scale = SCALES[self.scale_name]
        self.progressions = {name: style.progressions[i] for name, i in zip(
            INTENSITY, rng.choice(len(style.progressions), 3, replace=False), strict=True)}
        comping = traits.comping if rng.random() < 0.7 else int(rng.integers(9))
        drums = traits.drums if rng.random() < 0.7 else int(rng.integers(9))
        self.comping = style.comping[comping % len(style.comping)]
        self.drums = style.drums[drums % len(style.drums)]
        self.articulation = float(np.interp(latent.length, (0, 1), style.articulation))
        self.motifs = {name: self._motif(INTENSITY[name]) for name in INTENSITY}
        self.notes: list[Note] = []
        self.hits: list[Hit] = []
        self.origin_s = 0.0

    def compose(self) -> Score:
        spec, rng = self.spec, self.rng
        short = min(1.0, spec.duration_s / 90)             # songs for tests have shorter ends
        intro_s = float(rng.uniform(5, 20)) * short
        outro_s = float(rng.uniform(5, 15)) * short
        intro = str(rng.choice(("pad", "solo", "crowd", "silence", "drone")))
        outro = str(rng.choice(("fade", "fade", "fade", "ring", "applause")))
        bars = max(4, round((spec.duration_s - intro_s - outro_s) / self.bar_s))
        body_s = bars * self.bar_s
        duration_s = intro_s + body_s + outro_s
        self.origin_s = intro_s
        self._intro(intro, intro_s)
        sections = []
        weights = np.cumsum([0, *(weight for _, weight in SECTIONS)])
        edges = np.round(weights / weights[-1] * bars).astype(int)
        for (name, _), first, end in zip(SECTIONS, edges[:-1], edges[1:], strict=True):
            if end > first:
                sections.append((name, float(intro_s + first * self.bar_s)))
                self._section(name, int(first), int(end))
        if outro == "fade":
            self._section("chorus", bars, bars + int(np.ceil(outro_s / self.bar_s)))
        else:
            self._ring(intro_s + body_s, outro_s)
        traits = spec.traits
        instruments: dict[Role, str] = {"bass": traits.bass, "chords": traits.chords, "lead": traits.lead,
                                        "layer": "strings" if traits.chords != "strings" else "organ"}
        if rng.random() < 0.25:
            instruments["lead"] = str(rng.choice(self.style.leads))
        return Score(self.tempo, self.tonic, self.scale_name, intro, outro, intro_s, outro_s, duration_s,
                     tuple(sections), instruments, self.notes, self.hits)

    # --- harmony and time

    def pitch(self, degree: int, around: int) -> int:
        """The pitch of a scale degree that lies nearest to `around`."""
        midi = self.tonic + self.scale[degree % 7] + 12 * (degree // 7)
        return int(midi + 12 * round((around - midi) / 12))

    def at(self, bar: int, step: float) -> float:
        late = self.swing if int(step / self.style.swing_step) % 2 else 0.0
        loose = self.rng.normal(0, self.style.loose_s)
        return max(0.0, self.origin_s + (bar * self.style.steps + step + late) * self.step_s + loose)

    def add(self, role: Role, bar: int, step: float, midi: int, steps: float, level: float) -> None:
        self.notes.append(Note(role, self.at(bar, step), midi, max(0.04, steps * self.step_s),
                               level * float(self.rng.uniform(0.85, 1.1))))

    # --- sections

    def _section(self, name: str, first: int, end: int) -> None:
        progression = self.progressions[name]
        for bar in range(first, end):
            root = progression[(bar - first) % len(progression)]
            following = progression[(bar - first + 1) % len(progression)]
            self._comp(name, bar, root)
            BASS[self.style.bass](self, bar, root, following, INTENSITY[name])
            self._melody(name, bar, bar - first, root)
            self._drum_bar(name, bar, first, end)
            if name == "chorus":
                for step in CHORDS["triad"]:
                    self.add("layer", bar, 0, self.pitch(root + step, 62), self.style.steps, 0.22)

    def _comp(self, name: str, bar: int, root: int) -> None:
        tones = [self.pitch(root + step, 58 + 3 * i) for i, step in enumerate(CHORDS[self.style.chord])]
        level, steps = INTENSITY[name], self.style.steps
        if self.comping == "arp":
            order = (0, 1, 2, 1) if self.spec.traits.comping % 2 else (0, 2, 1, 2)
            for i, step in enumerate(range(0, steps, 2)):
                tone = tones[order[i % 4] % len(tones)] + (12 if i % 8 == 6 else 0)
                self.add("chords", bar, step, tone, 3, level)
            return
        length = self.style.comping_steps * (0.7 + 0.6 * self.spec.latent.length)
        for step, mark in enumerate(self.comping):
            if mark != "." and not (name == "bridge" and step % 8 and self.rng.random() < 0.5):
                for tone in tones:
                    self.add("chords", bar, step, tone, length,
                             level * (0.6 if mark == "o" else 1.0) / len(tones) ** 0.5)

    def _motif(self, intensity: float) -> list[list[tuple[int, int]]]:
        """Four bars of (step, degree): a phrase, its repetition, the phrase once more, an answer."""
        style, rng = self.style, self.rng
        onsets = np.interp(self.spec.latent.density, (0, 1), style.onsets) * intensity
        grid = np.arange(0, style.steps, 1 if style.syncopation > 0.4 else 2)
        off_beat = np.where(grid % 2 == 0, 0.3 + style.syncopation, style.syncopation)
        weight = np.where(grid % 4 == 0, 1.0, off_beat)
        phrases = []
        for _ in range(2):
            count = int(np.clip(rng.poisson(onsets), 1, len(grid) - 1))
            steps = np.sort(rng.choice(grid, count, replace=False, p=weight / weight.sum()))
            walk = np.cumsum(rng.choice((-1, 1), count) * rng.poisson(style.leap, count))
            degrees = np.clip(walk, -5, 7)
            phrases.append([(int(step), int(degree)) for step, degree in zip(steps, degrees, strict=True)])
        question, answer = phrases
        return [question, answer, question, [*answer[:-1], (answer[-1][0], 0)]]

    def _melody(self, name: str, bar: int, nth: int, root: int) -> None:
        phrase, style = self.motifs[name][nth % 4], self.style
        register = style.register + (4 if name == "chorus" else 0)
        chord = [root + step for step in CHORDS["triad"]]
        for i, (step, degree) in enumerate(phrase):
            if step % 8 == 0:                               # strong beats take a tone of the chord
                degree = min(chord, key=lambda tone, d=degree: (abs((tone - d + 3) % 7 - 3), tone))
            end = phrase[i + 1][0] if i + 1 < len(phrase) else style.steps
            steps = max(0.6, min(end - step, 8) * self.articulation)
            near = register + int(np.clip(degree, -5, 7))
            self.add("lead", bar, step, self.pitch(degree, near), steps, 0.9 if name == "chorus" else 0.75)

    def _drum_bar(self, name: str, bar: int, first: int, end: int) -> None:
        style, rng = self.style, self.rng
        level = (0.45 + 0.75 * self.spec.latent.drums) * INTENSITY[name]
        for hit, pattern in (style.light if name == "bridge" else self.drums).items():
            for step, mark in enumerate(pattern):
                if mark != ".":
                    accent = (1.0 if mark == "x" else 0.5) * (1.0 if step % 4 == 0 else 0.85)
                    start_s = self.at(bar, step)
                    self.hits.append(Hit(hit, start_s, level * accent * float(rng.uniform(0.85, 1.05))))
        if style.fill and bar == end - 1 and end - first > 1:
            for step in range(style.steps - 4, style.steps):
                self.hits.append(Hit(style.fill, self.at(bar, step), level * (0.5 + 0.12 * (step % 4))))
        if name == "chorus" and bar == first and style.mix[0] > 0.5:
            self.hits.append(Hit("crash", self.at(bar, 0), 0.7 * level))

    # --- ends

    def _intro(self, kind: str, length_s: float) -> None:
        home = [self.pitch(step, 55 + 4 * i) for i, step in enumerate(CHORDS["triad"])]
        if kind == "pad":
            self.notes += [Note("layer", 0.3, midi, length_s - 1.0, 0.16) for midi in home]
        elif kind == "drone":
            self.notes.append(Note("layer", 0.2, self.pitch(0, 43), length_s - 0.8, 0.25))
        elif kind == "solo":
            gap_s = self.step_s * 4
            for i in range(int((length_s - 0.6) / gap_s)):
                midi = home[(0, 1, 2, 1)[i % 4]]
                self.notes.append(Note("chords", 0.2 + i * gap_s, midi, gap_s * 0.9, 0.3))

    def _ring(self, start_s: float, length_s: float) -> None:
        for i, step in enumerate(CHORDS["triad"]):
            self.notes.append(Note("layer", start_s, self.pitch(step, 57 + 4 * i), 0.7 * length_s, 0.35))
            self.notes.append(Note("chords", start_s, self.pitch(step, 57 + 4 * i), 0.5 * length_s, 0.6))
        self.notes.append(Note("bass", start_s, self.pitch(0, 36), 0.6 * length_s, 0.6))


# --- ways of playing the bass: (composer, bar, root, root of the next bar, level)

def _root_fifth(c: _Composer, bar: int, root: int, _: int, level: float) -> None:
    c.add("bass", bar, 0, c.pitch(root, 40), 5, level)
    c.add("bass", bar, c.style.steps - 4, c.pitch(root + 4, 40), 3, 0.7 * level)


def _octaves(c: _Composer, bar: int, root: int, _: int, level: float) -> None:
    low = c.pitch(root, 38)
    for step in range(2, 16, 4):
        c.add("bass", bar, step, low, 1.4, level)
        if c.spec.latent.density > 0.45:
            c.add("bass", bar, step + 1, low + 12, 0.8, 0.7 * level)


def _eighths(c: _Composer, bar: int, root: int, following: int, level: float) -> None:
    for step in range(0, 16, 2):
        c.add("bass", bar, step, c.pitch(following if step == 14 else root, 38), 1.7, level)


def _walking(c: _Composer, bar: int, root: int, following: int, level: float) -> None:
    line = [root, root + int(c.rng.choice((1, 2))), root + 4, following + int(c.rng.choice((-1, 1)))]
    for beat, degree in enumerate(line):
        c.add("bass", bar, 4 * beat, c.pitch(degree, 41), 3.6, level * (1.0 if beat % 2 == 0 else 0.9))


def _drone(c: _Composer, bar: int, root: int, _: int, level: float) -> None:
    if bar % 2 == 0:
        c.add("bass", bar, 0, c.pitch(root, 38), 30, 0.8 * level)


def _melodic(c: _Composer, bar: int, root: int, following: int, level: float) -> None:
    even, odd = ((0, 0), (3, 0), (6, 2), (8, 4), (11, 2)), ((2, 0), (4, 2), (6, 4), (12, following - root))
    pattern = odd if bar % 2 else even
    for step, degree in pattern:
        c.add("bass", bar, step, c.pitch(root + degree, 37), 2.4, level)


def _long(c: _Composer, bar: int, root: int, _: int, level: float) -> None:
    c.add("bass", bar, 0, c.pitch(root, 33), 9, level)
    if bar % 2:
        c.add("bass", bar, 10, c.pitch(root, 33) + (12 if c.rng.random() < 0.3 else 0), 5, 0.9 * level)


def _tumbao(c: _Composer, bar: int, root: int, following: int, level: float) -> None:
    for step, degree, steps in ((3, root + 4, 3), (6, root, 5), (12, following, 5)):
        c.add("bass", bar, step, c.pitch(degree, 40), steps, level)


BASS: dict[str, Callable[[_Composer, int, int, int, float], None]] = {
    "root_fifth": _root_fifth, "octaves": _octaves, "eighths": _eighths, "walking": _walking, "drone": _drone,
    "melodic": _melodic, "long": _long, "tumbao": _tumbao,
}


# --- sound

def render(spec: SongSpec, score: Score, variant: Variant = "original") -> Samples:
    """(n,) float32 mono at `RATE_HZ`, n = score.duration_s · RATE_HZ (nightcore: less by `NIGHTCORE`)."""
    style, traits = STYLES[spec.style], spec.traits
    rng = np.random.default_rng([*spec.seed, 2, _SEEDS[variant]])
    instruments = _other_band(score, style) if variant == "cover" else score.instruments
    voices = {role: Voice.of(name, traits.tilt, traits.formant, traits.attack)
              for role, name in instruments.items()}
    kit = drum_kit(rng, traits.kit_pitch, traits.kit_length, traits.kit_snap)
    n = int(score.duration_s * RATE_HZ)
    tonal, drums = np.zeros(n, dtype=np.float32), np.zeros(n, dtype=np.float32)
    levels = dict(zip(("drums", "bass", "chords", "lead"), style.mix, strict=True)) | {"layer": style.mix[2]}
    shift = 3 if variant == "cover" else 0
    for note in score.notes:
        if variant == "karaoke" and note.role == "lead":
            continue
        wave = voices[note.role].note(note.midi + shift, note.duration_s)
        _mix(tonal, wave, note.start_s, note.level * levels[note.role])
    for hit in score.hits:
        _mix(drums, kit[hit.name], hit.start_s, hit.level * levels["drums"])
    if style.pumping:
        tonal *= _pumping(score, n, style.pumping)
    body = slice(int(score.intro_s * RATE_HZ), int((score.duration_s - score.outro_s) * RATE_HZ))
    out = produce(tonal + drums, Production.draw(rng if variant in ("live", "cover") else
                                                 np.random.default_rng([*spec.seed, 3])), body, rng)
    out = _ends(out, score, rng)
    if variant == "live":
        out = np.tanh(out + _crowd(rng, n, 0.04 + 0.02 * float(rng.random())))
    if variant == "nightcore":
        at = np.arange(0, n - 1, NIGHTCORE)
        out = np.interp(at, np.arange(n), out)
    return out.astype(np.float32)


_SEEDS: dict[Variant, int] = {"original": 0, "karaoke": 0, "nightcore": 0, "live": 1, "cover": 2}


def _other_band(score: Score, style: Style) -> dict[Role, str]:
    """The same parts on the style's other instruments."""
    def other(names: tuple[str, ...], name: str) -> str:
        return names[(names.index(name) + 1) % len(names)] if name in names else names[0]
    own = score.instruments
    return {"bass": other(style.basses, own["bass"]), "chords": other(style.chords, own["chords"]),
            "lead": other(style.leads, own["lead"]), "layer": own["layer"]}


def _mix(into: Samples, wave: Samples, start_s: float, level: float) -> None:
    start = int(start_s * RATE_HZ)
    end = min(start + len(wave), len(into))
    if end > start:
        into[start:end] += np.float32(level) * wave[:end - start]


def _pumping(score: Score, n: int, depth: float) -> Samples:
    gain = np.ones(n, dtype=np.float32)
    dip = (1 - depth * np.exp(-np.arange(int(0.3 * RATE_HZ)) / (0.1 * RATE_HZ))).astype(np.float32)
    for hit in score.hits:
        if hit.name in ("kick", "boom"):
            start = int(hit.start_s * RATE_HZ)
            span = gain[start:start + len(dip)]
            np.minimum(span, dip[:len(span)], out=span)
    return gain


def _crowd(rng: np.random.Generator, n: int, level: float) -> Samples:
    """Murmur that swells and ebbs."""
    seconds = max(4, n // RATE_HZ)
    swell = np.interp(np.arange(n), np.linspace(0, n, seconds), rng.uniform(0.5, 1.0, seconds))
    return (level * swell * band_noise(rng, n, 300, 3500)).astype(np.float32)


def _ends(samples: Samples, score: Score, rng: np.random.Generator) -> Samples:
    """Sound and gain of intro and outro."""
    intro, outro = int(score.intro_s * RATE_HZ), int(score.outro_s * RATE_HZ)
    out = samples.copy()
    fade = np.linspace(0, 1, intro, dtype=np.float32)
    if score.intro in ("pad", "drone"):
        out[:intro] *= fade
    level = float(np.sqrt(np.mean(out[intro:-outro] ** 2)))
    if score.intro == "crowd":
        out[:intro] += _crowd(rng, intro, 0.35 * level)
    if score.outro == "applause":
        out[-outro:] += _crowd(rng, outro, 0.5 * level)
    out[-outro:] *= np.linspace(1, 0, outro, dtype=np.float32) ** (2 if score.outro == "fade" else 1.2)
    return out
