"""The Million Song Dataset's per-track files: fields, timbre, damage, malice, and readers that die."""

from __future__ import annotations

import os
import signal
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, cast

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsong.errors import CatalogueError
from simsong.records import Rejected
from simsong.sources import SOURCES
from simsong.sources.base import Source
from simsong.sources.msd.hdf5 import read_song, timbre_statistics
from simsong.sources.msd.readers import Readers
from simsong.sources.msd.tables import CHUNK_BYTES, MsdFileMalformed
from tests.source_files import h5, make_msd, read

DATA = Path(__file__).parents[2].parent / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not on this machine")
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def open_msd(path: Path) -> Source:
    return SOURCES["msd"](str(path))


@pytest.fixture(scope="module")
def readers() -> Iterator[Readers]:
    """Damaged files are read as the source reads them: not in this process."""
    with Readers() as readers:
        yield readers


# --- fields ---

@pytest.mark.parametrize("as_bytes", [False, True])
def test_fields(as_bytes: bool, tmp_path: Path) -> None:
    path = h5(tmp_path / "x.h5", title=b" Caf\xc3\xa9\x19s \xff\x00x")
    song = read_song(path.read_bytes() if as_bytes else str(path))
    assert song.track == {
        "track_id": "TRAAAAA128F0000001", "song_id": "SOGOB", "artist_id": "ARGOB", "artist": "Gob",
        "title": "Café’s \ufffd", "release": "Foot in Mouth", "year": 2007, "duration_s": 150.5,
        "fade_in_end_s": 0.148, "fade_out_start_s": 137.9}
    assert song.terms == [("punk", 1.0, 0.8), ("pop punk", 0.5, 0.4)]
    assert song.similar_artists == ["ARSUM41", "ARNOFX"]
    assert song.timbre is not None
    assert song.timbre.tolist() == [2.0] * 90       # of 1 and 3: mean 2, and (1 + 1) / (2 - 1)


def test_nothing_is_null(tmp_path: Path) -> None:
    song = read_song(str(h5(tmp_path / "x.h5", year=0, artist=b"", artist_id=b"", terms=(), similar=())))
    assert [song.track[name] for name in ("year", "artist", "artist_id")] == [None] * 3
    assert (song.terms, song.similar_artists) == ([], [])


def test_what_a_file_lacks_is_null(tmp_path: Path) -> None:
    path = h5(tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        for name in ("musicbrainz", "metadata/artist_terms_freq", "metadata/similar_artists",
                     "analysis/segments_timbre"):
            del file[name]
        replace(file, "analysis/songs", np.array([(b"TRX",)], [("track_id", "S18")]))
        replace(file, "metadata/artist_terms_weight", np.array([0.5, 0.25, 7.0]))      # more than terms
    song = read_song(str(path))
    assert song.track["track_id"] == "TRX"
    assert [song.track[n] for n in ("year", "duration_s", "fade_out_start_s")] == [None] * 3
    assert song.terms == [("punk", None, 0.5), ("pop punk", None, 0.25)]
    assert song.similar_artists == []
    assert song.timbre is None


def test_timbre_is_mean_and_covariance() -> None:
    segments = np.random.default_rng(0).normal(size=(7, 12)) * np.arange(1, 13) + 5
    statistics = timbre_statistics(segments)
    assert statistics is not None and statistics.shape == (90,) and statistics.dtype == np.float32
    np.testing.assert_allclose(statistics[:12], segments.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(statistics[12:24], np.cov(segments.T)[0],
                               rtol=1e-5)      # the first row of 12,
    np.testing.assert_allclose(statistics[24:35], np.cov(segments.T)[1, 1:], rtol=1e-5)  # the second of 11, …
    assert statistics[89] == pytest.approx(segments[:, 11].var(ddof=1), rel=1e-5)


@pytest.mark.parametrize("segments", [
    np.zeros((0, 12)), np.ones((1, 12)), np.ones((5, 11)), np.ones(12), np.full((5, 12), np.nan),
    np.concatenate([np.ones((5, 12)), np.full((1, 12), np.inf)]), np.full((3, 12), 1e300), np.eye(12) * 1e30])
def test_no_timbre_where_it_says_nothing(segments: np.ndarray) -> None:
    assert timbre_statistics(segments) is None


def test_artists_are_told_once_and_timbre_where_there_is_one(tmp_path: Path) -> None:
    for n in range(3):
        h5(tmp_path / f"{n}.h5", f"TRAAAA{n}", timbre=([n] * 12,) * n)
    tables, _ = read(open_msd(tmp_path))
    assert tables["tracks"].num_rows == 3
    assert tables["timbre"].to_pylist() == [{"track_id": "TRAAAA2", "embedding": [2.0] * 12 + [0.0] * 78}]
    assert tables["artist_terms"].to_pylist() == [
        {"artist_id": "ARGOB", "name": "punk", "freq": 1.0, "weight": 0.8},
        {"artist_id": "ARGOB", "name": "pop punk", "freq": 0.5, "weight": 0.4}]
    assert tables["artist_similars"].to_pylist() == [
        {"artist_id": "ARGOB", "similar_id": "ARSUM41", "rank": 0},
        {"artist_id": "ARGOB", "similar_id": "ARNOFX", "rank": 1}]


def test_years_of_no_use_are_counted_and_not_taken(tmp_path: Path) -> None:
    """0 says that the year is not known."""
    for n, year in enumerate((0, 9999, -1999, -1, 1999)):
        h5(tmp_path / f"{n}.h5", f"TRAAAA{n}", year=year)
    source = open_msd(tmp_path)
    for _ in range(2):
        assert read(source)[0]["tracks"]["year"].to_pylist() == [None] * 4 + [1999]
        assert vars(source)["left_out"] == {"years": 3}


# --- forms ---

@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.bz2", "zip"])
def test_an_archive_tells_what_its_folder_tells(suffix: str, tmp_path: Path) -> None:
    folder = make_msd(tmp_path / "MillionSongSubset")
    archive = tmp_path / f"msd.{suffix}"
    paths = sorted(folder.rglob("*.h5"), key=lambda path: (len(path.parts), path))     # as a tree is walked
    if suffix == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in paths:
                file.write(path, path.relative_to(tmp_path))
    else:
        mode: Literal["w", "w:gz", "w:bz2"] = (
            "w" if suffix == "tar" else "w:bz2" if suffix == "tar.bz2" else "w:gz")
        with tarfile.open(archive, mode) as file:
            for path in paths:
                file.add(path, path.relative_to(tmp_path))
    source = open_msd(archive)
    assert (source.rank, open_msd(folder).rank) == (1, 0)
    (tables, rejected), (expected, bad) = read(source), read(open_msd(folder))
    assert {name: table.to_pylist() for name, table in tables.items()} == {
        name: table.to_pylist() for name, table in expected.items()}
    assert [(r.track_id, r.reason) for r in rejected] == [(r.track_id, r.reason) for r in bad]
    before = source.fingerprint()
    os.utime(archive, ns=(1, 1))
    assert source.fingerprint() != before


def test_what_is_no_form_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("nothing of the kind")
    with pytest.raises(CatalogueError, match=r"x\.txt: not a form of the dataset; a folder or archive"):
        open_msd(tmp_path / "x.txt")


def test_an_archive_cut_short_is_one_clear_error(tmp_path: Path) -> None:
    h5(tmp_path / "x.h5")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as file:
        file.add(tmp_path / "x.h5", "x.h5")
    whole = (tmp_path / "x.tar.gz").read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(CatalogueError, match=r"x\.tar\.gz: .*cut short"):
        list(open_msd(tmp_path / "x.tar.gz").read())


def test_many_files_keep_their_order(tmp_path: Path) -> None:
    raw = h5(tmp_path / "TR0000.h5", "TR0000").read_bytes()
    for n in range(1, 300):
        (tmp_path / f"TR{n:04}.h5").write_bytes(
            raw.replace(b"TR0000", f"TR{n:04}".encode()) if n % 100 else b"no HDF5")
    tables, rejected = read(open_msd(tmp_path))
    assert [r.track_id for r in rejected] == ["TR0100", "TR0200"]
    kept = [f"TR{n:04}" for n in range(300) if n % 100 or not n]
    assert tables["tracks"]["track_id"].to_pylist() == tables["timbre"]["track_id"].to_pylist() == kept


@real_data
def test_real_files() -> None:
    tables, rejected = read(open_msd(DATA / "msd" / "h5"))
    assert tables["tracks"].num_rows == 69
    assert [(r.track_id, r.reason) for r in rejected] == [("TRAAAAW128F429D538", "malformed")]
    assert "holds no table /metadata/songs" in rejected[0].detail
    rows = {row["track_id"]: row for row in tables["tracks"].to_pylist()}
    assert rows["TRAAABD128F429CF47"] | {"duration_s": None} == {
        "track_id": "TRAAABD128F429CF47", "song_id": "SOCIWDW12A8C13D406", "artist_id": "ARMJAGH1187FB546F3",
        "artist": "The Box Tops", "title": "Soul Deep", "release": "Dimensions", "year": 1969,
        "duration_s": None, "source": "msd", "url": None, "fingerprint": None, "lyrics_fingerprint": None,
        "fade_in_end_s": 0.148, "fade_out_start_s": 137.915}
    assert rows["TRAAABD128F429CF47"]["duration_s"] == pytest.approx(148.03546)
    assert min(row["duration_s"] for row in rows.values()) == pytest.approx(0.57, abs=0.01)
    assert rows["TRAAADZ128F9348C2E"]["year"] is None
    terms = [t for t in tables["artist_terms"].to_pylist() if t["artist_id"] == "ARMJAGH1187FB546F3"]
    assert [(t["name"], t["freq"]) for t in terms[:2]] == [
        ("blue-eyed soul", 1.0), ("pop rock", pytest.approx(0.8932, abs=1e-4))]
    assert tables["artist_similars"].num_rows == 44 * 100
    with h5py.File(next((DATA / "msd" / "h5").rglob("TRAAABD128F429CF47.h5"))) as file:
        segments = np.array(file["analysis/segments_timbre"])
    timbre = {row["track_id"]: row["embedding"] for row in tables["timbre"].to_pylist()}
    assert len(timbre) == 69
    np.testing.assert_allclose(timbre["TRAAABD128F429CF47"], np.concatenate(
        [segments.mean(axis=0), np.cov(segments.T)[np.triu_indices(12)]]), rtol=1e-4, atol=1e-4)


# --- damage ---

def without(name: str) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        del file[name]
    return damage


def two_rows(file: h5py.File) -> None:
    songs = file["metadata/songs"]
    assert isinstance(songs, h5py.Dataset)
    rows: np.ndarray = songs[:]
    replace(file, "metadata/songs", np.concatenate([rows, rows]))


def replace(file: h5py.File, name: str, data: object) -> None:
    del file[name]
    file[name] = data


def group_for_table(file: h5py.File) -> None:
    del file["analysis/songs"]
    file.create_group("analysis/songs")


@pytest.mark.parametrize(("damage", "says"), [
    (without("metadata"), "holds no table /metadata/songs"),
    (without("analysis/songs"), "holds no table /analysis/songs"),
    (two_rows, "/metadata/songs has shape (2,)"), (group_for_table, "no table /analysis/songs"),
    (lambda file: replace(file, "analysis/songs", np.ones(1)), "no table /analysis/songs"),
    (lambda file: replace(file, "analysis/songs", h5py.Empty("f8")), "no table /analysis/songs"),
    (lambda file: replace(file, "analysis", np.ones(1)), "no table /analysis/songs"),
    (lambda file: replace(file, "metadata/artist_terms", np.ones(3)), "not readable as HDF5"),
])
def test_damage_is_told(damage: Callable[[h5py.File], None], says: str, readers: Readers,
                        tmp_path: Path) -> None:
    path = h5(tmp_path / "TRX.h5")
    with h5py.File(path, "r+") as file:
        damage(file)
    [(at, why)] = readers.read([str(path)]).bad
    assert at == 0
    assert says in why


def test_damaged_files_are_named(tmp_path: Path) -> None:
    h5(tmp_path / "a" / "TRX.h5", "../../x")
    (tmp_path / "a" / "not an id.h5").write_bytes(b"")
    h5(tmp_path / "TRZ.h5", "TRZ")
    _, (bad_id, empty) = read(open_msd(tmp_path))
    assert bad_id == Rejected("TRX", "malformed", "a/TRX.h5: /analysis/songs has no usable "
                              "track_id ('../../x')")
    assert (empty.track_id[:2], empty.reason) == ("XX", "malformed")
    assert empty.detail.startswith("a/not an id.h5: not readable as HDF5 (")


def test_files_cut_at_each_kilobyte_are_rejected(readers: Readers, tmp_path: Path) -> None:
    raw = h5(tmp_path / "TRX.h5").read_bytes()
    cuts = [raw[:length] for length in range(0, len(raw), 1024)]
    assert len(cuts) > 5
    assert [at for at, _ in readers.read(cuts).bad] == list(range(len(cuts)))


@given(data=st.data())
@FUZZ
def test_any_damage_is_a_song_or_malformed(readers: Readers, data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    raw = bytearray((path if path.exists() else h5(path)).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at:at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    songs = readers.read([bytes(raw)])
    assert (songs.at, [at for at, _ in songs.bad]) in (([0], []), ([], [0]))


# --- malice ---

def linked_out(file: h5py.File) -> None:
    other = h5(Path(file.filename).with_name("other.h5x"))
    del file["analysis"]
    file["analysis"] = h5py.ExternalLink(other, "/analysis")


def linked_softly(file: h5py.File) -> None:
    file.move("analysis/songs", "elsewhere")
    file["analysis/songs"] = h5py.SoftLink("/elsewhere")


def stored_outside(file: h5py.File) -> None:
    del file["metadata/similar_artists"]
    file.create_dataset("metadata/similar_artists", (50,), "S20", external=[("/etc/passwd", 0, 1000)])


def virtual(file: h5py.File) -> None:
    del file["analysis/segments_timbre"]
    layout = h5py.VirtualLayout((2, 12), "f8")
    layout[:] = h5py.VirtualSource("other.h5x", "analysis/segments_timbre", (2, 12))
    file.create_virtual_dataset("analysis/segments_timbre", layout)


def billions(**more: object) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        del file["analysis/segments_timbre"]
        file.create_dataset("analysis/segments_timbre", (10**9, 12), "f8", **more)
    return damage


def bomb(file: h5py.File) -> None:
    """A chunk that should have 24 KB, and unpacks to 200 MB."""
    del file["analysis/segments_timbre"]
    timbre = file.create_dataset("analysis/segments_timbre", (256, 12), "f8", chunks=(256, 12),
                                 compression="gzip")
    timbre.id.write_direct_chunk((0, 0), zlib.compress(bytes(200 << 20)))


def large_chunk(file: h5py.File) -> None:
    del file["analysis/segments_timbre"]
    file.create_dataset("analysis/segments_timbre", (2, 12), "f8", maxshape=(None, 12),
                        chunks=(CHUNK_BYTES // 96 + 1, 12), compression="gzip")


def packed_oddly(file: h5py.File) -> None:
    del file["metadata/similar_artists"]
    file.create_dataset("metadata/similar_artists", data=np.zeros(50, "S20"), compression="lzf")


@pytest.mark.parametrize(("change", "says"), [
    (linked_out, "analysis is a link to elsewhere"), (linked_softly, "songs is a link to elsewhere"),
    (stored_outside, "similar_artists lies in other files"), (virtual, "segments_timbre lies in other files"),
    (billions(), "segments_timbre has shape (1000000000, 12), more than 16 MB"),
    (billions(chunks=(10, 12), compression="gzip"), "more than 16 MB"),
    (bomb, "packed bytes for 24576"), (large_chunk, "1 MB are read at most"),
    (packed_oddly, "packed by HDF5 filter 32000, unknown here"),
])
def test_what_would_do_harm_is_not_read(change: Callable[[h5py.File], None], says: str,
                                        tmp_path: Path) -> None:
    path = h5(tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(MsdFileMalformed) as error:
        read_song(str(path))
    assert says in str(error.value)
    assert "root" not in str(error.value)


# --- readers that die ---

def test_a_file_that_hangs_is_rejected_and_the_rest_is_read(tmp_path: Path) -> None:
    files = [str(h5(tmp_path / f"{n}.h5", f"TR{n}")) for n in range(4)]
    os.mkfifo(tmp_path / "pipe.h5")                     # opening it waits for ever
    with Readers(call_s=0.5) as readers:
        songs = readers.read([*files[:2], str(tmp_path / "pipe.h5"), *files[2:]])
    assert songs.bad == [(2, "the HDF5 library did not come to an end within 0.5 s")]
    assert (songs.at, songs.tracks["track_id"]) == ([0, 1, 3, 4], ["TR0", "TR1", "TR2", "TR3"])
    assert songs.timbre.shape == (4, 90)
    assert songs.artists["ARGOB"][1] == ["ARSUM41", "ARNOFX"]


def test_a_reader_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    files = [str(h5(tmp_path / f"{n}.h5", f"TR{n}")) for n in range(3)]
    with Readers() as readers:
        before = readers.read(files)
        [pid] = readers.pids
        os.kill(pid, signal.SIGKILL)
        after = readers.read(files)
        assert readers.pids != [pid]
    assert after.tracks == before.tracks == {**before.tracks, "track_id": ["TR0", "TR1", "TR2"]}
    assert (after.at, after.bad) == (before.at, [])


def test_readers_end_with_their_user(tmp_path: Path) -> None:
    h5(tmp_path / "1.h5")
    with Readers() as readers:
        readers.read([str(tmp_path / "1.h5")])
        [pid] = readers.pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_memory_that_a_file_would_take_is_bounded(tmp_path: Path) -> None:
    path = h5(tmp_path / "x.h5", timbre=np.ones((100_000, 12)).tolist())       # 10 MB: allowed
    with Readers(memory_bytes=1 << 20) as readers:
        songs = readers.read([str(path)])
    [(at, why)] = songs.bad
    assert at == 0
    assert why
    assert read_song(str(path)).timbre is not None


def children() -> set[int]:
    result: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                result.add(int(status.parent.name))
    return result


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to look for processes in")
def test_no_process_is_left_where_reading_stops(tmp_path: Path) -> None:
    """At a song that its user does not want, and at an archive that is damaged."""
    for n in range(300):
        h5(tmp_path / f"{n}.h5", f"TR{n}")
    (tmp_path / "0.h5").write_bytes(b"")
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        file.add(tmp_path, "x", filter=lambda info: None if info.name.endswith(".tar") else info)
    whole = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[:len(whole) // 2])
    before = children()
    reading = open_msd(tmp_path).read()
    assert isinstance(next(reading), Rejected)
    assert len(children() - before) >= 1
    cast("Generator[object]", reading).close()
    assert children() == before
    with pytest.raises(CatalogueError, match="cut short"):
        list(open_msd(tmp_path / "x.tar").read())
    assert children() == before
