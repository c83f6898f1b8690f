"""One conformance suite for all adapters, and what they share. What each promises alone: test_adapters."""

from __future__ import annotations

import os
import sqlite3
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsong.config import SourcesSettings
from simsong.errors import REASONS, CatalogueError
from simsong.sources import SOURCES, open_sources
from simsong.sources.base import COLUMNS, TRACK_ID, RowBatches, Source, number, text, walk, year_of
from storage.tables import TABLES, conform
from tests.source_files import (
    MISMATCHES,
    TRACKS_PER_YEAR,
    UNIQUE_TRACKS,
    add_rows,
    add_songs,
    h5,
    lastfm_json,
    make_csv,
    make_folder,
    make_lastfm,
    make_lastfm_similars,
    make_lastfm_tags,
    make_lastfm_zip,
    make_msd,
    make_msd_archive,
    make_msd_genres,
    make_msd_list,
    make_msd_summary,
    make_musixmatch,
    make_musixmatch_db,
    make_parquet,
    make_tagtraum,
    make_track_metadata,
    pack_msd,
    read,
    sound,
    zipped,
)


@dataclass(frozen=True)
class Case:
    source: str
    make: Callable[[Path], Path]
    songs: int
    rejected: dict[str, int]
    change: Callable[[Path], object]        # adds a song at the path that `make` gave
    table: str = "tracks"                   # where its songs are

    def open(self, root: Path) -> tuple[Source, Path]:
        """The source, and the path it reads."""
        path = self.make(root)
        return SOURCES[self.source](str(path)), path


def one_more(path: Path, line: str) -> None:
    path.write_text(path.read_text() + line)


def one_more_count(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO lyrics VALUES ('TRNEWXX128F0000007', 1, 'i', 1, 0)")


def zip_again(path: Path) -> None:
    """The same with another track in it."""
    text = path.with_suffix("")
    one_more(text, "TRNEWXX128F0000007,103,1:1\n")
    zipped(text)


def add_lastfm_member(path: Path) -> None:
    new = lastfm_json(path.parent / "TRNEW.json", "TRNEW")
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(new, "lastfm_train/TRNEW.json")


def add_msd_member(path: Path) -> None:
    h5(path.parent / "msd" / "new.h5", "TRNEWXX128F0000007")
    pack_msd(path)


def append(path: Path) -> None:
    path.write_text(path.read_text() + "New,Song,,,,,\n")


def replace_parquet(path: Path) -> None:
    pq.write_table(pa.table({"artist": ["New"], "title": ["Song"]}), path)


CASES = {
    "folder": Case("folder", make_folder, 4, {"malformed": 1}, lambda p: sound(p / "new.wav")),
    "csv": Case("table", make_csv, 2, {"malformed": 3, "no_title": 2}, append),
    "parquet": Case("table", make_parquet, 2, {"malformed": 1, "no_title": 1}, replace_parquet),
    "msd": Case("msd", make_msd, 2, {"malformed": 3}, lambda p: h5(p / "new.h5", "TRNEWXX128F0000007")),
    "msd.tar.gz": Case("msd", make_msd_archive, 2, {"malformed": 3}, add_msd_member),
    "msd_summary_file": Case("msd", make_msd_summary, 2, {"malformed": 1}, lambda p: make_msd_summary(
        p.parent, ("TR0", "TR1", "TRNEW", "not/one"))),
    "track_metadata": Case("msd", make_track_metadata, 2, {"malformed": 2}, lambda p: add_songs(
        p, [("TRNEWXX128F0000007", "New", None, None, None, "Gob", 1.0, 0)])),
    "unique_tracks": Case("msd", lambda root: make_msd_list(root, UNIQUE_TRACKS), 2, {"malformed": 2},
                          lambda p: one_more(p, "TRNEWXX128F0000007<SEP>SONEW<SEP>Gob<SEP>New\n")),
    "tracks_per_year": Case("msd", lambda root: make_msd_list(root, TRACKS_PER_YEAR), 2, {"malformed": 2},
                            lambda p: one_more(p, "1999<SEP>TRNEWXX128F0000007<SEP>Gob<SEP>New\n")),
    "mismatches": Case("msd", lambda root: make_msd_list(root, MISMATCHES), 2, {"malformed": 1},
                       lambda p: one_more(p, "ERROR: <SONEW TRNEWXX128F0000007> x\n"), "mismatches"),
    "lastfm": Case("lastfm", make_lastfm, 2, {"malformed": 2}, lambda p: lastfm_json(p / "n.json", "TRNEW")),
    "lastfm_train.zip": Case("lastfm", make_lastfm_zip, 2, {"malformed": 2}, add_lastfm_member),
    "lastfm_similars": Case("lastfm", make_lastfm_similars, 2, {"malformed": 2}, lambda p: add_rows(
        p, "similars_src", [("TRNEWXX128F0000007", "TRAAAAA128F0000001,1")]), "similars"),
    "lastfm_tags": Case("lastfm", make_lastfm_tags, 2, {"malformed": 1},
                        lambda p: add_rows(p, "tid_tag", [(3, 1, 50.0)]), "tags"),
    "tagtraum": Case("genres", make_tagtraum, 3, {"malformed": 2},
                     lambda p: one_more(p, "TRNEWXX128F0000007\tJazz\n"), "genres"),
    "msd genres": Case("genres", make_msd_genres, 3, {"malformed": 1},
                       lambda p: one_more(p, "folk,TRNEWXX128F0000007,New,Song,-1,90\n"), "genres"),
    "musixmatch": Case("musixmatch", make_musixmatch, 3, {"malformed": 2},
                       lambda p: one_more(p, "TRNEWXX128F0000007,103,1:1\n"), "words"),
    "musixmatch.zip": Case("musixmatch", lambda root: zipped(make_musixmatch(root)), 3, {"malformed": 2},
                           zip_again, "words"),
    "mxm_dataset.db": Case("musixmatch", make_musixmatch_db, 3, {"malformed": 2}, one_more_count, "words"),
}
each = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


# --- the conformance suite ---

def test_every_source_has_a_case_and_a_configuration_key() -> None:
    """But for a music server, which is no path: test_subsonic_source holds it to the same."""
    paths = set(SOURCES) - {"subsonic"}
    assert {case.source for case in CASES.values()} == paths
    assert set(SOURCES) == set(SourcesSettings.model_fields)


@each
def test_gives_its_songs_and_rejects_the_rest(case: Case, tmp_path: Path) -> None:
    source, _ = case.open(tmp_path)
    tables, rejected = read(source)
    ids = tables[case.table]["track_id"].to_pylist()
    assert len(set(ids)) == case.songs
    assert all(TRACK_ID.fullmatch(i) for i in [*ids, *(r.track_id for r in rejected)])
    assert source.name == case.source
    if "tracks" in tables:
        assert len(ids) == case.songs
        assert set(tables["tracks"]["source"].to_pylist()) == {source.name}
    assert Counter(r.reason for r in rejected) == case.rejected
    assert case.rejected.keys() <= REASONS.keys()
    assert all(r.detail and r.detail.isprintable() for r in rejected)


@each
def test_rows_fit_the_declared_tables(case: Case, tmp_path: Path) -> None:
    tables, _ = read(case.open(tmp_path)[0])
    for name, table in tables.items():
        assert tuple(table.column_names) == COLUMNS[name]
        if name == "mismatches":        # they are used up when catalogues are joined
            continue
        assert set(COLUMNS[name]) == set(TABLES[name].schema.names) - {"shard", "duplicate_of"}
        if name == "tracks":
            table = table.append_column("shard", pa.array([0] * table.num_rows))
        assert conform(TABLES[name], table).num_rows == table.num_rows


@each
def test_reading_again_gives_the_same(case: Case, tmp_path: Path) -> None:
    source, path = case.open(tmp_path)
    assert list(source.read()) == list(source.read()) == list(SOURCES[case.source](str(path)).read())


@each
def test_fingerprint_changes_with_what_is_read_and_only_then(case: Case, tmp_path: Path) -> None:
    source, path = case.open(tmp_path)
    before = source.fingerprint()
    songs_before = read(source)[0][case.table]["track_id"].to_pylist()
    (tmp_path / "notes.md").write_text("nothing to do with it")
    assert source.fingerprint() == before
    case.change(path)
    assert source.fingerprint() != before
    assert read(source)[0][case.table]["track_id"].to_pylist() != songs_before


@each
def test_a_file_touched_is_a_file_changed(case: Case, tmp_path: Path) -> None:
    source, path = case.open(tmp_path)
    before = source.fingerprint()
    kinds = (".mp3", ".h5", ".json")
    file = path if path.is_file() else next(p for p in sorted(path.rglob("*")) if p.suffix in kinds)
    os.utime(file, ns=(1, 1))
    assert source.fingerprint() != before


@each
def test_a_path_that_leads_nowhere_is_one_line(case: Case, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="no such") as error:
        SOURCES[case.source](str(tmp_path / "absent"))
    assert str(tmp_path / "absent") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"subsonic"}))
def test_an_empty_place_is_refused(name: str, tmp_path: Path) -> None:
    place = tmp_path / "empty"
    if name == "table":
        place.write_text("artist,title\n")
    elif name in ("genres", "musixmatch"):
        place.write_text("# a comment\n")
    else:
        place.mkdir()
    with pytest.raises(CatalogueError, match="empty"):
        list(SOURCES[name](str(place)).read())
    if place.is_dir():
        source = SOURCES[name](str(place))
        with pytest.raises(CatalogueError, match="empty"):
            source.fingerprint()


def test_sources_open_in_one_order(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("artist,title\na,b\n")
    at = str(tmp_path)
    given = SourcesSettings(folder=(at,), table=(str(table),), lastfm=(at,), msd=(at,))
    assert [source.name for source in open_sources(given)] == ["msd", "lastfm", "table", "folder"]
    assert open_sources(SourcesSettings()) == []


def test_batches_are_bounded() -> None:
    batches = RowBatches("x", rows=3)
    given_out = [len(rows.columns["track_id"]) for i in range(7)
                 for rows in (batches.track(track_id=str(i)), list(batches.full()))[1]]
    assert given_out == [3, 3]
    assert [rows.columns["track_id"] for rows in batches.rest()] == [["6"]]


# --- text, numbers, files ---

@pytest.mark.parametrize(("raw", "clean"), [
    ("  two   spaces\n", "two spaces"), (b"Caf\xc3\xa9", "Café"), (b"Caf\xe9", "Caf\ufffd"),
    ("Don\x19t \x13 go", "Don’t – go"), ("Don\x92t", "Don’t"), ("a\x00b\x07", "a b"), ("Cafe\u0301", "Café"),
    ("R&amp;B &quot;x&quot;", 'R&B "x"'), ("AT&T; R&B", "AT&T; R&B"), ("\ufeffx\u200b", "x"),
    ("bad \ud800", "bad \ufffd"), ("", None), (" \x01 ", None), (None, None), ([], None), (True, None),
    (float("nan"), None), (1999, "1999"),
])
def test_text(raw: object, clean: str | None) -> None:
    assert text(raw) == clean


@given(st.text())
def test_text_is_one_clean_line(raw: str) -> None:
    clean = text(raw)
    if clean is not None:
        assert clean == clean.strip() != ""
        assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in clean)
        clean.encode()


def test_numbers_and_years() -> None:
    assert [number(v) for v in ("1.5", 2)] == [1.5, 2.0]
    assert not any(number(v) for v in (-1, "nan", "inf", None, "x", True, 10**400))
    assert [year_of(v) for v in (1969, 0, "2012-03-06 09:55:00", "20110809", "12345", "c. 1984!", None)] == [
        1969, None, 2012, 2011, None, 1984, None]
    assert [year_of(v) for v in (9999, -1999, "-1999", b"-2001-01-01", 2**31 - 1)] == [None] * 5


def test_walk_is_sorted_and_survives_links_and_pipes(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for name in ("b/2.mp3", "b/1.MP3", "a/3.mp3", "z.mp3", "b/no.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    outside.mkdir()
    (outside / "4.mp3").write_text("4")
    (root / "a" / "up").symlink_to(root)                # a loop
    (root / "0 same as b").symlink_to(root / "b")       # inside: found anyway, under its own name
    (root / "c").symlink_to(outside)
    (root / "d").symlink_to(outside)                    # again
    (outside / "back").symlink_to(root)
    os.mkfifo(root / "pipe.mp3")                        # opening it would wait for ever
    (root / "self.mp3").symlink_to(root / "self.mp3")
    files = list(walk(root, frozenset({".mp3"})))
    assert [f.relative for f in files if not f.problem] == [
        "z.mp3", "a/3.mp3", "b/1.MP3", "b/2.mp3", "c/4.mp3"]
    assert [f.relative for f in files if f.problem] == ["self.mp3"]
    assert files[1].size == len("z.mp3")
