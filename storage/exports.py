"""The published embeddings, `exports/<model version>/{tracks,segments}.parquet`, and which are current."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simsong.errors import StoreError
from storage.catalogue import Catalogue
from storage.store import Store

EXPORTS = "exports"
CURRENT = f"{EXPORTS}/current.json"
KEPT_BEFORE = 10                # of those that were published before, for going back to them


@dataclass(frozen=True)
class Published:
    model: str                  # e.g. wns-0123456789ab
    parts: tuple[str, ...]      # the labels that are joined in it; one, mostly
    tracks: pa.Table            # track_id, artist, title, …, duplicate_of, duplicate_by
    embeddings: np.ndarray      # (songs, dim) float32, L2-normalised
    scales: Mapping[str, Any] = field(default_factory=dict[str, Any])   # by label, what standardises it

    @property
    def duplicate_of(self) -> list[str | None]:
        """Of each song, the id of the same recording that was catalogued first; None for that one itself."""
        if "duplicate_of" not in self.tracks.column_names:         # exported before it was looked for
            return [None] * self.tracks.num_rows
        return self.tracks["duplicate_of"].to_pylist()


def published_content(store: Store) -> str | None:
    """A digest of the published vectors, of their songs and of which of these are one recording: what is made
    of them goes by it. None where nothing is published, or by a version before it was kept."""
    return (store.get_json(CURRENT) or {}).get("content")


def is_of_published(store: Store, table: str) -> bool:
    """Whether a table that a publish makes is of what is published now. Its facts say so by `of`."""
    footers, content = store.footers(table), published_content(store)
    return bool(footers) and content is not None and footers[0].facts.get("of") == content


def labels_in_use(store: Store) -> list[str]:
    """The labels that are joined in what is published."""
    current = store.get_json(CURRENT) or {}
    return list(current.get("parts", [current["model"]] if current else []))


def published_before(store: Store, label: str) -> list[dict[str, Any]]:
    """What `current.json` says of the exports before that of `label`: the latest last, each once."""
    current = store.get_json(CURRENT)
    if current is None:
        return []
    before = [export for export in current.get("before", [])
              if export["model"] not in (current["model"], label)]
    if current["model"] != label:
        before.append({key: value for key, value in current.items() if key != "before"})
    return before[-KEPT_BEFORE:]


def read_published(store: Store, *, embeddings: bool = True) -> Published:
    """The current export, without songs that have left the catalogue since.

    Args: embeddings: False where they are read from elsewhere: then they are (songs, 0).
    Raises: StoreError where nothing was published yet, or it is damaged.
    """
    current = store.get_json(CURRENT)
    if current is None:
        raise StoreError(f"{store.backend.url}: nothing is published yet; `simsong run` does it")
    key = f"{EXPORTS}/{current['model']}/tracks.parquet"
    try:
        with store.backend.get(key) as file:
            tracks = pq.ParquetFile(file, page_checksum_verification=True)
            others = [name for name in tracks.schema_arrow.names if name != "embedding"]
            rows = tracks.read(None if embeddings else others)
    except (pa.ArrowException, OSError) as error:
        detail = str(error).splitlines()[0]
        raise StoreError(f"{key}: cannot be read ({detail}); `simsong publish` makes it again") from None
    if (now := store.footers("tracks")) and current.get("catalogue") != now[0].columns["track_id"]:
        rows = rows.filter(pc.field("track_id").isin(Catalogue(store).ids()))
    parts = tuple(current.get("parts", [current["model"]]))
    if not embeddings:
        return Published(current["model"], parts, rows, np.zeros((rows.num_rows, 0), np.float32),
                         current.get("scales", {}))
    values = rows["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = values.reshape(rows.num_rows, rows.schema.field("embedding").type.list_size).astype(np.float32,
                                                                                                copy=False)
    return Published(current["model"], parts, rows.drop_columns(["embedding"]), vectors,
                     current.get("scales", {}))
