"""Stage map: the published embeddings and the songs nearest to each → each song's place on a map, the regions
of that map and their names. Also as `exports/<model>/map.parquet`, which embedding-atlas opens."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simsong.errors import PartDamaged
from simsong.map.clusters import NONE, named, regions, renumbered
from simsong.map.layout import NEIGHBOURS, Nearest, place, strain
from simsong.parts.compute import Done, compute_once
from simsong.parts.stages import RunContext
from simsong.search.topk import has_direction, unit_rows
from storage.exports import EXPORTS, Published, is_of_published, published_content, read_published
from storage.identity import digest
from storage.store import Store
from storage.vectors import positions
from tasks.base import stage_task

VERSION = 1
_LABELS = ("genres", "tags")            # tables of labels on tracks
_TERMS = "artist_terms"
_SHOWN = ["track_id", "artist", "title"]


@stage_task("map")
def song_map(run: RunContext, after: list[Done]) -> Done:
    """Lay the published songs on a map; those that were on it stay. `after`: neighbours."""
    identity = _identity(run.store)
    return compute_once("map", run.store, identity, lambda: _write(run.store, str(identity)))


def _write(store: Store, identity: str) -> tuple[int, list[str]]:
    published = read_published(store)
    rows, facts = map_rows(store, published)
    written = store.write("map", [rows.select(["track_id", "x", "y", "cluster", "label"])], identity,
                          facts={"of": published_content(store), "model": published.model, **facts})
    path, key = store.scratch(), f"{EXPORTS}/{published.model}/map.parquet"
    pq.write_table(rows, path, compression="zstd", write_page_checksum=True)
    store.put(key, path)
    return rows.num_rows, [*written, key]


def _identity(store: Store) -> str | None:
    """None where nothing is published, or the songs nearest to each are of something else."""
    if not is_of_published(store, "neighbours"):
        return None
    label_digests = [[footer.columns for footer in store.footers(table)] for table in (*_LABELS, _TERMS)]
    names = [[footer.columns[name] for name in (*_SHOWN, "artist_id")] for footer in store.footers("tracks")]
    return digest("map", VERSION, published_content(store), label_digests, names)


def map_rows(store: Store, published: Published) -> tuple[pa.Table, dict[str, Any]]:
    """The songs that have a direction, as the table has them, with artist and title; and facts to make the
    next map by."""
    shown = np.flatnonzero(has_direction(unit_rows(published.embeddings)))
    tracks = published.tracks.select(_SHOWN).take(pa.array(shown))
    ids = tracks["track_id"].combine_chunks()
    nearest = _nearest(store, ids)
    old, facts = _before(store)
    at = positions(ids, old["track_id"])
    before = np.full((len(ids), 2), np.nan)
    numbers = np.full(len(ids), NONE)
    if old.num_rows:
        there = at >= 0
        before[there] = np.stack([old[name].to_numpy() for name in ("x", "y")], axis=1)[at[there]]
        numbers[there] = pc.fill_null(old["cluster"], NONE).to_numpy()[at[there]]
    laid = place(published.embeddings[shown], nearest, before, facts.get("strain"))
    clusters = renumbered(regions(laid), numbers)
    names = _names(store, tracks, clusters)
    columns = {"track_id": ids, "x": pa.array(laid[:, 0]), "y": pa.array(laid[:, 1]),
               "cluster": pa.array(clusters, mask=clusters == NONE),
               "label": pa.array([names.get(number) for number in clusters.tolist()], pa.string()),
               "artist": tracks["artist"], "title": tracks["title"]}
    return pa.table(columns), {"strain": strain(laid, nearest)}


def _before(store: Store) -> tuple[pa.Table, dict[str, Any]]:
    """The map that there is, and its facts; without rows where it is lost."""
    try:
        footers = store.footers("map")
        return store.read("map"), footers[0].facts if footers else {}
    except PartDamaged:
        return pa.table({"track_id": pa.array([], pa.string())}), {}


def _nearest(store: Store, ids: pa.Array) -> Nearest:
    rows = np.full((len(ids), NEIGHBOURS), -1)
    cosines = np.full((len(ids), NEIGHBOURS), -np.inf)
    for near in store.scan("neighbours", ["track_id", "rank", "similar_id", "score"]):
        near = near.filter(pc.field("rank") <= NEIGHBOURS)
        own, other = positions(near["track_id"], ids), positions(near["similar_id"], ids)
        rank, there = near["rank"].to_numpy() - 1, (own >= 0) & (other >= 0)
        rows[own[there], rank[there]] = other[there]
        cosines[own[there], rank[there]] = near["score"].to_numpy()[there]
    return Nearest(rows, cosines)


def _names(store: Store, tracks: pa.Table, clusters: np.ndarray) -> dict[int, str]:
    """Of each region, by genres, tags and artists' terms, whatever their case; else by artists."""
    ids = tracks["track_id"].combine_chunks()
    label_parts = [pa.table({"song": pa.array([], pa.int64()), "label": pa.array([], pa.string())})]
    for table in _LABELS:
        for rows in store.scan(table, ["track_id", "name"]):
            label_parts.append(_labels(positions(rows["track_id"], ids), rows["name"]))
    artists = store.read("tracks", columns=["track_id", "artist_id"])
    own = artists["artist_id"].take(pa.array(positions(ids, artists["track_id"])))
    for rows in store.scan(_TERMS, ["artist_id", "name"]):
        of_artist = pa.table({"artist_id": rows["artist_id"], "label": rows["name"]})
        songs = pa.table({"artist_id": own, "song": pa.array(np.arange(len(ids)))})
        of_artists = songs.join(of_artist, "artist_id", join_type="inner")
        label_parts.append(_labels(of_artists["song"].to_numpy(), of_artists["label"]))
    labels = pa.concat_tables(label_parts).group_by(["song", "label"]).aggregate([])
    labels = labels.append_column("cluster", pa.array(clusters[labels["song"].to_numpy()]))
    counts = labels.group_by(["cluster", "label"]).aggregate([([], "count_all")]).to_pydict()
    regions_labels = zip(counts["cluster"], counts["label"], strict=True)
    labelled = dict(zip(regions_labels, counts["count_all"], strict=True))
    sizes = Counter(number for number in clusters.tolist() if number != NONE)
    of_region: dict[int, Counter[str]] = {number: Counter() for number in sizes}
    for number, artist in zip(clusters.tolist(), tracks["artist"].to_pylist(), strict=True):
        if number != NONE and artist:
            of_region[number][artist] += 1
    stand_ins = {number: [name for name, _ in sorted(artists.items(), key=lambda one: (-one[1], one[0]))[:8]]
                 for number, artists in of_region.items()}
    return named(sizes, len(ids), labelled, stand_ins)


def _labels(songs: np.ndarray, names: pa.ChunkedArray) -> pa.Table:
    rows = pa.table({"song": pa.array(songs), "label": pc.call_function("utf8_lower", [names])})
    return rows.filter((pc.field("song") >= 0) & pc.field("label").is_valid())
