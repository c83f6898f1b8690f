"""Last.fm's JSON, in folders and archives: fields, what is believed, and what becomes of damage."""

from __future__ import annotations

import json
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsong.errors import REASONS, CatalogueError
from simsong.sources import SOURCES
from simsong.sources.base import TRACK_ID
from simsong.sources.lastfm.files import FILE_BYTES, JsonFiles, LastfmFileMalformed, parse
from simsong.sources.lastfm.pairs import apart, careful_values, pairs_of_values
from simsong.sources.lastfm.tags import clean_tag
from tests.source_files import lastfm_json, make_lastfm, read

DATA = Path(__file__).parents[2].parent / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not on this machine")
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def zipped(folder: Path, path: Path) -> Path:
    """A zip of a folder's files below "lastfm_train/", as the real ones are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member in sorted(folder.rglob("*.json")):
            file.write(member, "lastfm_train/" + str(member.relative_to(folder)))
    return path


def tarred(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as file:
        file.add(folder, "lastfm_subset")
    return path


def test_pairs_and_tags(tmp_path: Path) -> None:
    lastfm_json(
        tmp_path / "x.json", "TRX",
        similars=[["TRA", 1], ["TRX", 0.9], ["TRB", 0.5], ["TRB", 0.4], ["TRC", 1.5], ["TRD", -0.1],
                  ["../e", 0.1], ["TRF", None], ["TRG"], "TRH", ["TRI", float("nan")], [7, 0.5],
                  ["TRJ", True], ["TRK", "0.25"]],
        tags=[["rock", "100"], ["rock", "50"], ["  Hard\tRock ", 40], ["", "3"], ["punk", "101"],
              ["indie", "-1"], ["jazz", "0"], [1, 2], ["Hip-Hop", "20"], ["hiphop", "30"],
              ["seen live", "9"]])
    source = JsonFiles(str(tmp_path))
    tables, rejected = read(source)
    assert rejected == []
    assert tables["similars"].to_pylist() == [
        {"track_id": "TRX", "similar_id": "TRA", "score": 1.0},
        {"track_id": "TRX", "similar_id": "TRB", "score": 0.5},
        {"track_id": "TRX", "similar_id": "TRK", "score": 0.25}]
    assert [(tag["name"], round(tag["weight"], 3)) for tag in tables["tags"].to_pylist()] == [
        ("rock", 1.0), ("hard rock", 0.4), ("jazz", 0.0), ("hip hop", 0.3)]
    # of 14 pairs 3 are good; of 11 tags 6, two of which are doubles of others
    assert source.left_out == {"pairs": 11, "tags": 5}


def test_lists_in_order_and_odd_ones_mixed(tmp_path: Path) -> None:
    """Thirty songs, each with two good pairs; every seventh has an odd third."""
    for n in range(30):
        similars: list[Any] = [[f"TRAAAAA128F{n:07X}", 1], [f"TRBBBBB128F{n:07X}", 0.5]]
        lastfm_json(tmp_path / f"{n:02}.json", f"TRSONGS128F{n:07X}",
                    similars=[*similars, "no pair"] if n % 7 == 0 else similars)
    source = JsonFiles(str(tmp_path))
    tables, _ = read(source)
    assert tables["similars"].to_pylist() == [
        {"track_id": f"TRSONGS128F{n:07X}", "similar_id": f"TR{letter * 5}128F{n:07X}", "score": score}
        for n in range(30) for letter, score in (("A", 1.0), ("B", 0.5))]
    assert source.left_out["pairs"] == 5


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"null", b'{"artist": "x"}', b'{"track_id": 7}', b'{"track_id": "a/b"}',
    b'{"track_id": "\\ud800"}', b"\xff\xfe\x00", b"[" * 100_000, b'{"track_id": ' + b"1" * 5000 + b"}",
    b'{"track_id": "TRX", "title": "' + b"x" * FILE_BYTES + b'"}',
])
def test_malformed(content: bytes) -> None:
    with pytest.raises(LastfmFileMalformed) as error:
        parse(content)
    assert str(error.value).isprintable()


def test_archives_give_what_their_folder_gives(tmp_path: Path) -> None:
    folder = make_lastfm(tmp_path / "json")
    given_by_folder = read(SOURCES["lastfm"](str(folder)))
    for path in (zipped(folder, tmp_path / "lastfm_train.zip"), tarred(folder, tmp_path / "subset.tar.gz")):
        tables, rejected = read(SOURCES["lastfm"](str(path)))
        for name, table in tables.items():
            rows, wanted = table.to_pylist(), given_by_folder[0][name].to_pylist()
            assert sorted(map(str, rows)) == sorted(map(str, wanted))
        assert sorted(r.track_id for r in rejected) == sorted(r.track_id for r in given_by_folder[1])
        assert all(r.detail.startswith(path.name + "/lastfm_") for r in rejected)


def test_form_is_known_by_content(tmp_path: Path) -> None:
    archive = zipped(make_lastfm(tmp_path / "json"), tmp_path / "archive")
    assert isinstance(SOURCES["lastfm"](str(archive)), JsonFiles)
    (tmp_path / "lastfm_train.zip").write_bytes(b"nothing of the kind")
    for path in (tmp_path / "lastfm_train.zip", tmp_path / "absent"):
        with pytest.raises(CatalogueError, match=r"a folder, \.zip or \.tar\.gz of Last") as error:
            SOURCES["lastfm"](str(path))
        assert str(path) in str(error.value)


def test_fingerprint_of_an_archive(tmp_path: Path) -> None:
    archive = zipped(make_lastfm(tmp_path / "json"), tmp_path / "a.zip")
    source = SOURCES["lastfm"](str(archive))
    before = source.fingerprint()
    assert source.fingerprint() == before
    os.utime(archive, ns=(1, 1))
    assert source.fingerprint() != before


def test_a_damaged_member_is_rejected_alone(tmp_path: Path) -> None:
    archive = zipped(make_lastfm(tmp_path / "json"), tmp_path / "a.zip")
    whole = read(SOURCES["lastfm"](str(archive)))[0]["tracks"].num_rows
    content = bytearray(archive.read_bytes())
    at = content.index(b"lastfm_train/A/TRAAAAA128F0000001.json") + 80
    content[at] ^= 0xFF
    archive.write_bytes(content)
    tables, rejected = read(SOURCES["lastfm"](str(archive)))
    assert tables["tracks"].num_rows == whole - 1
    assert any(r.track_id == "TRAAAAA128F0000001" and "damaged" in r.detail for r in rejected)


def test_an_archive_cut_short_is_refused(tmp_path: Path) -> None:
    folder = make_lastfm(tmp_path / "json")
    for path in (zipped(folder, tmp_path / "a.zip"), tarred(folder, tmp_path / "a.tar.gz")):
        content = path.read_bytes()
        for length in range(len(content) - 1, 1, -29):
            path.write_bytes(content[:length])
            with pytest.raises(CatalogueError, match=r"cut short|damaged|expected"):
                list(SOURCES["lastfm"](str(path)).read())


def test_a_file_cut_anywhere_is_rejected_or_whole(tmp_path: Path) -> None:
    content = lastfm_json(tmp_path / "TRX.json", "TRX").read_bytes()
    for length in range(len(content)):
        with pytest.raises(LastfmFileMalformed):
            parse(content[:length])


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12)
IDS = st.sampled_from(["TRX", "TRA", "TRB", "", "x y", "TRAAAAA128F0000001", "TRAAAAA128F0000002",
                       "-RAAAAA128F0000003", "TRSÅNGS128F0000000", "TRSONGS128F0000000"])
SCORES = st.sampled_from([0, 1, 0.5, 0.0123456, 1.0000001, -0.0, 1e-300]) | st.floats() | st.text(max_size=4)
PAIRS = st.lists(st.tuples(IDS, SCORES).map(list) | JSON, max_size=8)
RECORDS = st.fixed_dictionaries(
    {"track_id": st.sampled_from(["TRX", "TRSONGS128F0000000"]) | JSON, "artist": JSON,
     "similars": PAIRS | JSON, "tags": PAIRS | JSON})


@given(values=st.lists(JSON | RECORDS, max_size=5))
@FUZZ
def test_any_json_gives_usable_rows_or_is_rejected(tmp_path: Path, values: list[Any]) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for n, value in enumerate(values):
            file.writestr(f"{n}.json", json.dumps(value))
        file.writestr("last.json", '{"track_id": "TRLAST"}')
    tables, rejected = read(SOURCES["lastfm"](str(tmp_path / "x.zip")))
    assert tables["tracks"].num_rows + len(rejected) == len(values) + 1
    assert all(r.reason in REASONS and r.detail.isprintable() for r in rejected)
    for row in tables["similars"].to_pylist() if "similars" in tables else []:
        assert TRACK_ID.fullmatch(row["track_id"])
        assert TRACK_ID.fullmatch(row["similar_id"])
        assert row["track_id"] != row["similar_id"]
        assert 0 <= row["score"] <= 1
    for row in tables["tags"].to_pylist() if "tags" in tables else []:
        assert clean_tag(row["name"]) == row["name"]
        assert 0 <= row["weight"] <= 1


@given(st.lists(st.tuples(IDS, st.lists(st.tuples(IDS, SCORES).map(list) | JSON, max_size=6)), max_size=40))
@FUZZ
def test_the_quick_way_gives_what_the_careful_one_does(lists: list[tuple[str, list[Any]]]) -> None:
    owners, values = [owner for owner, _ in lists], [apart(each) for _, each in lists]
    others_read = [other for pairs in pairs_of_values(owners, values) for other in pairs.others.to_pylist()]
    assert others_read == [other for owner, each in lists for other in careful_values(owner, apart(each))[0]]


@real_data
def test_real_files() -> None:
    tables, rejected = read(SOURCES["lastfm"](str(DATA / "lastfm")))
    files = [json.loads(p.read_text()) for p in sorted((DATA / "lastfm").rglob("*.json"))]
    assert rejected == []
    assert tables["tracks"]["title"].to_pylist() == ["Amor De Cabaret", "Face the Ashes"]
    assert tables["similars"].num_rows == sum(len(f["similars"]) for f in files) == 167
    assert [(t["track_id"], t["name"], round(t["weight"], 3)) for t in tables["tags"].to_pylist()] == [
        ("TRAAADZ128F9348C2E", "latin", 1.0), ("TRAAAFD128F92F423A", "punk rock", 1.0),
        ("TRAAAFD128F92F423A", "punk", 0.6)]
