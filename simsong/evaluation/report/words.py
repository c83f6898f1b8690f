"""How the page says things: methods by name and colour, numbers as a person writes them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

LABELS = {"wns": "WNS", "ns": "NS", "wns_shuffled": "WNS, lyrics shuffled", "mfcc": "MFCC",
          "timbre": "MSD timbre", "untrained": "Untrained", "lyrics": "Lyrics", "words": "Words",
          "fusion": "Audio + lyrics", "musicnn": "musicnn", "pretrained": "Pretrained network",
          "adapted": "Adapted", "final": "Adapted, final", "same_artist": "Same artist", "random": "Random",
          "published": "Published"}
ABOUT = {
    "adapted": "what a pretrained network hears, fitted to this library",
    "final": "the same, fitted to those songs too that choose among methods",
    "musicnn": "a network that others trained on music, by itself, as AudioMuse-AI searches with it",
    "pretrained": "a network of the hub by itself, which others trained on music",
    "wns": "a model trained on sound, with songs of similar lyrics pushed apart less (Soft InfoNCE)",
    "ns": "the same, trained on sound alone (InfoNCE)",
    "wns_shuffled": "WNS with the lyrics dealt out among the songs at random: the control",
    "mfcc": "mean and spread of cepstral coefficients, a description of timbre that learns nothing",
    "timbre": "the timbre that the Million Song Dataset comes with; no audio is needed",
    "untrained": "what learning starts from: the encoder, or the pretrained network's features, as they are",
    "published": "what was found best on artists that validate, and would be published",
    "lyrics": "the words alone, through a language model",
    "words": "the words alone, counted (musiXmatch)",
    "fusion": "the sound's and the lyrics' similarity, averaged",
    "same_artist": "songs by the query's artist first, the rest in random order",
    "random": "any order",
}
OWN_COLOURS = 4             # for methods that a user brought


def label(method: str) -> str:
    return LABELS.get(method, method)


def css(method: str) -> str:
    """The class that colours a method, the same everywhere; a name that we do not know is no class."""
    return method if method in LABELS else f"own{zlib.crc32(method.encode()) % OWN_COLOURS}"


def number(value: float | None, digits: int | None = None) -> str:
    """As a person writes it: a true minus sign, thousands apart, no trailing zeros; "–" for None."""
    if value is None:
        return "–"
    text = f"{value:,.{digits}f}" if digits is not None else f"{value:,.10g}"
    return text.replace("-", "−")


def interval(cell: Mapping[str, Any] | None) -> str:
    """ "[0.012, 0.050]"; "" where there is none."""
    if not cell or cell.get("low") is None or cell.get("high") is None:
        return ""
    return f"[{number(cell['low'], 3)}, {number(cell['high'], 3)}]"


def sized(cell: Mapping[str, Any]) -> str:
    """ "0.031 [0.012, 0.050]" """
    return f"{number(cell['value'], 3)} {interval(cell)}".rstrip()


def percent(value: float) -> str:
    """ "12 %", and "0.6 %" where whole ones are few."""
    return f"{100 * value:.0f} %" if abs(value) >= 0.0995 or not value else f"{100 * value:.1f} %"


def count(n: int, noun: str, nouns: str | None = None) -> str:
    """ "1 song", "2,000 songs" """
    return f"{number(n)} {noun if n == 1 else nouns or noun + 's'}"


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c" """
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def duration(seconds: float) -> str:
    """ "48 s", "31 min", "5.2 h" """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def said(value: Any) -> str:
    """A value of a card as text: numbers short, lists with commas."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, (int, float)):
        return number(float(f"{value:.4g}") if isinstance(value, float) and math.isfinite(value) else value)
    return ", ".join(said(v) for v in value) if isinstance(value, (list, tuple)) else str(value)
