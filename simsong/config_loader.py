"""Reading the configuration: `simsong.toml`, the environment (`SIMSONG_SECTION__KEY`), flags; the later the
stronger. Secrets are not part of it: they come from the environment (see `secret`)."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from rapidfuzz import process

from simsong.config import Config, ExtractorArgs, absolute
from simsong.errors import ConfigError

DEFAULT_FILE = "simsong.toml"
ENV_PREFIX = "SIMSONG_"
# Secrets, and so no settings:
TOKEN = ENV_PREFIX + "TOKEN"                # what requests to `simsong serve` must bring
WEBHOOK_URL = ENV_PREFIX + "WEBHOOK_URL"    # who is told of failures, once `simsong deploy` knows it
_LISTS = (("training", "losses"), ("evaluation", "ks"), ("serve", "hosts"), ("serve", "cors"),
          *(("catalogue", name) for name in ("genres", "years", "tags", "artists")),
          *(("sources", name) for name in ("msd", "lastfm", "genres", "musixmatch", "table", "folder",
                                              "subsonic")))


def load(file: str | Path | None = None, flags: Mapping[str, Any] | None = None,
         environ: Mapping[str, str] | None = None) -> Config:
    """The configuration from a file, the environment and flags.

    Args:
        file: a TOML file; None reads the one that SIMSONG_CONFIG names, else `simsong.toml` if it is there.
        flags: nested, as in the file; None values do not count.
    Raises: ConfigError, one line that names the place and the nearest right key.
    """
    environ = os.environ if environ is None else environ
    named = str(file) if file is not None else environ.get(ENV_PREFIX + "CONFIG") or None
    path = Path(DEFAULT_FILE if named is None else os.path.expanduser(named))       # noqa: PTH111
    layers: list[tuple[str, dict[str, Any]]] = []
    try:
        layers.append((str(path), tomllib.loads(path.read_text("utf-8-sig"))))  # editors may write a BOM
        _paths_beside(path.parent, layers[0][1])
    except FileNotFoundError:
        if named is not None:
            origin = "" if file is not None else f" (named by {ENV_PREFIX}CONFIG)"
            raise ConfigError(f"{path}: there is no such file{origin}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not readable as TOML ({error})") from None
    layers += [("environment", _from_environ(environ)), ("option", _without_none(flags or {}))]

    merged: dict[str, Any] = {}
    for origin, layer in layers:
        _check_keys(layer, Config, origin, ())
        _merge(merged, layer)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "constrained-float")
        origin, _ = max(reversed(layers), key=lambda layer: _depth(layer[1], first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        raise ConfigError(f"{origin}: {where} = {first['input']!r}: {message}") from None


def secret(name: str, environ: Mapping[str, str] | None = None) -> str | None:
    """A secret from the environment (e.g. GENIUS_ACCESS_TOKEN); None where it is not set or empty."""
    return (os.environ if environ is None else environ).get(name) or None


def _check_keys(layer: Mapping[str, Any], model: type[BaseModel], origin: str, at: tuple[str, ...]) -> None:
    for key, value in layer.items():
        if key not in model.model_fields:
            nearest = process.extractOne(key, list(model.model_fields), score_cutoff=50)
            hint = f"; did you mean {'.'.join((*at, nearest[0]))}?" if nearest else \
                f"; known are {', '.join(model.model_fields)}"
            raise ConfigError(f"{origin}: unknown key {'.'.join((*at, key))}{hint}")
        inner = model.model_fields[key].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{origin}: {'.'.join((*at, key))} is a section, not a value")
            _check_keys(value, inner, origin, (*at, key))     # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, Mapping) and inner != ExtractorArgs:
            raise ConfigError(f"{origin}: {'.'.join((*at, key))} is a value, not a section")


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    """SIMSONG_TRIM__MODE=none → {"trim": {"mode": "none"}}; lists are comma-separated."""
    out: dict[str, Any] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX) or name in (ENV_PREFIX + "CONFIG", TOKEN, WEBHOOK_URL):
            continue
        keys = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
        words = [word.strip() for word in text.split(",")] if text.strip() else []
        value: Any = words if keys in _LISTS else text
        at = out
        for key in keys[:-1]:
            inner: Any = at.setdefault(key, {})
            if isinstance(inner, dict):
                at = cast(dict[str, Any], inner)
            else:                               # of a variable before, as they are sorted
                raise ConfigError(f"environment: {name} is part of what another variable gives a value")
        at[keys[-1]] = value
    _check_keys(out, Config, "environment", ())
    return out


def _paths_beside(folder: Path, layer: dict[str, Any]) -> None:
    """Relative paths of a file are relative to the file."""
    sources = layer.get("sources")
    if isinstance(sources, dict):
        for key, value in sources.items():                    # pyright: ignore[reportUnknownVariableType]
            paths = cast(Any, [value] if isinstance(value, str) else value)
            if isinstance(paths, list):
                sources[key] = [absolute(path, folder) if isinstance(path, str) else path
                                for path in cast(list[Any], paths)]
    if isinstance(layer.get("store"), str):
        layer["store"] = absolute(layer["store"], folder)


def _without_none(flags: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in flags.items():
        if isinstance(value, Mapping):
            if inner := _without_none(value):                 # pyright: ignore[reportUnknownArgumentType]
                out[key] = inner
        elif value is not None:
            out[key] = value
    return out


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key, {}), dict):
            _merge(into.setdefault(key, {}), value)           # pyright: ignore[reportUnknownArgumentType]
        else:
            into[key] = value


def _depth(layer: Any, at: tuple[int | str, ...]) -> int:
    """How much of the way to a place a layer has."""
    for depth, part in enumerate(at):
        if not isinstance(layer, Mapping) or part not in layer:
            return depth
        layer = layer[part]                                   # pyright: ignore[reportUnknownVariableType]
    return len(at)
