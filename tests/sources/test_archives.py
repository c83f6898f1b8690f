"""Archives as a stream: what is in them comes out whole, and what would do harm is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import random
import stat
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsong.errors import CatalogueError
from simsong.sources import archives
from simsong.sources.archives import Member, is_archive, members

JSON = frozenset({".json"})
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Noise, so that it packs badly and a cut at each kilobyte falls into it.
NOISE = {f"lastfm/A/{i}.json": random.Random(i).randbytes(3000 + i) for i in range(4)}
LONG = "/".join(["a folder with a long name"] * 9) + "/Ünï.json"


def tar(path: Path, files: dict[str, bytes], mode: str = "w", layout: int = tarfile.PAX_FORMAT,
        change: Callable[[tarfile.TarInfo], None] = lambda info: None) -> Path:
    with tarfile.open(path, mode, format=layout) as file:       # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            change(info)
            file.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


MAKERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "tar": tar,
    "tar.gz": lambda path, files: tar(path, files, "w:gz"),
    "tar.bz2": lambda path, files: tar(path, files, "w:bz2"),
    "gnu.tar": lambda path, files: tar(path, files, layout=tarfile.GNU_FORMAT),
    "zip": zipped,
    "stored.zip": lambda path, files: zipped(path, files, zipfile.ZIP_STORED),
}
each = pytest.mark.parametrize("kind", list(MAKERS))


def read(path: Path) -> dict[str, bytes]:
    return {member.name: member.content for member in members(path, JSON) if not member.problem}


@each
def test_all_that_is_wanted_comes_out_in_order(kind: str, tmp_path: Path) -> None:
    wanted = NOISE | {LONG: b"{}", "./B.JSON": b"[]", "empty.json": b""}
    more = {"notes.txt": b"x" * 1000, "A/._1.json": b"", ".hidden/2.json": b"", "inner.zip": b"PK\x03\x04"}
    path = MAKERS[kind](tmp_path / f"a.{kind}", more | wanted)
    assert is_archive(path)
    assert list(members(path, JSON)) == [Member(name, content) for name, content in wanted.items()]


@each
def test_nothing_wanted_in_it_is_one_line(kind: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path / f"a.{kind}", {"notes.txt": b"x"})
    with pytest.raises(CatalogueError, match=r"a\..*: there is no \.json file in it"):
        list(members(path, JSON))


@each
@pytest.mark.parametrize("name", ["/etc/a.json", "../a.json", "x/../../a.json", "..\\a.json", "C:\\a.json",
                                  "../notes.txt", ".."])
def test_names_that_leave_the_folder_are_refused(kind: str, name: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path / f"a.{kind}", {name: b"{}"})
    with pytest.raises(CatalogueError, match=r"refused, since its member .* leads out") as error:
        list(members(path, JSON))
    assert str(path) in str(error.value)
    assert name.rsplit("/", 1)[-1] in str(error.value).replace("\\\\", "\\")


def test_dots_that_stay_inside_are_names(tmp_path: Path) -> None:
    assert read(zipped(tmp_path / "a.zip", {"a/../b.json": b"1", "a..b/..c.json": b"2", "c.json": b"3"})) == {
        "c.json": b"3"}          # the others hold hidden parts, or a name that begins with dots


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
                                  tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, "/etc/passwd", 0
    with pytest.raises(CatalogueError, match=r"link or a device .*'a.json'"):
        list(members(tar(tmp_path / "a.tar", {"a.json": b""}, change=change), JSON))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_are_refused(kind: int, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a.json")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(CatalogueError, match=r"link or a device .*'a.json'"):
        list(members(tmp_path / "a.zip", JSON))


# --- explosions ---

def test_a_member_too_large_is_refused_whatever_its_header_says(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(1 << 20) * (archives.MEMBER_BYTES >> 20) + b"x"     # a byte too many
    for kind in ("tar", "stored.zip"):
        with pytest.raises(CatalogueError, match=r"more than 32 MB .*'big.json'"):
            list(members(MAKERS[kind](tmp_path / f"a.{kind}", {"big.json": noise}), JSON))
    lying = bytearray((tmp_path / "a.stored.zip").read_bytes())
    directory = lying.rfind(b"PK\x01\x02")
    struct.pack_into("<I", lying, directory + 24, 10)         # its unpacked size, as the directory has it
    (tmp_path / "lying.zip").write_bytes(lying)
    [member] = members(tmp_path / "lying.zip", JSON)          # no more is read, so its checksum is wrong
    assert member.problem and member.content == b""


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "zip"])
@pytest.mark.parametrize("wanted", [True, False])
def test_bombs_are_refused_early_and_in_little_memory(kind: str, wanted: bool, tmp_path: Path) -> None:
    name = "bomb.json" if wanted else "bomb.txt"
    files = {f"{i}{name}": bytes(30 << 20) for i in range(6)} | {"z.json": b""}
    bomb = MAKERS[kind](tmp_path / f"a.{kind}", files)
    assert bomb.stat().st_size < 300_000
    tracemalloc.start()
    try:
        if kind == "zip" and not wanted:
            assert read(bomb) == {"z.json": b""}              # what is not wanted is not unpacked
            return
        with pytest.raises(CatalogueError, match=rf"swells more than 100 times .*{name}"):
            list(members(bomb, JSON))
        assert tracemalloc.get_traced_memory()[1] < 3 * archives.MEMBER_BYTES
    finally:
        tracemalloc.stop()


def test_a_zip_whose_members_share_their_bytes_is_refused(tmp_path: Path) -> None:
    """As in D. Fifield's "A better zip bomb" (WOOT 2019): many entries of the directory, one packed body."""
    path = zipped(tmp_path / "one.zip", {"a.json": bytes(10 << 20)})
    raw = path.read_bytes()
    at = raw.rfind(b"PK\x01\x02")
    end = raw.rfind(b"PK\x05\x06")
    entry, tail = raw[at:end], bytearray(raw[end:])
    struct.pack_into("<HHI", tail, 8, 50, 50, 50 * len(entry))
    bomb = tmp_path / "bomb.zip"
    bomb.write_bytes(raw[:at] + 50 * entry + tail)
    assert len(zipfile.ZipFile(bomb).namelist()) == 50
    with pytest.raises(CatalogueError, match="swells"):
        list(members(bomb, JSON))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packing_that_python_cannot_bound_is_not_unpacked(method: int, tmp_path: Path) -> None:
    [member] = members(zipped(tmp_path / "a.zip", {"a.json": bytes(1 << 20)}, method), JSON)
    assert member.problem == f"compressed in a way that is not read ({method})"


def test_a_header_of_any_size_is_not_believed(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    (tmp_path / "pax.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))
    info.type, info.size = tarfile.REGTYPE, -5
    (tmp_path / "negative.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))
    for name, says in (("pax.tar", f"a header has {1 << 40} bytes"), ("negative.tar", "a member's size")):
        with pytest.raises(CatalogueError, match=says):
            list(members(tmp_path / name, JSON))


@pytest.mark.parametrize("record", [
    b"", b"5", b"5 ", b"0 a=b\n", b"-3 a=b\n", b"99 a=b\n", b" a=b\n", b"x a=b\n", b"1" * 5000, b"2 \n",
    b"6 a=b\n6 c=d\n", b"11 size=-5\n", b"11 size=xx\n", "11 size=²\n".encode(), b"12 size=9x9\n"])
def test_any_pax_header_ends(record: bytes, tmp_path: Path) -> None:
    header, member = tarfile.TarInfo("x"), tarfile.TarInfo("a.json")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    path = tmp_path / "a.tar"
    path.write_bytes(header.tobuf() + record + bytes(-len(record) % 512) + member.tobuf() + bytes(1024))
    try:
        assert read(path) == {"a.json": b""}
        assert record in (b"", b"6 a=b\n6 c=d\n")
    except CatalogueError as error:
        assert str(path) in str(error)


def test_many_headers_in_a_row_end(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    (tmp_path / "a.tar").write_bytes(header.tobuf() * 5000 + tarfile.TarInfo("a.json").tobuf() + bytes(1024))
    assert read(tmp_path / "a.tar") == {"a.json": b""}


def test_holes_are_refused(tmp_path: Path) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.pax_headers = {"GNU.sparse.major": "1"}
    path = tar(tmp_path / "a.tar", {"a.json": b"{}"}, change=change)
    with pytest.raises(CatalogueError, match="GNU sparse"):
        list(members(path, JSON))


# --- damage ---

@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "gnu.tar"])
def test_a_tar_cut_anywhere_is_one_clear_error(kind: str, tmp_path: Path) -> None:
    whole = MAKERS[kind](tmp_path / f"a.{kind}", NOISE).read_bytes()
    end = len(whole) if kind.endswith(("gz", "bz2")) else whole.rfind(next(reversed(NOISE.values()))[-9:]) + 9
    path = tmp_path / f"cut.{kind}"
    for length in {*range(0, end, 512), *range(1, end, 1024), end - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(CatalogueError, match=r"cut short|not an archive") as error:
            list(members(path, JSON))
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_tar_without_its_end_mark_is_cut_short(tmp_path: Path) -> None:
    """It ends between two members, which tarfile takes for the end of all."""
    raw = tar(tmp_path / "a.tar", {"a.json": b"x" * 512, "b.json": b"y" * 512}).read_bytes()
    (tmp_path / "a.tar").write_bytes(raw[:1024])
    with pytest.raises(CatalogueError, match="without a tar's end mark"):
        list(members(tmp_path / "a.tar", JSON))


def test_joined_tars_are_read_to_the_end(tmp_path: Path) -> None:
    """`cat a.tar.gz b.tar.gz`: the Million Song Dataset came as one archive a letter."""
    both = [tar(tmp_path / f"{i}.tar.gz", {f"{i}.json": b"{}"}, "w:gz").read_bytes() for i in range(2)]
    (tmp_path / "both.tar.gz").write_bytes(b"".join(both))
    assert list(read(tmp_path / "both.tar.gz")) == ["0.json", "1.json"]


def test_a_zip_cut_anywhere_is_one_clear_error(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "a.zip", NOISE).read_bytes()
    for length in {*range(0, len(whole), 1024), *range(len(whole) - 600, len(whole))}:
        (tmp_path / "cut.zip").write_bytes(whole[:length])
        with pytest.raises(CatalogueError, match=r"cut short|not an archive"):
            list(members(tmp_path / "cut.zip", JSON))


def test_one_damaged_member_of_a_zip_leaves_the_rest(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", NOISE)
    raw = bytearray(path.read_bytes())
    names = list(NOISE)
    middle = raw.find(NOISE[names[1]][1000:1010])
    raw[middle] ^= 0xFF
    path.write_bytes(raw)
    files = list(members(path, JSON))
    assert [member.name for member in files] == names
    assert [bool(member.problem) for member in files] == [False, True, False, False]
    assert "damaged" in str(files[1].problem)
    assert all(m.content == NOISE[m.name] for m in files if not m.problem)


def test_a_password_is_a_problem_of_its_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.json": b"{}", "b.json": b"[]"})
    raw = bytearray(path.read_bytes())
    raw[raw.find(b"PK\x03\x04") + 6] |= 1                  # the flag "encrypted", in both headers of a.json
    raw[raw.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    a, b = members(path, JSON)
    assert a.problem and "password" in a.problem
    assert b.content == b"[]"


@each
@given(data=st.data())
@FUZZ
def test_any_damage_is_members_or_one_clear_error(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    if not path.exists():
        MAKERS[kind](path, {"a/1.json": b'{"a": 1}' * 30, LONG: b"[]", "c.txt": b"no"})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at:at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=8))
    damaged = tmp_path / f"damaged.{kind}"
    damaged.write_bytes(raw)
    try:
        assert all(len(member.content) < 1000 for member in members(damaged, JSON))
    except CatalogueError as error:
        assert str(damaged) in str(error)


@given(content=st.binary(max_size=300), start=st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9"]),
       packed=st.sampled_from([bytes, gzip.compress, bz2.compress, zlib.compress]))
@FUZZ
def test_any_bytes_are_no_archive(content: bytes, start: bytes, packed: Callable[[bytes], bytes],
                                  tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(start + packed(content))
    with pytest.raises(CatalogueError, match="archive"):
        list(members(path, JSON))


def test_what_is_no_file_is_one_clear_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")                           # opening it would wait for ever
    (tmp_path / "empty").touch()
    for name, says in (("absent", "no such file"), ("pipe", "not a file"), ("empty", "not an archive"),
                       ("", "not a file")):
        assert not is_archive(tmp_path / name)
        with pytest.raises(CatalogueError, match=says):
            list(members(tmp_path / name, JSON))
