"""Embeddings that somebody brings, measured beside the store's methods on the same queries."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simsong.catalogue.songs import truths_of
from simsong.config import Config
from simsong.datasets.evaluation import Embeddings, held_out_of, songs_of
from simsong.errors import ConfigError, StoreError
from simsong.evaluation.brought import aligned, read_embeddings, unknown_ids
from simsong.evaluation.evaluate import evaluate
from simsong.evaluation.figures import ORDER
from simsong.evaluation.meaning import meaning
from storage.store import Store

Brought = Mapping[str, tuple[list[str], np.ndarray]]        # by name: ids (n,), embeddings (n, d)


def read_brought(files: list[Path], ids: list[Path], names: list[str]) -> Brought:
    """Files of embeddings, by name.

    Args:
        ids: for each .npy among the files, in their order, its ids; none where these lie beside.
        names: for each file; none takes the files' names.
    Raises: ConfigError where these do not fit each other; EmbeddingsError where a file cannot be taken.
    """
    arrays = [file for file in files if file.suffix.lower() == ".npy"]
    if ids and len(ids) != len(arrays):
        raise ConfigError(f"--ids is for each .npy, in their order: {len(ids)} are named for {len(arrays)}")
    if names and len(names) != len(files):
        raise ConfigError(f"--name is for each --embeddings, in their order: {len(names)} are given for "
                          f"{len(files)}")
    names = names or [file.stem for file in files]
    for name in names:
        if name in ORDER:
            raise ConfigError(f"--name {name}: a method of ours is called so; give another name")
        if names.count(name) > 1:
            raise ConfigError(f"--name: two embeddings are called {name}; give each a name of its own")
    of_array = dict(zip(arrays, ids, strict=True)) if ids else {}
    return {name: read_embeddings(file, of_array.get(file)) for name, file in zip(names, files, strict=True)}


def measure_brought(store: Store, config: Config, brought: Brought) -> dict[str, Any]:
    """As `reports/evaluation.json`, with the methods that were brought among the store's; "meaning" is told
    of these alone; "unknown" says how many of each one's ids are no song's that is measured.

    Raises: StoreError where the store has nothing to measure with; EmbeddingsError where no id is known.
    """
    songs = songs_of(store)
    if not len(songs):
        raise StoreError(f"{store.backend.url}: no song is embedded yet, so there is nothing to compare "
                         "with; `simsong run` does it")
    foreign = {name: aligned(ids, matrix, songs.track_ids) for name, (ids, matrix) in brought.items()}
    own: Any = Embeddings(store, config, songs, words=True)     # which a ChainMap only reads
    figures = evaluate(ChainMap(foreign, own), songs, truths_of(store, config, songs),
                       held_out_of(store, config, songs), config.evaluation)
    unknown = {name: len(unknown_ids(ids, songs.track_ids)) for name, (ids, _) in brought.items()}
    return {**figures, "meaning": meaning(foreign, songs, config.evaluation), "unknown": unknown}
