"""Archives as a stream: what is in them comes out whole, and what would do harm is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import os
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
NOISE = {f"lastfm/A/{i}.json": os.urandom(3000 + i) for i in range(4)}
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
    with pytest.raises(CatalogueError, match="refused, since its member .* leads out") as error:
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
    with pytest.raises(CatalogueError, match="link or a device .*'a.json'"):
        list(members(tar(tmp_path / "a.tar", {"a.json": b""}, change=change), JSON))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_are_refused(kind: int, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a.json")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(CatalogueError, match="link or a device .*'a.json'"):
        list(members(tmp_path / "a.zip", JSON))
