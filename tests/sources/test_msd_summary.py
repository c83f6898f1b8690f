"""The summary HDF5: rows by blocks, joined arrays, and files that claim what they have not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsong.errors import CatalogueError
from simsong.records import Rows
from simsong.sources.msd import open_msd
from simsong.sources.msd import summary as summaries
from simsong.sources.msd.readers import Died, Readers
from simsong.sources.msd.summary import Block, Summary, measure, read_block
from simsong.sources.msd.tables import MsdFileMalformed
from tests.source_files import h5, read

DATA = Path(__file__).parents[2].parent / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not on this machine")
FUZZ = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

META = np.dtype([("artist_id", "S32"), ("artist_name", "S1024"), ("title", "S1024"), ("release", "S1024"),
                 ("song_id", "S32"), ("genre", "S1024"), ("idx_artist_terms", "<i4"),
                 ("idx_similar_artists", "<i4")])
ANALYSIS = np.dtype([("duration", "<f8"), ("end_of_fade_in", "<f8"), ("start_of_fade_out", "<f8"),
                     ("idx_segments_timbre", "<i4"), ("track_id", "S32")])
PACKED: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def summary(path: Path, songs: int, arrays: dict[str, np.ndarray] | None = None,
            change: Callable[[np.ndarray, np.ndarray, np.ndarray], None] = lambda *_: None) -> Path:
    """Songs 0, 1, …, two an artist."""
    meta, sound, year = np.zeros(songs, META), np.zeros(songs, ANALYSIS), np.zeros(songs, [("year", "<i4")])
    meta["artist_id"] = [f"AR{n // 2}" for n in range(songs)]
    meta["artist_name"] = [f"Artist  {n // 2}" for n in range(songs)]
    meta["title"] = [f"Caf\u00e9 {n}\x19s".encode() for n in range(songs)]
    meta["song_id"] = [f"SO{n}" for n in range(songs)]
    sound["track_id"] = [f"TR{n}" for n in range(songs)]
    sound["duration"], sound["start_of_fade_out"] = np.arange(songs) + 0.5, np.arange(songs)
    year["year"] = np.where(np.arange(songs) % 2, 1999, 0)
    change(meta, sound, year)
    with h5py.File(path, "w") as file:
        for name, rows in (("metadata", meta), ("analysis", sound), ("musicbrainz", year)):
            file.create_dataset(f"{name}/songs", data=rows, chunks=(64,), maxshape=(None,), **PACKED)
        for name, values in (arrays or {}).items():
            file.create_dataset(name, data=values)
    return path


def aggregate(path: Path) -> Path:
    """Three songs, the first two by one artist."""
    def change(meta: np.ndarray, sound: np.ndarray, _: np.ndarray) -> None:
        meta["idx_artist_terms"], meta["idx_similar_artists"] = [0, 2, 4], [0, 3, 6]
        sound["idx_segments_timbre"] = [0, 2, 3]
    return summary(path, 3, {
        "metadata/artist_terms": np.array([b"rock", b"pop", b"rock", b"pop", b"jazz", b"jazz", b""], "S256"),
        "metadata/artist_terms_freq": np.array([1, 0.5, 1, 0.5, 0.25, 0.75, 1]),
        "metadata/artist_terms_weight": np.array([0.9, np.nan, 0.9, 0.8, 0.7, 0.6, 1]),
        "metadata/similar_artists": np.array([b"ARX", b"AR0", b"ARY", b"ARX", b"AR0", b"ARY", b"ARZ"], "S20"),
        "analysis/segments_timbre": np.array([[1] * 12, [3] * 12, [9] * 12, [5] * 12, [5] * 12], "f8"),
    }, change)


# --- rows ---

def test_fields(tmp_path: Path) -> None:
    source = open_msd(str(summary(tmp_path / "msd_summary_file.h5", 3)))
    assert isinstance(source, Summary)
    tables, rejected = read(source)
    assert not rejected
    assert tables["tracks"].to_pylist()[1] == {
        "track_id": "TR1", "song_id": "SO1", "artist_id": "AR0", "artist": "Artist 0", "title": "Café 1’s",
        "release": None, "year": 1999, "duration_s": 1.5, "source": "msd", "url": None, "fingerprint": None,
        "lyrics_fingerprint": None, "fade_in_end_s": 0.0, "fade_out_start_s": 1.0}
    assert tables["tracks"]["year"].to_pylist() == [None, 1999, None]
    assert tables["tracks"]["fade_out_start_s"].to_pylist() == [None, 1.0, 2.0]
    assert tables.keys() == {"tracks"}


def test_years_of_no_use_are_counted_and_not_taken(tmp_path: Path) -> None:
    """0 says that the year is not known."""
    def change(_: np.ndarray, __: np.ndarray, year: np.ndarray) -> None:
        year["year"] = [0, 9999, -1999, 9999, 1999]
    source = open_msd(str(summary(tmp_path / "msd_summary_file.h5", 5, change=change)))
    for _ in range(2):
        assert read(source)[0]["tracks"]["year"].to_pylist() == [None] * 4 + [1999]
        assert vars(source)["left_out"] == {"years": 3}


def test_blocks_join(tmp_path: Path) -> None:
    songs = summaries.BLOCK_ROWS + 100
    result = list(open_msd(str(summary(tmp_path / "s.h5", songs))).read())
    ids = [str(i) for rows in result if isinstance(rows, Rows) for i in rows.columns["track_id"]]
    assert len(result) == 2
    assert ids == [f"TR{n}" for n in range(songs)]


def test_joined_arrays_are_cut_by_song(tmp_path: Path) -> None:
    tables, _ = read(open_msd(str(aggregate(tmp_path / "a.h5"))))
    assert tables["artist_terms"].to_pylist() == [
        {"artist_id": "AR0", "name": "rock", "freq": 1.0, "weight": 0.9},
        {"artist_id": "AR0", "name": "pop", "freq": 0.5, "weight": None},
        {"artist_id": "AR1", "name": "jazz", "freq": 0.25, "weight": 0.7}]
    assert tables["artist_similars"].to_pylist() == [
        {"artist_id": "AR0", "similar_id": "ARX", "rank": 0},
        {"artist_id": "AR0", "similar_id": "ARY", "rank": 1},
        {"artist_id": "AR1", "similar_id": "ARZ", "rank": 0}]
    assert tables["timbre"].to_pylist() == [
        {"track_id": "TR0", "embedding": [2.0] * 90},
        {"track_id": "TR2", "embedding": [5.0] * 12 + [0.0] * 78}]


def test_artists_are_told_once_whatever_the_blocks(tmp_path: Path) -> None:
    path = str(aggregate(tmp_path / "a.h5"))
    whole = read_block(Block(path, 0, 3, 3))
    parts = [read_block(Block(path, n, n + 1, 3)) for n in range(3)]
    for table in ("timbre", "tracks"):
        assert [row for part in parts for row in pa_rows(part[table])] == pa_rows(whole[table])
    assert pa_rows(parts[1]["artist_terms"])[1]["weight"] == 0.8    # the artist's second song says so
    assert pa_rows(parts[2]["artist_similars"]) == [{"artist_id": "AR1", "similar_id": "ARZ", "rank": 0}]


def pa_rows(columns: summaries.Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in
            zip(*(column.to_pylist() for column in columns.values()), strict=True)]


def test_a_single_tracks_file_is_a_summary_of_one(tmp_path: Path) -> None:
    path = h5(tmp_path / "x.h5")
    (tables, _), (expected, _) = read(open_msd(str(path))), read(open_msd(str(tmp_path)))
    assert {n: t.to_pylist() for n, t in tables.items()} == {n: t.to_pylist() for n, t in expected.items()}


@real_data
def test_real_tracks_alone_and_together_are_alike() -> None:
    folder = DATA / "msd" / "h5"
    together = {row["track_id"]: row for row in read(open_msd(str(folder)))[0]["tracks"].to_pylist()}
    for path in sorted(folder.rglob("TRA*.h5"))[1:3]:
        tables, rejected = read(open_msd(str(path)))
        assert not rejected
        assert tables["tracks"].to_pylist() == [together[path.stem]]
        assert tables["artist_similars"].num_rows == 100


def test_a_row_without_an_id_is_rejected(tmp_path: Path) -> None:
    def change(_: np.ndarray, sound: np.ndarray, __: np.ndarray) -> None:
        sound["track_id"][1] = b"../x"
    tables, rejected = read(open_msd(str(summary(tmp_path / "s.h5", 3, change=change))))
    assert tables["tracks"]["track_id"].to_pylist() == ["TR0", "TR2"]
    [bad] = rejected
    assert (bad.reason, bad.detail[:8]) == ("malformed", "s.h5: ro")
    assert "row 1: no usable track_id ('../x')" in bad.detail


# --- damage ---

def shorten(file: h5py.File) -> None:
    songs: Any = file["analysis/songs"]
    rows = songs[:-1]
    del file["analysis/songs"]
    file["analysis/songs"] = rows


def claim(file: h5py.File) -> None:
    for name, dtype in (("metadata", META), ("analysis", ANALYSIS), ("musicbrainz", [("year", "<i4")])):
        del file[f"{name}/songs"]
        file.create_dataset(f"{name}/songs", (10**10,), dtype, chunks=(64,), **PACKED)


def out_of_order(file: h5py.File) -> None:
    songs: Any = file["metadata/songs"]
    rows = songs[:]
    rows["idx_artist_terms"] = [4, 2, 0]
    songs[:] = rows


def link(file: h5py.File) -> None:
    del file["analysis"]
    file["analysis"] = h5py.ExternalLink("other.h5", "/analysis")


def empty(file: h5py.File) -> None:
    for name, dtype in (("metadata", META), ("analysis", ANALYSIS)):
        del file[f"{name}/songs"]
        file[f"{name}/songs"] = np.zeros(0, dtype)
    del file["musicbrainz"]


def without_metadata(file: h5py.File) -> None:
    del file["metadata"]


@pytest.mark.parametrize(("damage", "says"), [
    (shorten, "differ in length: /metadata/songs 3, /analysis/songs 2, /musicbrainz/songs 3"),
    (claim, "/metadata/songs has shape (10000000000,), more than a file of"),
    (out_of_order, "idx_artist_terms does not ascend from 0 to 7"), (link, "analysis is a link to elsewhere"),
    (empty, "is empty"), (without_metadata, "holds no table /metadata/songs"),
])
def test_damage_is_one_clear_error(damage: Callable[[h5py.File], None], says: str, tmp_path: Path) -> None:
    path = aggregate(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(CatalogueError) as error:
        list(open_msd(str(path)).read())
    assert str(error.value).startswith(f"{path}: ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def tell(readers: Readers, path: Path) -> object:
    """As a reader does, without starting a worker for each file."""
    try:
        rows, _ = readers.call(measure, str(path))
        return readers.call(read_block, Block(str(path), 0, min(rows, 1000), rows))
    except (MsdFileMalformed, Died) as error:
        return error


def test_a_summary_cut_anywhere_is_malformed(tmp_path: Path) -> None:
    whole = summary(tmp_path / "s.h5", 500).read_bytes()
    with Readers() as readers:
        for length in range(0, len(whole), 1024):
            (tmp_path / "cut.h5").write_bytes(whole[:length])
            assert isinstance(tell(readers, tmp_path / "cut.h5"), MsdFileMalformed), length


def test_any_damage_is_rows_or_malformed(tmp_path: Path) -> None:
    whole = aggregate(tmp_path / "a.h5").read_bytes()
    with Readers(call_s=5) as readers:
        @given(data=st.data())
        @FUZZ
        def damaged(data: st.DataObject) -> None:
            raw = bytearray(whole)
            for _ in range(data.draw(st.integers(1, 6))):
                at = data.draw(st.integers(0, len(raw) - 1))
                raw[at:at + 4] = data.draw(st.binary(min_size=4, max_size=4))
            (tmp_path / "damaged.h5").write_bytes(raw)
            assert isinstance(tell(readers, tmp_path / "damaged.h5"), dict | MsdFileMalformed | Died)
        damaged()


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Of the process that asks and of its workers: 50,000 songs have 160 MB of the fields read here."""
    path = summary(tmp_path / "s.h5", 50_000)
    code = ("import resource; from simsong.sources.msd import open_msd; "
            "before = resource.getrusage(0).ru_maxrss; "
            f"n = sum(len(r.columns['track_id']) for r in open_msd({str(path)!r}).read()); "
            "print(n, resource.getrusage(0).ru_maxrss - before, resource.getrusage(-1).ru_maxrss)")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         cwd=Path(__file__).parents[2])
    n, grown_kb, worker_kb = map(int, out.stdout.split())
    assert n == 50_000
    assert grown_kb < 100_000
    assert worker_kb < 450_000
