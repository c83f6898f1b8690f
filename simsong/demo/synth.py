"""Sound from nothing but numpy: instruments, drum hits, production (reverb, equaliser, level).

All arrays are float32, mono, at `RATE_HZ`. A note is read out of two wavetables, a bright and a dark one,
cross-faded over the note: a song of a thousand notes costs tens of milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from numpy.fft import irfft, rfft
from numpy.typing import NDArray
from scipy.fft import next_fast_len

Samples = NDArray[np.float32]

RATE_HZ = 22_050
_TABLE = 8192


@dataclass(frozen=True)
class Instrument:
    """A harmonic voice. Slopes are exponents of 1/k over the harmonics k; times are in seconds."""

    bright: float                       # slope at the start of a note (for `swell`, at its end)
    dark: float                         # slope towards which the note moves
    partials: str = "all"               # all, odd, drawbar, pluck (comb of a plucked string), formant, bell
    attack_s: float = 0.005
    decay_s: float = 0.0                # time constant; 0: sustained until released
    release_s: float = 0.05
    darken_s: float = 0.3               # time constant from bright to dark
    swell: bool = False                 # dark to bright, as brass does
    vibrato_cents: float = 0.0
    breath: float = 0.0                 # share of noise
    detune_cents: float = 0.0           # a second voice beside the first


INSTRUMENTS: dict[str, Instrument] = {
    "guitar": Instrument(1.0, 2.4, "pluck", decay_s=0.55, darken_s=0.15, release_s=0.12),
    "keys": Instrument(1.7, 3.0, "odd", decay_s=0.9, darken_s=0.2, release_s=0.1),
    "piano": Instrument(1.2, 2.2, decay_s=0.8, darken_s=0.25, release_s=0.08),
    "organ": Instrument(0.8, 0.8, "drawbar", attack_s=0.012, release_s=0.03),
    "saw": Instrument(0.9, 1.7, darken_s=0.25, detune_cents=9, release_s=0.06),
    "square": Instrument(1.0, 1.8, "odd", darken_s=0.3, release_s=0.04),
    "strings": Instrument(1.3, 1.6, attack_s=0.25, release_s=0.35, vibrato_cents=8, detune_cents=12),
    "brass": Instrument(0.8, 2.6, attack_s=0.035, darken_s=0.09, swell=True, release_s=0.07, vibrato_cents=6),
    "voice": Instrument(1.0, 1.2, "formant", attack_s=0.05, release_s=0.09, vibrato_cents=28, breath=0.015),
    "flute": Instrument(2.4, 3.2, attack_s=0.06, release_s=0.08, vibrato_cents=18, breath=0.05),
    "bell": Instrument(1.0, 2.0, "bell", attack_s=0.002, decay_s=0.9, release_s=0.5),
    "drive": Instrument(0.55, 0.9, attack_s=0.004, darken_s=0.6, release_s=0.03, detune_cents=5),
    "bass_guitar": Instrument(1.5, 3.0, "pluck", decay_s=0.6, darken_s=0.12, release_s=0.04),
    "bass_synth": Instrument(1.1, 2.2, darken_s=0.12, release_s=0.03),
    "bass_upright": Instrument(2.0, 3.6, attack_s=0.012, decay_s=0.4, darken_s=0.1, release_s=0.06),
    "bass_sub": Instrument(3.5, 5.0, attack_s=0.01, darken_s=0.4, release_s=0.08),
}


@dataclass
class Voice:
    """One musician: an instrument with the own timbre of an artist. Notes are cached."""

    instrument: Instrument
    tilt: float = 0.0                   # added to both slopes
    formant: float = 1.0                # size of the vocal tract
    _notes: dict[tuple[int, int], Samples] = field(default_factory=dict)

    @staticmethod
    def of(name: str, tilt: float = 0.0, formant: float = 1.0, attack: float = 1.0) -> Voice:
        base = INSTRUMENTS[name]
        return Voice(replace(base, attack_s=base.attack_s * attack), tilt, formant)

    def note(self, midi: int, duration_s: float) -> Samples:
        """A note of unit loudness, followed by its release."""
        key = (midi, max(1, round(duration_s * 64)))
        if key not in self._notes:
            self._notes[key] = self._render(midi, key[1] / 64)
        return self._notes[key]

    def _render(self, midi: int, duration_s: float) -> Samples:
        i = self.instrument
        hz = 440.0 * 2 ** ((midi - 69) / 12)
        t = np.arange(int((duration_s + i.release_s) * RATE_HZ), dtype=np.float32) / np.float32(RATE_HZ)
        if i.partials == "bell":
            wave = _bell(hz, t, self.tilt)
        else:
            bright, dark = self._table(hz, i.bright), self._table(hz, i.dark)
            share = np.exp(-t / i.darken_s)
            share = 1 - share if i.swell else share
            wave = _read(bright, dark, share, hz, t, i.vibrato_cents)
            if i.detune_cents:
                beside_hz = hz * 2 ** (i.detune_cents / 1200)
                wave = 0.7 * (wave + _read(bright, dark, share, beside_hz, t, i.vibrato_cents))
        if i.breath:
            rng = np.random.default_rng([midi, len(t)])
            wave = wave + i.breath * rng.standard_normal(len(t), dtype=np.float32)
        envelope = np.minimum(t / max(i.attack_s, 1e-3), 1.0)
        if i.decay_s:
            envelope *= np.exp(-t / (i.decay_s * (220 / hz) ** 0.25))
        envelope *= np.clip((duration_s + i.release_s - t) / i.release_s, 0, 1) ** 2
        return (wave * envelope).astype(np.float32)

    def _table(self, hz: float, slope: float) -> Samples:
        count = max(1, min(48, int(0.45 * RATE_HZ / hz)))
        k = np.arange(1, count + 1)
        level = k ** -max(slope + self.tilt, 0.2)
        match self.instrument.partials:
            case "odd":
                level = level * np.where(k % 2 == 1, 1.0, 0.12)
            case "drawbar":
                level = level * np.isin(k, (1, 2, 3, 4, 6, 8))
            case "pluck":
                level = level * (0.15 + np.abs(np.sin(np.pi * k * 0.19)))
            case "formant":
                level = level * _formants(k * hz / self.formant)
        spectrum = np.zeros(_TABLE // 2 + 1, dtype=np.complex128)
        spectrum[1:count + 1] = level * np.exp(1j * 2.4 * k * k)      # spread phases: a low crest factor
        table = irfft(spectrum, _TABLE)
        return (table / np.sqrt(np.mean(table**2)) * 0.25).astype(np.float32)


def _read(bright: Samples, dark: Samples, share: NDArray[np.floating], hz: float, t: Samples,
          vibrato_cents: float) -> NDArray[np.floating]:
    phase = hz * t.astype(np.float64)
    if vibrato_cents:
        depth = hz * (2 ** (vibrato_cents / 1200) - 1) / (2 * np.pi * 5.3)
        phase += depth * np.minimum(t / 0.3, 1) * np.sin(2 * np.pi * 5.3 * t)
    index = (phase * _TABLE).astype(np.int64) & (_TABLE - 1)
    return bright[index] * share + dark[index] * (1 - share)


def _formants(hz: NDArray[np.floating]) -> NDArray[np.floating]:
    peaks = ((620, 130, 1.0), (1180, 170, 0.6), (2550, 260, 0.25))
    heights = [gain * np.exp(-0.5 * ((hz - centre) / width) ** 2) for centre, width, gain in peaks]
    return 0.03 + np.sum(heights, axis=0)


def _bell(hz: float, t: Samples, tilt: float) -> NDArray[np.floating]:
    ratios = ((1.0, 1.0, 1.0), (2.0, 0.6, 0.7), (2.76, 0.45, 0.5), (5.4, 0.25, 0.25), (8.9, 0.1, 0.12))
    partials = [level * ratio**-tilt * np.exp(-t / (0.8 * length)) * np.sin(2 * np.pi * hz * ratio * t)
                for ratio, level, length in ratios if hz * ratio < RATE_HZ * 0.45]
    return 0.3 * np.sum(partials, axis=0)


# --- drums

Kit = dict[str, Samples]


def drum_kit(rng: np.random.Generator, pitch: float = 1.0, length: float = 1.0, snap: float = 1.0) -> Kit:
    """Hits by name, of peak about 1: each artist's kit has its own pitch, length and snap."""

    def time(seconds: float) -> Samples:
        return np.arange(int(seconds * RATE_HZ), dtype=np.float32) / np.float32(RATE_HZ)

    def noise(seconds: float, low_hz: float, high_hz: float, decay_s: float,
              attack_s: float = 0.001) -> Samples:
        t = time(seconds)
        wave = band_noise(rng, len(t), low_hz, high_hz)
        return (wave * np.minimum(t / attack_s, 1) * np.exp(-t / (decay_s * length))).astype(np.float32)

    def drop(seconds: float, from_hz: float, to_hz: float, fall_s: float, decay_s: float) -> Samples:
        t = time(seconds)
        phase = to_hz * t + (from_hz - to_hz) * fall_s * (1 - np.exp(-t / fall_s))
        return (np.sin(2 * np.pi * pitch * phase) * np.exp(-t / (decay_s * length))).astype(np.float32)

    def both(a: Samples, b: Samples, share: float) -> Samples:
        out = np.zeros(max(len(a), len(b)), dtype=np.float32)
        out[:len(a)] += a
        out[:len(b)] += share * b
        return out

    clap = np.zeros(int(0.3 * RATE_HZ), dtype=np.float32)
    for start_s in (0.0, 0.011, 0.023):
        burst = noise(0.2, 900, 3200, 0.045)
        at = int(start_s * RATE_HZ)
        clap[at:at + len(burst)] += 0.6 * burst
    recipes: dict[str, Callable[[], Samples]] = {
        "kick": lambda: both(drop(0.5, 170, 48, 0.03, 0.13), noise(0.02, 1000, 6000, 0.004), 0.25 * snap),
        "boom": lambda: drop(0.9, 120, 42, 0.05, 0.32),
        "snare": lambda: both(0.6 * drop(0.25, 240, 180, 0.02, 0.06), noise(0.35, 1500, 9500, 0.09),
                              0.7 * snap),
        "clap": lambda: clap,
        "rim": lambda: both(drop(0.08, 1700, 1650, 0.01, 0.012), noise(0.05, 2000, 8000, 0.008), 0.5 * snap),
        "hat": lambda: 0.5 * noise(0.12, 6500, 10800, 0.022),
        "open": lambda: 0.45 * noise(0.45, 6000, 10800, 0.14),
        "ride": lambda: 0.4 * both(noise(0.6, 4500, 10500, 0.2), drop(0.5, 3150, 3140, 0.1, 0.18), 0.25),
        "shaker": lambda: 0.4 * noise(0.14, 4500, 9500, 0.035, attack_s=0.022),
        "brush": lambda: 0.35 * noise(0.3, 1800, 7000, 0.09, attack_s=0.05),
        "tom": lambda: drop(0.5, 180, 95, 0.05, 0.16),
        "crash": lambda: 0.5 * noise(1.6, 3000, 10800, 0.5),
        "conga": lambda: 0.8 * drop(0.3, 340, 310, 0.02, 0.09),
        "tumba": lambda: 0.8 * drop(0.35, 225, 200, 0.02, 0.13),
        "surdo": lambda: drop(0.7, 85, 62, 0.05, 0.24),
    }
    return {name: recipe() for name, recipe in recipes.items()}


def band_noise(rng: np.random.Generator, n: int, low_hz: float, high_hz: float) -> Samples:
    """(n,) noise between two frequencies, of unit RMS."""
    size = _fast_size(n)
    spectrum = rfft(rng.standard_normal(size, dtype=np.float32))
    hz = np.arange(len(spectrum)) * (RATE_HZ / size)
    wave = irfft(spectrum * (1 / (1 + (hz / high_hz) ** 8) * (1 - 1 / (1 + (hz / low_hz) ** 8))), size)[:n]
    return (wave / max(float(np.sqrt(np.mean(wave**2))), 1e-9) * 0.5).astype(np.float32)


def _fast_size(n: int) -> int:
    """The next length from n on that a Fourier transform is quick at."""
    return cast(int, next_fast_len(n, real=True))


# --- production

@dataclass(frozen=True)
class Production:
    """How one song was recorded and mastered: differs from song to song, whatever the artist or style."""

    tilt_db: float                      # per octave, around 800 Hz
    bands: tuple[tuple[float, float], ...]   # (centre in Hz, dB), each about an octave wide
    low_cut_hz: float
    high_cut_hz: float
    reverb_db: float
    reverb_s: float
    level_db: float                     # RMS of the song's body, relative to full scale
    noise_db: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Production:
        bands = tuple((float(2 ** rng.uniform(np.log2(lo), np.log2(hi))), float(rng.uniform(-6, 6)))
                      for lo, hi in ((90, 350), (350, 1500), (1500, 6000)))
        return Production(tilt_db=float(rng.uniform(-2.2, 2.2)), bands=bands,
                          low_cut_hz=float(rng.uniform(20, 110)), high_cut_hz=float(rng.uniform(4500, 10800)),
                          reverb_db=float(rng.uniform(-24, -6)), reverb_s=float(rng.uniform(0.3, 2.2)),
                          level_db=float(rng.uniform(-24, -13)), noise_db=float(rng.uniform(-78, -50)))


def produce(mix: Samples, production: Production, body: slice, rng: np.random.Generator) -> Samples:
    """The mix with reverb and equaliser (one product in the frequency domain), at its level, unclipped."""
    p = production
    tail = int(p.reverb_s * RATE_HZ)
    size = _fast_size(len(mix) + tail)
    hz = np.arange(size // 2 + 1, dtype=np.float32) * np.float32(RATE_HZ / size)
    hz[0] = hz[1]
    octaves = np.log2(hz / 800)
    gain_db = p.tilt_db * np.clip(octaves, -4, 4)
    for centre_hz, db in p.bands:
        gain_db += db * np.exp(-0.5 * ((octaves - np.log2(centre_hz / 800)) / 0.6) ** 2)
    response = 10 ** (gain_db / 20) / (1 + (hz / p.high_cut_hz) ** 6) / (1 + (p.low_cut_hz / hz) ** 4)
    t = np.arange(tail, dtype=np.float32) / tail
    impulse = rng.standard_normal(tail, dtype=np.float32) * np.exp(-6 * t)
    impulse *= np.minimum(t * p.reverb_s / 0.02, 1)
    impulse *= 10 ** (p.reverb_db / 20) / max(float(np.sqrt(np.sum(impulse**2))), 1e-9)
    out = irfft(rfft(mix, size) * response * (1 + rfft(impulse, size)), size)[:len(mix)]
    out *= 10 ** (p.level_db / 20) / max(float(np.sqrt(np.mean(out[body]**2))), 1e-9)
    out += 10 ** (p.noise_db / 20) * rng.standard_normal(len(out), dtype=np.float32)
    return np.tanh(out).astype(np.float32)
