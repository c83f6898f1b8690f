"""Studies: which variants of a configuration are compared, each trained with several seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from pydantic import BaseModel

from simsong.config import Config
from simsong.config_loader import load
from simsong.errors import ConfigError
from storage.identity import digest

STUDIED = ("trim", "segments", "lyric_model", "model", "head", "training")      # sections that may vary
APART = {"training.seed": "--seeds N varies it", "training.losses": "--losses names them",
         "training.split_seed": "all variants are asked the same",
         "training.fold": "--folds N goes through them"}
_NAME = re.compile(r"[A-Za-z0-9][\w.+=,-]{0,99}")


@dataclass(frozen=True)
class Variant:
    """One of the settings that are compared or, where folds are gone through, one fold of it. Variants of one
    `row` are measured together, each on the artists of its fold."""

    row: str
    label: str
    folder: str                     # as part of a path
    values: dict[str, Any]          # dotted key → value
    flags: dict[str, Any]           # the same, nested, over what the command was given

    def of_seed(self, seed: int) -> dict[str, Any]:
        return _merged(self.flags, {"training": {"seed": seed}})


@dataclass(frozen=True)
class Study:
    name: str
    over: dict[str, list[Any]]
    variants: list[Variant]
    seeds: list[int]


def plan_study(config_file: str | None, flags: Mapping[str, Any] | None, over: Mapping[str, Sequence[str]],
               seeds: int, losses: Sequence[str] | None = None, name: str | None = None,
               folds: int | None = None) -> Study:
    """What is to be trained. Raises: ConfigError, one line, for a key or a value that there is not.

    Args:
        over: dotted key → values, as they stand in the environment (`SIMSONG_…`).
        folds: of artists, each held out in turn; None holds out what the configuration says.
    """
    for key in over:
        section, _, rest = key.partition(".")
        if section not in STUDIED or not rest or key in APART:
            why = APART.get(key, f"a study varies what is learned of the songs that are there: keys of "
                                 f"{', '.join(STUDIED)}")
            raise ConfigError(f"--over {key}: {why}")
    name = name or "+".join(over) or ("folds" if folds else "seeds")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name {name}: it is part of a path, so letters, digits and . _ + = , - alone")
    # A model that still serves, although something is new, would be of another catalogue than its rivals.
    training = {"retrain_at": 0, "losses": list(losses) if losses else None}
    settings = _merged(flags or {}, {"training": training})
    variants = [_variant(config_file, settings, dict(zip(over, values, strict=True)))
                for values in product(*over.values())]
    for one, other in combinations(variants, 2):
        if one.values == other.values:
            raise ConfigError(f"--over: {one.label} and {other.label} are the same")
    if folds:
        variants = [_fold(config_file, variant, f"{number}/{folds}") for variant in variants
                    for number in range(1, folds + 1)]
    base = load(config_file, settings)
    first = base.training.seed
    return Study(name, {key: list(dict.fromkeys(v.values[key] for v in variants)) for key in over}, variants,
                 list(range(first, first + seeds)))


def _variant(config_file: str | None, flags: Mapping[str, Any], values: Mapping[str, str]) -> Variant:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        at = nested
        for section in sections:
            at = at.setdefault(section, {})
        at[last] = value
    merged = _merged(flags, nested)
    config = load(config_file, merged)
    label = ", ".join(f"{key}={value}" for key, value in values.items()) or "as configured"
    slug = re.sub(r"[^\w.=+-]+", "_", label)
    if len(slug) > 60 or slug != label:
        slug = f"{slug[:60]}-{digest(label)[:6]}" if values else "as-configured"
    return Variant(label, label, slug, {key: _value(config, key) for key in values}, merged)


def _fold(config_file: str | None, variant: Variant, fold: str) -> Variant:
    flags = _merged(variant.flags, {"training": {"fold": fold}})
    load(config_file, flags)
    folder = f"{variant.folder}-fold{fold.replace('/', 'of')}"
    return Variant(variant.row, f"{variant.label}, fold {fold}", folder, variant.values, flags)


def _value(config: Config, key: str) -> Any:
    """As JSON has it."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    if isinstance(value, BaseModel):
        raise ConfigError(f"--over {key}: it is a section, not a value")
    return list(value) if isinstance(value, tuple) else value


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(under)
    for key, value in over.items():
        inner = out.get(key)
        out[key] = _merged(inner or {}, value) if isinstance(value, Mapping) else value
    return out
