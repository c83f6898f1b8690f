"""What became of the songs that a training was given: `tracks.parquet` beside each version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simsong.catalogue.recordings import Recordings
from simsong.errors import ModelError
from storage.store import Store

TRACKS = "tracks.parquet"
# Uses of a song; those that validate chose among the weights.
TRAINED, VALIDATED, HELD_OUT = "train", "validation", "held_out"
_TRACKS = pa.schema([("track_id", pa.string()), ("use", pa.string()),
                     ("shard", pa.int32()), ("input", pa.string()), ("artist_id", pa.string()),
                     ("artist", pa.string()), ("recording", pa.string())])


def write_tracks(store: Store, label: str, use: Mapping[str, str],
                 inputs: Iterable[tuple[int, Mapping[str, str], Mapping[str, str | None]]] = (),
                 recordings: Recordings | None = None) -> None:
    """What became of the songs that a training was given.

    Args:
        use: track_id → TRAINED, VALIDATED, HELD_OUT, or why it was left out.
        inputs: a shard, its songs' `training_inputs`, which tell the songs that have changed since, and their
            artist_ids, which tell whom a model has heard when the songs have left the catalogue.
        recordings: who is one artist and what one recording, where that has told the uses.
    """
    path, left = store.scratch(), set(use)
    with pq.ParquetWriter(path, _TRACKS, compression="zstd", write_page_checksum=True) as writer:
        for shard, of, artists in inputs:
            ids = sorted(of)
            left.difference_update(ids)
            writer.write_table(pa.table([ids, [use.get(i) for i in ids], [shard] * len(ids),
                                         [of[i] for i in ids], [artists.get(i) for i in ids],
                                         [recordings.artists[i] if recordings else None for i in ids],
                                         [recordings.recording(i) if recordings else None for i in ids]],
                                        schema=_TRACKS))
        rest = sorted(left)
        none = [None] * len(rest)
        writer.write_table(pa.table([rest, [use[i] for i in rest], *[none] * 5], schema=_TRACKS))
    store.put(f"{folder(label)}/{TRACKS}", path)


def tracks_of(store: Store, label: str) -> dict[str, str]:
    """As `write_tracks` was given them. Raises: ModelError where that is lost."""
    rows = _tracks(store, label).select(["track_id", "use"])
    rows = rows.filter(pc.field("use").is_valid()).to_pydict()
    return dict(zip(rows["track_id"], rows["use"], strict=True))


def _tracks(store: Store, label: str) -> pa.Table:
    try:
        with store.local(f"{folder(label)}/{TRACKS}") as path:
            return pq.read_table(path, page_checksum_verification=True)
    except (FileNotFoundError, pa.ArrowException):
        raise ModelError(f"{label}: what it was trained on is lost; `simsong train` makes it again") from None


def songs_of_training(store: Store, label: str) -> pa.Table | None:
    """Their shards and inputs; None where the training is of before these were set down."""
    try:
        rows = _tracks(store, label)
    except ModelError:
        return None
    if "input" not in rows.column_names:
        return None
    rows = rows.filter(pc.field("input").is_valid())
    return rows if rows.num_rows else None


def tracks_seen(store: Store, label: str) -> set[str]:
    """The songs that a model's weights depend on. Raises: ModelError where that is lost."""
    return {track_id for track_id, use in tracks_of(store, label).items() if use in (TRAINED, VALIDATED)}


def artists_heard(store: Store, label: str) -> set[str]:
    """The artist_ids of `tracks_seen`, as they were at the training; none where that is of before these were
    set down. Raises: ModelError where it is lost."""
    rows = _tracks(store, label)
    if "artist_id" not in rows.column_names:
        return set()
    rows = rows.filter(pc.field("use").isin([TRAINED, VALIDATED]))
    return set(rows["artist_id"].drop_null().to_pylist())


def folder(label: str) -> str:
    name, _, version = label.partition("-")
    return f"models/{name}/{version}"
