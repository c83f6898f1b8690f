"""Embeddings that somebody brings, to be measured as ours are: Parquet, or .npy with ids beside it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from simsong.errors import SimSongError

ID_COLUMNS = ("track_id", "id")
VECTOR_COLUMN = "embedding"


class EmbeddingsError(SimSongError):
    """A file of embeddings cannot be taken: `str` says which, why, and what to do."""


def read_embeddings(path: str | Path, ids: str | Path | None = None) -> tuple[list[str], np.ndarray]:
    """Ids (n,), each once, and their embeddings (n, d) float32, every number finite.

    Args:
        path: Parquet with a column of ids (`track_id`, `id`, or the only one of text) and one of lists of
            numbers (`embedding`, or the only one), or else its columns of floats, in order; or .npy, (n, d).
        ids: for .npy, their ids in its order: text with one a line, or CSV with a column as above or with one
            column. None looks for such a file of the same name that ends in .txt or .csv.
    Raises: EmbeddingsError, one line.
    """
    path = Path(path)
    if not path.is_file():
        raise EmbeddingsError(f"{path}: there is no such file")
    if path.suffix.lower() == ".npy":
        track_ids, matrix = _read_ids(path, ids), _read_npy(path)
        if len(track_ids) != len(matrix):
            raise EmbeddingsError(f"{path}: {len(matrix)} rows, but {len(track_ids)} ids")
    elif path.suffix.lower() in (".parquet", ".pq"):
        if ids is not None:
            raise EmbeddingsError(f"{path}: ids are given beside it, but those of Parquet are a column of it")
        track_ids, matrix = _read_parquet(path)
    else:
        raise EmbeddingsError(f"{path}: embeddings are read from .parquet and .npy")
    return track_ids, _checked(path, track_ids, matrix)


def aligned(ids: Sequence[str], matrix: np.ndarray, track_ids: Sequence[str]) -> np.ndarray:
    """The rows of `matrix` (m, d) of the tracks, (n, d) float32, NaN where a track has none.

    Raises: EmbeddingsError where no id is that of a track.
    """
    at = {name: row for row, name in enumerate(ids)}
    rows = np.fromiter((at.get(track_id, -1) for track_id in track_ids), np.int64, len(track_ids))
    if not (rows >= 0).any():
        example = f" (theirs are like {_shown(ids[0])})" if ids else ""
        raise EmbeddingsError(f"none of the {len(ids)} ids is a track's that has an embedding here{example}")
    out = np.full((len(track_ids), matrix.shape[1]), np.nan, np.float32)
    out[rows >= 0] = matrix[rows[rows >= 0]]
    return out


def unknown_ids(ids: Iterable[str], track_ids: Iterable[str]) -> list[str]:
    """Those that are no track's: their embeddings are not used."""
    catalogue = set(track_ids)
    return [name for name in ids if name not in catalogue]


def _read_npy(path: Path) -> np.ndarray:
    try:
        matrix = np.lib.format.open_memmap(path, mode="r")             # never unpickles
    except Exception as error:               # of a damaged header NumPy makes many kinds, and names none
        raise EmbeddingsError(f"{path}: not readable as an array of numbers ({_line(error)})") from None
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise EmbeddingsError(f"{path}: an array of {matrix.dtype} and shape {matrix.shape}; it takes "
                              "numbers, a row a song")
    return matrix


def _read_ids(path: Path, ids: str | Path | None) -> list[str]:
    beside = [path.with_suffix(suffix) for suffix in (".txt", ".csv")]
    file = Path(ids) if ids is not None else next((place for place in beside if place.is_file()), None)
    if file is None:
        raise EmbeddingsError(f"{path}: which songs are its rows? Put their ids into {beside[0].name}, one a "
                              "line, or name the file with --ids")
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EmbeddingsError(f"{file}: not readable as text ({_line(error)})") from None
    if file.suffix.lower() != ".csv":
        return [line.strip() for line in text.rstrip().splitlines()]
    try:
        rows = [row for row in csv.reader(text.splitlines()) if row]
    except csv.Error as error:
        raise EmbeddingsError(f"{file}: not readable as CSV ({_line(error)})") from None
    head = [name.strip().lower() for name in rows[0]] if rows else []
    column = next((head.index(name) for name in ID_COLUMNS if name in head), None)
    if column is None and len(head) > 1:
        raise EmbeddingsError(f"{file}: no column is called track_id or id")
    body = rows if column is None else rows[1:]
    if any(len(row) <= (column or 0) for row in body):
        raise EmbeddingsError(f"{file}: a line has no id")
    return [row[column or 0].strip() for row in body]


def _read_parquet(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        name = _id_column(path, schema)
        vectors = _vector_columns(path, schema, name)
        table = file.read(columns=[name, *vectors])
        ids = table[name].cast(pa.string()).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise EmbeddingsError(f"{path}: not readable as Parquet ({_line(error)})") from None
    if None in ids:
        raise EmbeddingsError(f"{path}: row {ids.index(None)} has no {name}")
    if not _is_list(schema.field(vectors[0]).type):
        return ids, np.stack([_numbers(table[column]) for column in vectors], axis=1)
    parts = [_rows(path, chunk) for chunk in table[vectors[0]].chunks if len(chunk)]
    if len({part.shape[1] for part in parts}) > 1:
        raise EmbeddingsError(f"{path}: its embeddings are not of one length")
    return ids, np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def _id_column(path: Path, schema: pa.Schema) -> str:
    texts = [field.name for field in schema if _is_text(field.type)]
    named = [name for name in ID_COLUMNS if name in schema.names]
    if not named and len(texts) != 1:
        raise EmbeddingsError(f"{path}: no column is called track_id or id, and {len(texts)} hold text")
    return (named or texts)[0]


def _vector_columns(path: Path, schema: pa.Schema, ids: str) -> list[str]:
    lists = [field.name for field in schema if _is_list(field.type)]
    if VECTOR_COLUMN in lists or len(lists) == 1:
        return [VECTOR_COLUMN if VECTOR_COLUMN in lists else lists[0]]
    if lists:
        raise EmbeddingsError(f"{path}: {len(lists)} columns hold lists, and none is called {VECTOR_COLUMN}")
    floats = [field.name for field in schema if pa.types.is_floating(field.type) and field.name != ids]
    if not floats:
        raise EmbeddingsError(f"{path}: no column holds lists of numbers, and none floats")
    return floats


def _rows(path: Path, chunk: pa.Array) -> np.ndarray:
    """(n, d) of an array of lists."""
    if chunk.null_count:
        raise EmbeddingsError(f"{path}: {chunk.null_count} rows have no embedding; leave those songs out")
    values = chunk.flatten()
    if len(values) % len(chunk) or (not pa.types.is_fixed_size_list(chunk.type)
                                    and len(chunk.value_lengths().unique()) > 1):
        raise EmbeddingsError(f"{path}: its embeddings are not of one length")
    return _numbers(values).reshape(len(chunk), -1)


def _numbers(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Null is NaN."""
    return values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)) and \
        (types.is_floating(kind.value_type) or types.is_integer(kind.value_type))


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _checked(path: Path, ids: list[str], matrix: np.ndarray) -> np.ndarray:
    if not matrix.size:
        raise EmbeddingsError(f"{path}: it holds no embedding, its shape is {matrix.shape}")
    if "" in ids:
        raise EmbeddingsError(f"{path}: row {ids.index('')} has an empty id")
    if len(set(ids)) < len(ids):
        names: set[str] = set()
        twice = next(name for name in ids if name in names or names.add(name))
        again = len(ids) - len(set(ids))
        raise EmbeddingsError(f"{path}: {again} ids are there again, {_shown(twice)} first")
    with np.errstate(over="ignore"):
        out = np.array(matrix, dtype=np.float32)
    if not (finite := np.isfinite(out).all(axis=1)).all():
        raise EmbeddingsError(f"{path}: {np.count_nonzero(~finite)} rows hold NaN, infinity or nothing, that "
                              f"of {_shown(ids[int(finite.argmin())])} first; leave those songs out")
    return out


def _shown(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:59] + "…")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
