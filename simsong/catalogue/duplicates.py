"""The same recording under several ids: the catalogue's marks by names, but for tracks that sound otherwise,
joined with what sounds the same.

Comparing sounds is what takes time, so what it found is kept (the table `comparisons`, written by the stage
`compare`): a song is compared when it is new, or its sound another one, with those that may be the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.audio.soundprint import BANDS
from simsong.errors import PartDamaged
from simsong.parts.stages import MFCC, outcome_partition
from simsong.progress import track
from simsong.search.duplicates import (
    first_of_group,
    near_pairs,
    on_timeline,
    other_recording,
    same_recording,
)
from storage.catalogue import Catalogue
from storage.identity import digest
from storage.store import Store
from storage.tables import TABLES
from storage.vectors import matrix, positions

VERSION = 2
COMPARED = "comparisons"
_SHARDS, _BY = "shards", "by"                       # facts of that table
_HEARD = ("start_s", "embedding")                   # columns of soundprints


def duplicates_inputs(store: Store) -> list[Any]:
    """Digests of all that `duplicates` depends on, from footers."""
    catalogue = Catalogue(store)
    return [VERSION,
            [store.rows_digest("tracks", shard, ("duplicate_of", "shard")) for shard in catalogue.shards],
            catalogue.rows_digests("audio", ("duration_s",)),
            catalogue.rows_digests("track_embeddings", ("embedding",), MFCC),
            catalogue.rows_digests("soundprints", _HEARD)]


def duplicates(store: Store) -> pa.Table:
    """track_id, duplicate_of, duplicate_by of the marked tracks.

    Whatever names or sound join is one recording: its track catalogued first (lowest shard, then id) bears no
    mark, all others bear its id. Names do not join a track that sounds otherwise than the first of its names
    that is heard; a track that is not heard goes by its names. `duplicate_by` is "names" where these have
    marked the track, else "sound".
    """
    ids, named = _named(store)
    rows, _ = comparisons(store)
    first, second = (positions(rows[name], ids) for name in ("track_id", "other_id"))
    same = rows["same"].to_pylist()
    otherwise = {(a, b) for a, b, is_one in zip(first.tolist(), second.tolist(), same, strict=True)
                 if is_one is False}
    track_ids = rows["track_id"]
    named[[song for leader, song in _pairs_by_names(ids, named, track_ids).tolist()
           if (leader, song) in otherwise]] = -1
    by_names = np.stack([np.arange(len(ids)), named], axis=1)[named >= 0]
    one = [at for at, is_one in enumerate(same) if is_one]
    by_sound = np.stack([first[one], second[one]], axis=1)
    group = first_of_group(len(ids), np.concatenate([by_names, by_sound]))
    marked = np.flatnonzero(group != np.arange(len(ids)))
    return pa.table({"track_id": ids.take(pa.array(marked)),
                     "duplicate_of": ids.take(pa.array(group[marked])),
                     "duplicate_by": pa.array(np.where(named[marked] >= 0, "names", "sound").tolist(),
                                              pa.string())})


def comparisons(store: Store) -> tuple[pa.Table, dict[str, Any]]:
    """What is found by sound, as the table `comparisons` has it: what is there of it, and what is new; and
    the facts that go with it. Raises: PartDamaged."""
    ids, named = _named(store)
    old, facts = _before(store)
    shards = {str(shard): digest(store.rows_digest("soundprints", shard, _HEARD),
                                 store.rows_digest("tracks", shard, ("shard",)))
              for shard in Catalogue(store).parts("soundprints")}
    inputs_before = _inputs(old)
    inputs = _inputs_now(store, inputs_before, facts.get(_SHARDS, {}), shards)
    fresh = {track_id for track_id, made_of in inputs.items() if inputs_before.get(track_id) != made_of}
    there = pa.array(inputs.keys() - fresh, pa.string())
    pairs = old.filter(pc.field("track_id") != pc.field("other_id")).filter(
        pc.field("track_id").isin(there) & pc.field("other_id").isin(there))
    rows: list[tuple[str, str, str | None, bool | None]] = [
        (track_id, track_id, made_of, None) for track_id, made_of in inputs.items()]
    rows += zip(*pairs.to_pydict().values(), strict=True)
    rows += _compared(store, ids, named, inputs, fresh, {(a, b) for a, b, _, _ in rows})
    table = pa.table(list(zip(*rows, strict=True)) or [[]] * 4, schema=TABLES[COMPARED].schema)
    return table.sort_by([("track_id", "ascending"), ("other_id", "ascending")]), {
        _BY: [VERSION, MFCC], _SHARDS: shards}


def _named(store: Store) -> tuple[pa.Array, np.ndarray]:
    """Ids in the order in which they were catalogued, and (n,) the position of the first track of the same
    names, -1 where a track is that itself."""
    tracks = store.read("tracks", columns=["track_id", "shard", "duplicate_of"]).sort_by(
        [("shard", "ascending"), ("track_id", "ascending")])
    ids = tracks["track_id"].combine_chunks()
    return ids, positions(tracks["duplicate_of"], ids)


def _before(store: Store) -> tuple[pa.Table, dict[str, Any]]:
    """What was found so far, and by what; nothing where that is lost, or was found otherwise."""
    none = TABLES[COMPARED].schema.empty_table()
    try:
        footers = store.footers(COMPARED)
        facts = footers[0].facts if footers else {}
        return (store.read(COMPARED), facts) if facts.get(_BY) == [VERSION, MFCC] else (none, {})
    except PartDamaged:
        return none, {}


def _inputs(rows: pa.Table) -> dict[str, str]:
    """Of the rows that tell of one song, what its sound was made from."""
    own = rows.filter(pc.field("track_id") == pc.field("other_id"))
    return dict(zip(own["track_id"].to_pylist(), own["input"].to_pylist(), strict=True))


def _inputs_now(store: Store, inputs_before: Mapping[str, str], before: Mapping[str, str],
           now: Mapping[str, str]) -> dict[str, str]:
    """The songs of the catalogue that have soundprints, and what each was made from. Parts that are as they
    were are not opened."""
    catalogue, out = Catalogue(store), dict[str, str]()
    for shard, content in now.items():
        there = catalogue.ids(int(shard)).to_pylist()
        if before.get(shard) == content:
            out |= {i: inputs_before[i] for i in there if i in inputs_before}
            continue
        printed = set(store.read("soundprints", int(shard), columns=["track_id"])["track_id"].to_pylist())
        outcomes = store.read("outcomes", int(shard), partition=outcome_partition("soundprints"),
                              columns=["track_id", "input"])
        made_of = dict(zip(outcomes["track_id"].to_pylist(), outcomes["input"].to_pylist(), strict=True))
        out |= {i: made_of.get(i) or content for i in there if i in printed}
    return out


def _pairs_by_names(ids: pa.Array, named: np.ndarray, with_prints: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(p, 2) positions in `ids`: of tracks that share their names, the first one that is heard and each other
    one that is. What these have in common among them, their sound tells."""
    group = np.where(named >= 0, named, np.arange(len(ids)))
    printed = positions(ids, pc.call_function("unique", [with_prints])) >= 0
    rows = np.flatnonzero(np.isin(group, named[named >= 0]) & printed)
    leader = np.full(len(ids), len(ids))
    np.minimum.at(leader, group[rows], rows)
    pairs = np.stack([leader[group[rows]], rows], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def _compared(store: Store, ids: pa.Array, named: np.ndarray, inputs: Mapping[str, str], fresh: set[str],
              pairs_before: set[tuple[str, str]]) -> Iterator[tuple[str, str, None, bool | None]]:
    """Rows of the pairs to compare: those by names that are not known, and songs that are fresh with those
    that may be the same. False of the former where they are surely two, True of the latter where they are
    one."""
    by_names = [(a, b) for a, b in _pairs_by_names(ids, named, pa.array(inputs, pa.string())).tolist()
                if (ids[a].as_py(), ids[b].as_py()) not in pairs_before]
    by_sound = _may_be_same(store, ids, fresh).tolist() if fresh else []
    pairs = [*by_names, *by_sound]
    with _Prints(store, ids, np.unique(np.array(pairs, np.int64).reshape(-1, 2))) as prints:
        for at, (a, b) in enumerate(track(pairs, "comparing what sounds alike", len(pairs), unit="pairs")):
            one, other = prints.of(a), prints.of(b)
            if one is None or other is None:
                continue
            own = ids[a].as_py(), ids[b].as_py(), None
            if at < len(by_names):
                same = True if same_recording(one, other) else False if other_recording(one, other) else None
                pairs_before.add(own[:2])
                yield *own, same
            elif own[:2] not in pairs_before and same_recording(one, other):
                yield *own, True


def _may_be_same(store: Store, ids: pa.Array, fresh: set[str]) -> np.ndarray:
    """(p, 2) positions in `ids` of tracks that may be one recording, and of which one is fresh."""
    catalogue, durations_s = Catalogue(store), np.full(len(ids), np.nan)
    asking = np.array([track_id in fresh for track_id in ids.to_pylist()], dtype=bool)
    with tempfile.TemporaryFile() as file:          # 1 GB of a million songs
        statistics: np.ndarray | None = None
        for shard in catalogue.parts("track_embeddings", MFCC):
            rows = catalogue.read("track_embeddings", shard, partition=MFCC)
            if not rows.num_rows:
                continue
            vectors, at = matrix(rows), positions(rows["track_id"], ids)
            if statistics is None:
                statistics = np.memmap(file, np.float32, "w+", shape=(len(ids), vectors.shape[1]))
            audio = catalogue.read("audio", shard, columns=["track_id", "duration_s"])
            audio_rows = positions(rows["track_id"], audio["track_id"])
            statistics[at] = vectors
            durations_s[at[audio_rows >= 0]] = audio["duration_s"].to_numpy()[audio_rows[audio_rows >= 0]]
        if statistics is None:
            return np.zeros((0, 2), dtype=np.int64)
        return near_pairs(statistics, durations_s, asking)


class _Prints:
    """Soundprints of some tracks along their time, in a file: of a million songs they would take 60 GB."""

    def __init__(self, store: Store, ids: pa.Array, wanted: np.ndarray) -> None:
        """wanted: positions in `ids`."""
        self._file = tempfile.TemporaryFile()       # noqa: SIM115
        self._spans: dict[int, tuple[int, int]] = {}
        catalogue, own_ids = Catalogue(store), ids.take(pa.array(wanted))
        for shard in catalogue.parts("soundprints") if len(wanted) else ():
            if (positions(catalogue.ids(shard), own_ids) < 0).all():
                continue
            rows = store.read("soundprints", shard)
            at = positions(rows["track_id"], own_ids)
            there = np.flatnonzero(at >= 0)
            starts_s, windows = rows["start_s"].to_numpy(), matrix(rows)
            for own in np.split(there, np.flatnonzero(np.diff(at[there])) + 1) if len(there) else ():
                moments = on_timeline(windows[own], starts_s[own]).astype(np.float16)
                self._spans[int(wanted[at[own[0]]])] = self._file.tell(), len(moments)
                self._file.write(moments.tobytes())

    def of(self, song: int) -> np.ndarray | None:
        """(moments, BANDS) float32 as `on_timeline` gives; None where there is none."""
        if (span := self._spans.get(song)) is None:
            return None
        start, moments = span
        self._file.seek(start)
        values = np.frombuffer(self._file.read(2 * moments * BANDS), np.float16)
        return values.reshape(moments, BANDS).astype(np.float32)

    def __enter__(self) -> _Prints:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
