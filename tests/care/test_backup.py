"""A store as one archive, and back: the same store, or none."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from simsong.care.backup import ABOUT, backup, restore
from simsong.care.verify import verify
from simsong.config import Config
from simsong.errors import BackupError, StoreError
from storage.store import MARK, Store
from tests.small_world import configured, contents, refresh, write_song


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Config:
    root = tmp_path_factory.mktemp("backup")
    for name in ("ann", "bob", "cid"):
        write_song(root / "music", name)
    config = configured(root / "music", root / "store", pretrained={"network": "none"})
    refresh(config)
    with Store.writing(config.store) as store:
        store.put("audio/00/T1.mp3", b"sound" * 1000)
        store.put("serving/stations/evening.json", b"{}")
    return config


def archived(config: Config, file: Path, audio: bool = False) -> Path:
    with Store.writing(config.store) as store:
        backup(store, file, audio=audio)
    return file


@pytest.mark.parametrize("audio", [False, True])
def test_a_restored_store_is_the_same(made: Config, tmp_path: Path, audio: bool) -> None:
    file = archived(made, tmp_path / "store.tar", audio)
    restore(file, str(tmp_path / "again"))
    again = made.model_copy(update={"store": str(tmp_path / "again")})
    store = Store.open(again.store)
    assert contents(store) == contents(Store.open(made.store))
    assert list(verify(store, again)) == []
    assert bool(store.backend.list("audio")) is audio
    assert store.backend.list("serving") == ["serving/stations/evening.json"], "what people left there"
    assert refresh(again) == set(), "nothing is computed"


def test_what_is_there_is_never_replaced(made: Config, tmp_path: Path) -> None:
    file = archived(made, tmp_path / "store.tar")
    with pytest.raises(BackupError, match="is there already"):
        archived(made, file)
    with pytest.raises(BackupError, match="there is a store there"):
        restore(file, made.store)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(BackupError, match="folder of other things"):
        restore(file, str(tmp_path / "other"))
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_an_archive_that_was_cut_short_makes_no_store(made: Config, tmp_path: Path, share: float) -> None:
    whole = archived(made, tmp_path / "store.tar").read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[:int(share * whole.rindex(b'"files"'))])
    target = str(tmp_path / "again")
    with pytest.raises(BackupError):
        restore(cut, target)
    with pytest.raises(StoreError, match="there is no store there"):
        Store.open(target)
    restore(tmp_path / "store.tar", target)         # done again, it is taken up
    assert contents(Store.open(target)) == contents(Store.open(made.store))
    assert not (Path(target) / "restoring.json").exists()


def test_a_flipped_bit_makes_no_store(made: Config, tmp_path: Path) -> None:
    data = bytearray(archived(made, tmp_path / "store.tar").read_bytes())
    at = data.index(b"PAR1") + 200
    data[at] ^= 1
    (tmp_path / "store.tar").write_bytes(data)
    with pytest.raises(BackupError, match="is not as it was written"):
        restore(tmp_path / "store.tar", str(tmp_path / "again"))
    with pytest.raises(StoreError, match="there is no store there"):
        Store.open(str(tmp_path / "again"))


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "tables/../../evil", "lease/0000000009", "tmp/x",
                                  "store.json", "tables//x", "tables/x\n"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "evil.tar"
    with tarfile.open(file, "w") as archive:
        about = json.dumps({"store": {"format": 1}, "files": {}}).encode()
        for key, data in ((name, b"evil"), (ABOUT, about)):
            member = tarfile.TarInfo(key)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with pytest.raises(BackupError, match="nothing that a store holds"):
        restore(file, str(tmp_path / "again"))
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    file = tmp_path / "evil.tar"
    with tarfile.open(file, "w") as archive:
        member = tarfile.TarInfo("tables/tracks/00000.parquet")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(BackupError, match="nothing that a store holds"):
        restore(file, str(tmp_path / "again"))


def test_a_store_of_a_newer_format_is_one_clear_line(made: Config, tmp_path: Path) -> None:
    shutil.copytree(made.store, tmp_path / "store")
    for mark, said in (('{"format": 9}', "a store of format 9, and this version of simsong reads up to 1"),
                       ("{", "is damaged"), ("[]", "is damaged"), ('{"format": "1"}', "is damaged")):
        (tmp_path / "store" / MARK).write_text(mark)
        with pytest.raises(StoreError, match=said):
            Store.open(str(tmp_path / "store"))
        with pytest.raises(StoreError, match=said), Store.writing(str(tmp_path / "store")):
            pytest.fail("opened")
