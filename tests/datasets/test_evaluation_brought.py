"""Embeddings that somebody brings: every form that is taken, and what is wrong said in one line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsong.errors import SimSongError
from simsong.evaluation.brought import EmbeddingsError, aligned, read_embeddings, unknown_ids
from simsong.evaluation.evaluate import evaluate
from tests.evaluation.test_evaluation_evaluate import CONFIG, world

IDS = ["TR0", "TR1", "TR2"]
MATRIX = np.array([[0.5, 1, -2], [3, 4, 5], [6, 7, 8]], np.float32)


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def npy(path: Path, array: np.ndarray, ids: str | None = "TR0\nTR1\nTR2\n", suffix: str = ".txt") -> Path:
    np.save(path, array, allow_pickle=True)
    if ids is not None:
        path.with_suffix(suffix).write_text(ids, "utf-8")
    return path


def fixed(matrix: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


@pytest.mark.parametrize("columns", [
    {"track_id": IDS, "embedding": fixed(MATRIX)},
    {"track_id": IDS, "embedding": MATRIX.astype(np.float64).tolist()},
    {"id": IDS, "x": pa.array(MATRIX.tolist(), pa.large_list(pa.float16()))},
    {"song": pa.array(IDS).dictionary_encode(), "n": [1, 2, 3], "vector": MATRIX.tolist()},
    {"track_id": IDS, "title": ["a", "b", "c"], "other": [[1], [2], [3]], "embedding": MATRIX.tolist()},
    {"id": IDS, "0": MATRIX[:, 0], "1": MATRIX[:, 1].astype(np.float64), "2": MATRIX[:, 2], "n": [1, 2, 3]},
])
def test_parquet(tmp_path: Path, columns: dict[str, Any]) -> None:
    ids, matrix = read_embeddings(parquet(tmp_path / "e.parquet", **columns))
    assert ids == IDS and matrix.dtype == np.float32 and matrix.tolist() == MATRIX.tolist()


def test_parquet_of_several_row_groups_and_numbers_as_ids(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((1000, 4))
    pq.write_table(pa.table({"id": np.arange(1000), "embedding": rows.tolist()}), tmp_path / "e.pq",
                   row_group_size=90)
    ids, matrix = read_embeddings(tmp_path / "e.pq")
    assert ids[:2] == ["0", "1"] and np.array_equal(matrix, rows.astype(np.float32))


@pytest.mark.parametrize(("text", "suffix"), [
    ("TR0\nTR1\nTR2\n", ".txt"), ("\ufeffTR0\r\n TR1 \r\nTR2", ".txt"), ("TR0\nTR1\nTR2\n\n", ".txt"),
    ("TR0\nTR1\nTR2\n", ".csv"), ("title,track_id\na,TR0\n\"b, c\",TR1\nd,TR2\n", ".csv"),
    ("id\nTR0\nTR1\nTR2\n", ".csv")])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "<f2", "<i4"])
def test_npy(tmp_path: Path, text: str, suffix: str, kind: str) -> None:
    array = (MATRIX * 2).astype(kind)
    path = npy(tmp_path / "e.npy", np.asfortranarray(array), text, suffix)
    ids, matrix = read_embeddings(path)
    assert ids == IDS and matrix.dtype == np.float32 and matrix.tolist() == (MATRIX * 2).tolist()
    elsewhere = path.with_suffix(suffix).rename(tmp_path / f"elsewhere{suffix}")
    assert read_embeddings(str(path), elsewhere)[0] == IDS


def bad(tmp_path: Path, says: str, path: Path, ids: Path | None = None) -> None:
    with pytest.raises(EmbeddingsError, match=says) as caught:
        read_embeddings(path, ids)
    assert isinstance(caught.value, SimSongError) and "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(("columns", "says"), [
    ({"title": IDS, "artist": IDS, "embedding": MATRIX.tolist()}, "no column is called track_id or id"),
    ({"track_id": IDS}, "no column holds lists of numbers"),
    ({"track_id": IDS, "a": [[1.0]] * 3, "b": [[1.0]] * 3}, "2 columns hold lists"),
    ({"track_id": IDS, "embedding": [[1.0], [1.0, 2.0], [1.0]]}, "not of one length"),
    ({"track_id": IDS, "embedding": [[1.0, 2.0, 3.0], [1.0], [1.0, 2.0]]}, "not of one length"),
    ({"track_id": IDS, "embedding": [["a"]] * 3}, "no column holds lists of numbers"),
    ({"track_id": IDS, "embedding": [[1.0], None, [2.0]]}, "1 rows have no embedding"),
    ({"track_id": IDS, "embedding": [[1.0], [None], [2.0]]}, "1 rows hold NaN, infinity or nothing"),
    ({"track_id": IDS, "embedding": [[1.0], [2.0], [float("inf")]]}, "that of 'TR2' first"),
    ({"track_id": IDS, "embedding": [[1e300], [2.0], [3.0]]}, "that of 'TR0' first"),
    ({"track_id": IDS, "x": [1.0, None, 2.0]}, "that of 'TR1' first"),
    ({"track_id": ["TR0", None, "TR2"], "embedding": MATRIX.tolist()}, "row 1 has no track_id"),
    ({"track_id": ["TR0", "", "TR2"], "embedding": MATRIX.tolist()}, "row 1 has an empty id"),
    ({"track_id": ["TR0", "TR\n2", "TR\n2"], "embedding": MATRIX.tolist()}, r"1 ids are there again, 'TR\\n"),
    ({"track_id": pa.array([], pa.string()), "embedding": pa.array([], pa.list_(pa.float32()))}, "holds no"),
    ({"track_id": IDS, "embedding": pa.array([[], [], []], pa.list_(pa.float32()))}, "holds no embedding"),
])
def test_hostile_parquet(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    bad(tmp_path, says, parquet(tmp_path / "e.parquet", **columns))


@pytest.mark.parametrize(("array", "says"), [
    (np.array([1.0, 2, 3]), r"shape \(3,\)"), (np.ones((3, 2, 2)), r"shape \(3, 2, 2\)"),
    (np.ones((3, 2), complex), "complex"), (np.ones((3, 2), bool), "bool"), (np.array([["a"]] * 3), "<U1"),
    (np.array([[{}]] * 3, dtype=object), "not readable as an array of numbers"),
    (np.ones((2, 2)), "2 rows, but 3 ids"), (np.ones((3, 0)), "holds no embedding"),
    (np.array([[1.0], [np.nan], [np.inf]]), "2 rows hold NaN, infinity or nothing, that of 'TR1'"),
])
def test_hostile_npy(tmp_path: Path, array: np.ndarray, says: str) -> None:
    bad(tmp_path, says, npy(tmp_path / "e.npy", array))


def test_hostile_files(tmp_path: Path) -> None:
    bad(tmp_path, "no such file", tmp_path / "none.npy")
    bad(tmp_path, "no such file", tmp_path)
    (tmp_path / "e.npz").write_bytes(b"PK")
    bad(tmp_path, r"read from \.parquet and \.npy", tmp_path / "e.npz")
    path = npy(tmp_path / "e.npy", MATRIX, None)
    bad(tmp_path, "which songs are its rows", path)
    bad(tmp_path, "not readable as text", path, tmp_path / "none.txt")
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe\x00")
    bad(tmp_path, "not readable as text", path)
    (tmp_path / "e.txt").write_text("TR0\n\nTR2\n")
    bad(tmp_path, "row 1 has an empty id", path)
    (tmp_path / "two.csv").write_text("title,artist\na,b\nc,d\ne,f\n")
    bad(tmp_path, "no column is called track_id", path, tmp_path / "two.csv")
    (tmp_path / "short.csv").write_text("title,id\na,TR0\nc\ne,TR2\n")
    bad(tmp_path, "a line has no id", path, tmp_path / "short.csv")
    bad(tmp_path, "are a column of it", parquet(tmp_path / "e.parquet", id=IDS, embedding=fixed(MATRIX)),
        tmp_path / "e.txt")


def test_no_pickle_is_ever_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    (tmp_path / "e.txt").write_text("TR0\n")
    (tmp_path / "e.npy").write_bytes(pickle.dumps(Trap()))
    bad(tmp_path, "not readable as an array", tmp_path / "e.npy")
    np.save(tmp_path / "e.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    bad(tmp_path, "not readable as an array", tmp_path / "e.npy")
    assert not (tmp_path / "sprung").exists()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from([".npy", ".parquet"]))
def test_damaged_files_are_refused_or_read(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    """Cut short or with bytes changed: a typed error or an array, never anything else."""
    path = tmp_path / f"e{kind}"
    if kind == ".npy":
        npy(path, MATRIX)
    else:
        parquet(path, track_id=IDS, embedding=fixed(MATRIX))
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        whole = whole[:data.draw(st.integers(0, len(whole) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        ids, matrix = read_embeddings(path)
    except EmbeddingsError as error:
        assert "\n" not in str(error)
    else:
        assert len(ids) == len(matrix) and np.isfinite(matrix).all()


def test_rows_are_found_by_id() -> None:
    out = aligned(IDS, MATRIX, ["TR2", "TRx", "TR0"])
    assert out.dtype == np.float32 and np.isnan(out[1]).all()
    assert out[[0, 2]].tolist() == MATRIX[[2, 0]].tolist()
    assert unknown_ids(IDS, ["TR2", "TRx", "TR0"]) == ["TR1"]
    with pytest.raises(EmbeddingsError, match=r"none of the 3 ids .* like 'TR0'"):
        aligned(IDS, MATRIX, ["a", "b"])


def test_what_is_brought_gives_the_figures_of_its_own(tmp_path: Path) -> None:
    songs, truth, vectors, held_out = world()
    order = np.random.default_rng(0).permutation(300)
    path = parquet(tmp_path / "mine.parquet", track_id=[songs.track_ids[i] for i in order],
                   embedding=fixed(vectors["wns"][order].astype(np.float32)))
    mine = aligned(*read_embeddings(path), songs.track_ids)
    out = evaluate({"wns": vectors["wns"], "mine": mine}, songs, [truth], held_out, CONFIG)
    for metric in ("recall@10", "map", "hubness"):
        assert out["methods"]["mine"][metric] == out["methods"]["wns"][metric]
