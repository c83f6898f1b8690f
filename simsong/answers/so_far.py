"""The songs that can be asked while a run goes on: those published, and those embedded since."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from simsong.config import Config
from simsong.errors import StoreError
from storage.catalogue import Catalogue
from storage.exports import CURRENT, Published, read_published
from storage.store import Store
from storage.tables import TABLES
from storage.vectors import matrix, positions

_ABOUT = ("track_id", "artist", "title", "release", "year", "duration_s")


@dataclass(frozen=True)
class SoFar:
    """Attributes: published: with what was embedded since; of: how many songs the catalogue has."""

    published: Published
    of: int


def is_behind(store: Store) -> bool:
    """Whether the catalogue is another one than what is published was made of. Reads footers."""
    current, now = store.get_json(CURRENT), store.footers("tracks")
    return bool(now) and (current is None or current.get("catalogue") != now[0].columns["track_id"])


def published_so_far(store: Store, config: Config) -> SoFar:
    """What is published, and the catalogue's other songs that are embedded by the same models; where nothing
    is published yet, by those that would be, or by what learns nothing, if that has more.

    Raises: StoreError where no song is embedded yet; PartDamaged.
    """
    from simsong.registry.published import Scale, joined_rows, label_of, scales_of

    catalogue = Catalogue(store)
    if store.get_json(CURRENT) is not None:
        there = read_published(store)
        scales = {label: Scale.read(values) for label, values in there.scales.items()}
    else:
        labels = _most_embedded(catalogue, config)
        scales = scales_of(store, labels)
        fields = [TABLES["tracks"].schema.field(name) for name in (*_ABOUT, "duplicate_of")]
        none = pa.schema([*fields, ("duplicate_by", pa.string())]).empty_table()
        there = Published(label_of(labels) if labels else "", labels, none, np.zeros((0, 0), np.float32),
                          {label: scale.written() for label, scale in scales.items()})
    parts = [rows for shard in (catalogue.parts("track_embeddings", there.parts[0]) if there.parts else ())
             if (rows := joined_rows(store, "track_embeddings", shard, there.parts, scales)) is not None]
    vectors = pa.concat_tables([rows.select(["track_id", "embedding"]) for rows in parts]) if parts else None
    if vectors is not None:
        vectors = vectors.take(pa.array(np.flatnonzero(
            positions(vectors["track_id"], there.tracks["track_id"].cast(pa.string())) < 0)))
    if vectors is None or not vectors.num_rows:
        if not there.tracks.num_rows:
            raise StoreError(f"{store.backend.url}: nothing is published yet, and no song is embedded; "
                             "`simsong run` does it, `simsong status` tells how far it is")
        return SoFar(there, len(catalogue.ids()))
    tracks = store.read("tracks", columns=[*_ABOUT, "duplicate_of"])
    about = tracks.take(pa.array(positions(vectors["track_id"], tracks["track_id"])))
    columns = there.tracks.column_names
    if "duplicate_of" in columns and "duplicate_by" in columns:
        # Sounds are compared when all is published; until then names alone say what is one recording.
        by = [None if mark is None else "names" for mark in about["duplicate_of"].to_pylist()]
        about = about.append_column("duplicate_by", pa.array(by, pa.string()))
    about = about.select([name for name in columns if name in about.column_names])
    every = pa.concat_tables([there.tracks, about], promote_options="permissive")
    new = matrix(vectors)
    own = there.embeddings if there.tracks.num_rows else np.zeros((0, new.shape[1]), np.float32)
    return SoFar(replace(there, tracks=every, embeddings=np.concatenate([own, new]).astype(np.float32)),
                 len(catalogue.ids()))


def _most_embedded(catalogue: Catalogue, config: Config) -> tuple[str, ...]:
    """Of what would be published and of what learns nothing, the labels by which most shards are embedded."""
    from simsong.parts.stages import MFCC, features_label
    from simsong.registry.published import published

    wanted = [published(catalogue.store, config), (features_label(config) or MFCC,), (MFCC,)]
    parts = {labels: min(len(catalogue.parts("track_embeddings", label)) for label in labels)
             for labels in wanted if labels}
    return max(parts, key=parts.__getitem__)
