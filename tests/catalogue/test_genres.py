"""tagtraum's and LabROSA's genres: what they give, by whom, and what becomes of damage."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsong.errors import CatalogueError
from simsong.records import Rows
from simsong.sources.genres import open_genres, source_of
from simsong.sources.textfile import BLOCK_BYTES
from tests.source_files import MSD_GENRES, TAGTRAUM, make_msd_genres, make_tagtraum, read, zipped

FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FORMS = {"tagtraum": make_tagtraum, "msd_genre_dataset": make_msd_genres}
each = pytest.mark.parametrize("make", FORMS.values(), ids=list(FORMS))


def rows(path: Path) -> list[dict[str, Any]]:
    return read(open_genres(str(path)))[0]["genres"].to_pylist()


def row(track_id: str, name: str, weight: float, source: str) -> dict[str, Any]:
    return {"track_id": track_id, "name": name, "weight": weight, "source": source}


def test_tagtraum_gives_majority_and_minority(tmp_path: Path) -> None:
    path = make_tagtraum(tmp_path)
    assert rows(path) == rows(zipped(path)) == [
        row("TRAAAAA128F0000001", "Punk", 1.0, "tagtraum_cd1"),
        row("TRAAAAA128F0000001", "Rock", 0.5, "tagtraum_cd1"),
        row("TRAAAAB128F0000002", "Rock", 1.0, "tagtraum_cd1"),
        row("TRAAAAD128F0000004", "New Age", 1.0, "tagtraum_cd1"),
    ]


def test_labrosas_file_is_read_by_its_column_names(tmp_path: Path) -> None:
    path = make_msd_genres(tmp_path)
    assert [(r["track_id"], r["name"]) for r in rows(path)] == [
        ("TRAAAAA128F0000001", "classic pop and rock"), ("TRAAAAB128F0000002", "punk"),
        ("TRAAAAC128F0000003", "folk")]
    assert {(r["weight"], r["source"]) for r in rows(path)} == {(1.0, "msd_genre_dataset")}
    path.write_text("title,Track_ID,x,Genre\nA \"45,TR1,,folk\ntitle,track_id,x,genre\n")
    assert rows(path) == [row("TR1", "folk", 1.0, "msd_genre_dataset"),
                          row("track_id", "genre", 1.0, "msd_genre_dataset")]


def test_faults_name_file_and_line(tmp_path: Path) -> None:
    path = make_tagtraum(tmp_path)
    path.write_text("TR1\tRock\nTR2\tRock\tPop\tJazz\nTR3\t\tJazz\n\nTR 4\tRock\nTR5\tRock\tRock\n")
    tables, rejected = read(open_genres(str(path)))
    assert [r.detail for r in rejected] == [
        "msd_tagtraum_CD1.cls:2: 3 genres; one or two, majority and minority, were expected",
        "msd_tagtraum_CD1.cls:3: no genre of TR3", "msd_tagtraum_CD1.cls:5: 'TR 4' is no track id"]
    assert tables["genres"]["track_id"].to_pylist() == ["TR1", "TR5"]
    other = make_msd_genres(tmp_path)
    (fault,) = read(open_genres(str(other)))[1]
    assert fault.detail == "msd_genre_dataset.txt:7: 4 values, but there are 6 columns"


@pytest.mark.parametrize(("name", "source"), [
    ("msd_tagtraum_cd2c.cls", "tagtraum_cd2c"), ("msd_tagtraum_CD1.cls", "tagtraum_cd1"),
    ("My own (2).cls", "my_own_2"), ("жанры.cls", "tagtraum"), ("cd2.cls.txt", "cd2")])
def test_the_source_is_the_files_name(name: str, source: str) -> None:
    assert source_of(name) == source


def test_a_renamed_zip_keeps_the_name_within(tmp_path: Path) -> None:
    moved = zipped(make_tagtraum(tmp_path)).rename(tmp_path / "download")
    assert rows(moved)[0]["source"] == "tagtraum_cd1"


@pytest.mark.parametrize(("content", "said"), [
    (b"", "empty but for comments"), (b"# nothing\n\n", "empty but for comments"),
    (b"artist,title\na,b\n", ":1: 'artist,title' names no track's genre"),
    (b"# x\nTR1\n", ":2: 'TR1' names no track's genre"),
    (b"%genre,track_id\n", "names no track's genre"), (b"genre,track_id\nrock\n", "names no track's genre"),
    (b"PK\x03\x04 but no zip", "damaged or cut short"), (b"\x89HDF\r\n\x1a\n", ":1: "),
])
def test_what_is_none_is_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "genres.cls"
    path.write_bytes(content)
    with pytest.raises(CatalogueError) as error:
        list(open_genres(str(path)).read())
    assert str(error.value).startswith(f"{path}") and said in str(error.value)
    assert str(error.value).isprintable()


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="is not a file"):
        open_genres(str(tmp_path))


def test_an_endless_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.cls"
    path.write_bytes(b"TR1\tRock\n" + b"x" * (3 * BLOCK_BYTES))
    with pytest.raises(CatalogueError, match=r"long.cls:2: a line of over 1 MB"):
        list(open_genres(str(path)).read())


def test_lines_across_blocks_and_of_windows_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "many.cls"
    ids = [f"TR{i:07d}" for i in range(60_000)]
    path.write_bytes(b"".join(b"%b\tRock\tFolk\r\n" % i.encode() for i in ids))
    assert path.stat().st_size > BLOCK_BYTES
    source = open_genres(str(path))
    tables, rejected = read(source)
    assert tables["genres"]["track_id"].to_pylist()[::2] == ids and not rejected
    assert set(tables["genres"]["name"].to_pylist()) == {"Rock", "Folk"}
    assert max(len(batch.columns["name"]) for batch in source.read() if isinstance(batch, Rows)) <= 20_001


# --- zips ---

def make_zip(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def test_a_zip_holds_one_text(tmp_path: Path) -> None:
    one = ("msd_tagtraum_cd2.cls", TAGTRAUM.encode())
    resource = ("__MACOSX/._msd_tagtraum_cd2.cls", b"\0")
    assert len(rows(make_zip(tmp_path / "a.zip", one, resource))) == 4
    for name, members in {"two.zip": (one, ("b.cls", b"TR1\tRock")), "none.zip": (resource,)}.items():
        with pytest.raises(CatalogueError, match=f"{name}: (2 files|no file) in it"):
            open_genres(str(make_zip(tmp_path / name, *members)))


def test_a_zip_that_explodes_is_refused(tmp_path: Path) -> None:
    bomb = make_zip(tmp_path / "bomb.zip", ("a.cls", b"TR1\tRock\n" + b"# x\n" * (16 << 20)))
    with pytest.raises(CatalogueError, match=r"bomb\.zip: refused, since it swells"):
        list(open_genres(str(bomb)).read())


# --- fuzz and truncation: rows, rejected lines or one clear error, whatever the bytes ---

def judge(path: Path) -> None:
    try:
        tables, rejected = read(open_genres(str(path)))
    except CatalogueError as error:
        assert str(error).startswith(str(path)) and str(error).isprintable()
        return
    assert all(r.detail.isprintable() and r.reason == "malformed" for r in rejected)
    for row in tables["genres"].to_pylist():
        assert row["track_id"] and row["name"] and row["weight"] in (1.0, 0.5)


def cuts(content: bytes) -> Callable[[Path], None]:
    def every(path: Path) -> None:
        for size in range(len(content)):
            path.write_bytes(content[:size])
            judge(path)
    return every


@each
def test_cut_anywhere(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    archive = zipped(path)
    cuts(path.read_bytes())(path)
    cuts(archive.read_bytes())(archive)


GARBAGE = st.one_of(st.binary(max_size=60), st.text(max_size=40).map(str.encode))


@each
@FUZZ
@given(at=st.integers(0, 400), junk=GARBAGE)
def test_fuzzed(make: Callable[[Path], Path], tmp_path: Path, at: int, junk: bytes) -> None:
    path = make(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:at] + junk + content[at + len(junk):])
    judge(path)


@FUZZ
@given(lines=st.lists(st.text(st.sampled_from('TRA1,"\t#%\r \x00é')), max_size=12), csv=st.booleans())
def test_fuzzed_lines(tmp_path: Path, lines: list[str], csv: bool) -> None:
    path = tmp_path / "fuzz.txt"
    head = MSD_GENRES.splitlines()[2] if csv else "TR1\tRock"
    path.write_text("\n".join([head, *lines]), newline="")
    judge(path)
