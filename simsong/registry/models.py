"""Models in the store: `models/<name>/<version>/`, which one training last made, and which one is in use.

`latest.json` decides whether to train again; `promoted.json` names the version that embeds, is exported and
measured. Training promotes what it makes, unless a person has promoted a version by name: that one stays.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from simsong.config import Config, Loss
from simsong.errors import ModelError
from simsong.model import adapted
from simsong.model.adapted import Adapted
from simsong.parts.stages import (
    MFCC,
    RunContext,
    features_label,
    has_heads,
)
from simsong.registry.trained_on import folder
from storage.exports import labels_in_use
from storage.store import Store

if TYPE_CHECKING:
    from simsong.model.encoder import Encoder

UNTRAINED, CONTROL = "untrained", "wns_shuffled"
LEARNED: tuple[Loss, ...] = ("ns", "wns", CONTROL)
# Pretrained features, fitted to all songs but those of held-out artists and of those that validate; and to
# all, or where a fold is held out (training.fold), to all but that.
ADAPTED, FINAL = "adapted", "final"
FITTED = (ADAPTED, FINAL)
# Heads that are published: trained as the measured ones, for as many steps as these kept, on all songs, or
# where a fold is held out, on all but that.
FINAL_HEADS: dict[str, Loss] = {"ns_final": "ns", "wns_final": "wns"}
NAMES = (UNTRAINED, *LEARNED, *FITTED, *FINAL_HEADS)
WEIGHTS, SETTINGS, CARD = "model.safetensors", "config.json", "training.json"
ABOUT = "version.json"          # when it was made, of what, and what its files are
METRICS = "metrics.json"        # what the latest evaluation with it found
LATEST = "latest"
By = Literal["training", "hand"]


def latest(store: Store, name: str) -> str | None:
    """The version that training last made, or found to serve still."""
    pointer = store.get_json(f"models/{name}/latest.json")
    return pointer["version"] if pointer else None


def promoted_version(store: Store, name: str) -> str | None:
    pointer = store.get_json(f"models/{name}/promoted.json")
    return pointer["version"] if pointer else None


def promoted(store: Store, name: str) -> str | None:
    """The label of the promoted version, e.g. `wns-0123456789ab`."""
    version = promoted_version(store, name)
    return f"{name}-{version}" if version else None


def promoted_labels(run: RunContext) -> list[str]:
    """Of the models that embed every song."""
    return [label for name in model_names(run.config) if (label := promoted(run.store, name))]


def embedding_labels(run: RunContext) -> list[str]:
    """Of all that every song is embedded with."""
    network, own = features_label(run.config), promoted_labels(run)
    # What is published, until something else is.
    used = [label for label in labels_in_use(run.store) if label not in own
            and label.partition("-")[0] in NAMES and is_made(run.store, *label.split("-", 1))]
    return [MFCC, *([network] if network else []), *own, *used]


def model_names(config: Config) -> tuple[str, ...]:
    """Of the models that are made, in that order. What a head starts from is what is adapted."""
    return (*(() if has_heads(config) else (UNTRAINED,)), *config.training.losses, *fitted_names(config))


def fitted_names(config: Config) -> tuple[str, ...]:
    """Of the models on pretrained features; none where there are no such features."""
    if features_label(config) is None:
        return ()
    return FITTED if config.training.final == "all" else (ADAPTED,)


def final_head(store: Store, config: Config, name: str) -> str | None:
    """The label of the head that is published for a measured one; None where there is none of the version
    that is in use."""
    for final, measured_name in FINAL_HEADS.items():
        version = promoted_version(store, final)
        if measured_name == name and version and config.training.final == "all" and has_heads(config):
            facts = about(store, final, version)["facts"] or {}
            return f"{final}-{version}" if facts.get("of") == promoted(store, name) else None
    return None


def trained_labels(store: Store, config: Config) -> list[str]:
    """Of the promoted models that are measured and were trained, or fitted, on songs."""
    names = (*config.training.losses, *fitted_names(config)[:1])
    return [label for name in names if (label := promoted(store, name))]


def follow(store: Store, name: str, version: str) -> str | None:
    """After training: `version` is the latest, and promoted unless another one was by hand.

    Returns: the version that a person has promoted and that therefore stays, if there is one.
    """
    if latest(store, name) != version:
        store.put_json(_pointer(name, LATEST), {"version": version, "at": now()})
    pointer = store.get_json(_pointer(name, "promoted")) or {}
    if pointer.get("pinned") and pointer["version"] != version:
        return pointer["version"]
    if pointer.get("version") != version:
        _point(store, name, version, by="training", pinned=False)
    return None


def follows(store: Store, name: str, version: str) -> bool:
    """Whether there is nothing to be done by `follow`."""
    pointer = store.get_json(_pointer(name, "promoted")) or {}
    used = pointer.get("version") == version or bool(pointer.get("pinned"))
    return used and latest(store, name) == version


def promote(store: Store, name: str, wanted: str) -> str:
    """Put a version to use by hand; it stays when training makes another one. `latest` is the one that
    training last made, and gives the choice back to training.

    Args: wanted: the beginning of a version that no other one shares, or `latest`.
    Returns: the version. Raises: ModelError where there is none of that name, or it is not whole.
    """
    version = _find(store, name, wanted)
    pinned = wanted != LATEST
    pointer = store.get_json(_pointer(name, "promoted")) or {}
    if (pointer.get("version"), pointer.get("pinned")) != (version, pinned):
        _point(store, name, version, by="hand", pinned=pinned)
    return version


def rollback(store: Store, name: str) -> str:
    """Put the version to use that was promoted before the present one; it stays when training makes another.

    Again, it goes back further. Returns: the version. Raises: ModelError where there is none before it.
    """
    _check_name(store, name)
    there = versions(store, name)
    before = [version for version in _before(store.get_json(_pointer(name, "promoted")) or {})
              if version in there]
    if not before:
        raise ModelError(f"{name}: no version was promoted before this one; `simsong models` lists them")
    version = _find(store, name, before[-1])
    _point(store, name, version, by="hand", pinned=True, back=True)
    return version


def _point(store: Store, name: str, version: str, *, by: By, pinned: bool, back: bool = False) -> None:
    pointer = store.get_json(_pointer(name, "promoted")) or {"history": []}
    entry = {"version": version, "by": by, "at": now(), **({"back": True} if back else {})}
    store.put_json(_pointer(name, "promoted"), {"version": version, "by": by, "at": entry["at"],
                                                "pinned": pinned, "history": [*pointer["history"], entry]})


def _before(pointer: dict[str, Any]) -> list[str]:
    """The versions promoted before the present one, the latest last: what a rollback left does not count."""
    stack: list[str] = []
    for entry in pointer.get("history", []):
        if entry.get("back"):
            while stack and stack[-1] != entry["version"]:
                stack.pop()
        elif not stack or stack[-1] != entry["version"]:
            stack.append(entry["version"])
    return stack[:-1]


def _find(store: Store, name: str, wanted: str) -> str:
    _check_name(store, name)
    there = versions(store, name)
    candidates = [latest(store, name)] if wanted == LATEST else [v for v in there if v.startswith(wanted)]
    if len(candidates) != 1 or candidates[0] is None:
        what = "no version begins with" if not candidates else "several versions begin with"
        raise ModelError(f"{name}: {what} {wanted}; there are {', '.join(there)}")
    if not is_made(store, name, candidates[0]):
        raise ModelError(f"{name} {candidates[0]}: its files are not as they were written; promote another "
                         "one (`simsong models` lists them), or train again")
    return candidates[0]


def _check_name(store: Store, name: str) -> None:
    there = [model for model in NAMES if versions(store, model)]
    if name not in there:
        raise ModelError(f"there is no model {name} in this store; there are {', '.join(there)}" if there
                         else "no model is trained yet; `simsong train` does it")


def _pointer(name: str, which: str) -> str:
    return f"models/{name}/{which}.json"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# What there is

def versions(store: Store, name: str) -> list[str]:
    """All that were made, the newest first."""
    keys = [key.split("/") for key in store.backend.list(f"models/{name}")]
    names = {key[2] for key in keys if len(key) == 4 and key[3] == ABOUT}
    return sorted(names, key=lambda version: (about(store, name, version)["made_at"], version), reverse=True)


def versions_needed(store: Store, name: str, more: int) -> set[str]:
    """The version in use, the latest, and as many of those that were in use before."""
    before = [version for version in _before(store.get_json(_pointer(name, "promoted")) or {})
              if version in versions(store, name)]
    names = {promoted_version(store, name), latest(store, name), *(before[-more:] if more else ())}
    return {version for version in names if version}


def about(store: Store, name: str, version: str) -> dict[str, Any]:
    """What stands in a version's `version.json`; nothing in its place where it is lost."""
    facts = store.get_json(f"models/{name}/{version}/{ABOUT}")
    return facts or {"made_at": "", "facts": None, "files": {}, "songs": None}


def registry(store: Store) -> list[dict[str, Any]]:
    """A row a version: by model, the newest first."""
    rows: list[dict[str, Any]] = []
    for name in NAMES:
        pointer = store.get_json(_pointer(name, "promoted")) or {}
        newest = latest(store, name)
        for version in versions(store, name):
            version_facts, at = about(store, name, version), f"models/{name}/{version}"
            card, metrics = store.get_json(f"{at}/{CARD}") or {}, store.get_json(f"{at}/{METRICS}")
            used = version == pointer.get("version")
            rows.append({
                "name": name, "version": version, "made_at": version_facts["made_at"],
                "promoted": used, "by": pointer["by"] if used else None,
                "pinned": used and pointer["pinned"], "latest": version == newest,
                "settings": (version_facts["facts"] or {}).get("settings"), "songs": version_facts["songs"],
                "steps": card.get("training", {}).get("steps"), "warnings": card.get("warnings", []),
                "metrics": metrics, "history": pointer.get("history", []) if used else []})
    return rows


def files_of(store: Store, name: str, version: str) -> list[str]:
    """Their names, as `record` found them."""
    return sorted(about(store, name, version)["files"])


def files_of_models(store: Store) -> dict[str, tuple[int, str]]:
    """Key → size and SHA-256 of every version's files, as they were written."""
    return {f"models/{name}/{version}/{file}": (size, sha256)
            for name in NAMES for version in versions(store, name)
            for file, (size, sha256) in about(store, name, version)["files"].items()}


def is_of_features(store: Store, label: str) -> bool:
    """Whether a model takes pretrained features, as fitted ones and heads do, and no audio."""
    name, _, version = label.partition("-")
    if name not in LEARNED:
        return name in FITTED or name in FINAL_HEADS
    facts = store.get_json(f"models/{name}/{version}/{ABOUT}")       # None: it is lost, which loading it says
    return facts is not None and WEIGHTS in facts["files"] and SETTINGS not in facts["files"]


def load_encoder(store: Store, label: str) -> Encoder:
    """Raises: ModelError."""
    from simsong.model.encoder import Encoder  # needs torch, which asking a store does not

    try:
        with store.local_folder(folder(label), (WEIGHTS, SETTINGS)) as files:
            return Encoder.load(files)
    except FileNotFoundError:
        raise ModelError(f"{folder(label)}: lost; `simsong train` makes it again") from None


def load_adapted(store: Store, label: str) -> Adapted:
    """Raises: ModelError."""
    key = f"{folder(label)}/{WEIGHTS}"
    try:
        with store.backend.get(key) as file:
            return adapted.load_adapted(file.read())
    except FileNotFoundError:
        raise ModelError(f"{key}: lost; `simsong train` makes it again") from None


def is_made(store: Store, name: str, version: str) -> bool:
    """Whether a version is there, whole."""
    files = about(store, name, version)["files"]
    return bool(files) and all(store.size(f"models/{name}/{version}/{file}") == size
                               for file, (size, _) in files.items())
