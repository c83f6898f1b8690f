"""Where songs stand on the map of the library, as it was published (stage `map`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from simsong.answers.library import Library
from storage.store import Store
from storage.vectors import positions


def layout_of(store: Store, library: Library) -> dict[str, Any] | None:
    """As `schemas.SongMap`; None where none was published yet."""
    rows = store.read("map")
    if not rows.num_rows:
        return None
    at = positions(rows["track_id"], library.ids)
    there = np.flatnonzero(at >= 0)
    places = np.stack([rows[name].to_numpy()[there] for name in ("x", "y")], axis=1).astype(np.float64)
    cluster = rows["cluster"].fill_null(-1).to_numpy()[there].astype(np.int64)
    named = zip(*(rows[name].to_pylist() for name in ("cluster", "label")), strict=True)
    labels = {number: label for number, label in named if number is not None and label}
    middle = (places.min(axis=0) + places.max(axis=0)) / 2 if len(places) else np.zeros(2)
    scaled = places - middle
    scaled = np.round(scaled / (np.abs(scaled).max() or 1.0), 4) if len(places) else scaled
    clusters = []
    for number in sorted(set(cluster.tolist()) - {-1}):
        own = scaled[cluster == number]
        x, y = np.median(own, axis=0).tolist()
        label = labels.get(number, f"group {number + 1}")
        clusters.append({"cluster": number, "label": label, "songs": len(own), "x": round(x, 4),
                         "y": round(y, 4)})
    return {"method": "umap", "track_ids": library.ids.take(at[there]).to_pylist(),
            "x": scaled[:, 0].tolist(), "y": scaled[:, 1].tolist(), "cluster": cluster.tolist(),
            "clusters": clusters}
