"""Where songs stand on the map of the library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from simsong.answers.library import Library
from simsong.search.topk import unit_rows
from storage.store import Store
from storage.tables import TABLES
from storage.vectors import positions

MAP = "map"  # the table that a publish writes: track_id, x, y, cluster, label


def layout_of(store: Store, library: Library, genres: Mapping[int, list[str]]) -> dict[str, Any]:
    """As `schemas.SongMap`: the map that was published; before there was one, the two directions in which the
    songs differ most, the genres standing for clusters."""
    ids = library.ids.to_pylist()
    rows = store.read(MAP) if MAP in TABLES else None
    if rows is not None and rows.num_rows:
        at = positions(rows["track_id"], library.ids)
        there = np.flatnonzero(at >= 0)
        places = np.stack([rows[name].to_numpy()[there] for name in ("x", "y")], axis=1).astype(np.float64)
        cluster = rows["cluster"].fill_null(-1).to_numpy()[there].astype(np.int64)
        named = zip(*(rows[name].to_pylist() for name in ("cluster", "label")), strict=True)
        labels = {number: label for number, label in named if number is not None and label}
        return _told("umap", [ids[row] for row in at[there].tolist()], places, cluster, labels)
    places = _principal(library.space.vectors)
    names = [name for name, _ in Counter(own[0] for own in genres.values()).most_common()]
    number = {name: at for at, name in enumerate(names)}
    cluster = np.array([number[genres[row][0]] if row in genres else -1 for row in range(len(ids))], np.int64)
    return _told("pca", ids, places, cluster, dict(enumerate(names)))


def _principal(embeddings: np.ndarray) -> np.ndarray:
    """(n, 2)"""
    units = np.nan_to_num(unit_rows(embeddings))
    centred = units - units.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    flat = centred @ axes[:, ::-1][:, :2]
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def _told(
    method: str, ids: list[str], places: np.ndarray, cluster: np.ndarray, labels: Mapping[int, str]
) -> dict[str, Any]:
    middle = (places.min(axis=0) + places.max(axis=0)) / 2 if len(places) else np.zeros(2)
    scaled = places - middle
    scaled = np.round(scaled / (np.abs(scaled).max() or 1.0), 4) if len(places) else scaled
    clusters = []
    for number in sorted(set(cluster.tolist()) - {-1}):
        own = scaled[cluster == number]
        x, y = np.median(own, axis=0).tolist()
        clusters.append(
            {
                "cluster": number,
                "label": labels.get(number, f"group {number + 1}"),
                "songs": len(own),
                "x": round(x, 4),
                "y": round(y, 4),
            }
        )
    return {
        "method": method,
        "track_ids": ids,
        "x": scaled[:, 0].tolist(),
        "y": scaled[:, 1].tolist(),
        "cluster": cluster.tolist(),
        "clusters": clusters,
    }
