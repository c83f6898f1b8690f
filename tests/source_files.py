"""Small files of every source, made for tests, and how to read a source into tables."""

from __future__ import annotations

import json
import sqlite3
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import mutagen
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from simsong.records import Rejected, Rows
from simsong.sources.base import Source


def sound(path: Path, seconds: float = 0.5, **tags: str) -> Path:
    """A quiet tone with tags, in the format that the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.1 * np.sin(np.arange(int(22050 * seconds)) * 0.1)
    soundfile.write(path, tone, 22050)
    if tags:
        file = mutagen.File(path, easy=True)        # pyright: ignore[reportPrivateImportUsage]
        assert file is not None
        if file.tags is None:
            file.add_tags()
        for name, value in tags.items():
            file[name] = value
        file.save()
    return path


META = np.dtype([("artist_name", "S64"), ("title", "S64"), ("release", "S64"), ("song_id", "S32"),
                 ("artist_id", "S32")])
ANALYSIS = np.dtype([("duration", "f8"), ("end_of_fade_in", "f8"), ("start_of_fade_out", "f8"),
                     ("track_id", "S32")])


def h5(path: Path, track_id: str = "TRAAAAA128F0000001", *, artist: bytes = b"Gob",
       title: bytes = b"Face the Ashes", artist_id: bytes = b"ARGOB", year: int = 2007,
       terms: tuple[bytes, ...] = (b"punk", b"pop punk"),
       similar: tuple[bytes, ...] = (b"ARSUM41", b"ARNOFX"),
       timbre: Sequence[Sequence[float]] = ([1.0] * 12, [3.0] * 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["metadata/songs"] = np.array([(artist, title, b"Foot in Mouth", b"SOGOB", artist_id)], META)
        file["metadata/artist_terms"] = np.array(terms, "S256")
        file["metadata/artist_terms_freq"] = np.linspace(1, 0.5, len(terms))
        file["metadata/artist_terms_weight"] = np.linspace(0.8, 0.4, len(terms))
        file["metadata/similar_artists"] = np.array(similar, "S20")
        file["analysis/songs"] = np.array([(150.5, 0.148, 137.9, track_id.encode())], ANALYSIS)
        file["analysis/segments_timbre"] = np.array(timbre, "f8").reshape(-1, 12)
        file["musicbrainz/songs"] = np.array([(year,)], [("year", "i4")])
    return path


def lastfm_json(path: Path, track_id: str = "TRAAAAA128F0000001", **more: Any) -> Path:
    record = {"artist": "Gob", "title": "Face the Ashes", "timestamp": "2011-08-09 01:59:41.352247",
              "similars": [["TRAAAAB128F0000002", 1], ["TRAAAAC128F0000003", 0.25]],
              "tags": [["punk rock", "100"], ["punk", "60"]], "track_id": track_id}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record | more))
    return path


def make_folder(root: Path) -> Path:
    sound(root / "Gob" / "Ashes.mp3", artist="Gob", title="Face the Ashes", genre="Punk; Rock", date="2007-4")
    sound(root / "Gob" / "03 - Untagged.ogg")
    sound(root / "loose - song.wav")
    (root / "Gob" / "Ashes.lrc").write_text("[00:01.00]la")
    (root / "Gob" / "broken.mp3").write_bytes(b"ID3\x04\x00\x00\xff\xff" + bytes(range(256)) * 4)
    (root / "Gob" / "cover.jpg").write_bytes(b"\xff\xd8\xff")
    (root / ".hidden").mkdir()
    sound(root / ".hidden" / "secret.wav")
    sound(root / ".also hidden.wav")
    (root / "Gob" / "loop").symlink_to(root)
    (root / "gone.flac").symlink_to(root / "nowhere.flac")
    return root


CSV = """Artist,TITLE,track_id,year,Duration_s,url,genre
Gob,Face the Ashes,,2007,150.5,https://example.org/1,punk
gob,face  the ashes,,,,,
,Nobody's,,,,,
Someone,,S1,,,,
Someone,Else,../etc,,,,
"Comma, The",Song,id-1,0,-3,,
Ragged,Row,a,2000,1,,rock,one,two
"""


def make_csv(root: Path) -> Path:
    (root / "songs.csv").write_text(CSV)
    return root / "songs.csv"


def make_parquet(root: Path) -> Path:
    pq.write_table(pa.table({"title": ["A", None, "B", "B"], "ARTIST": ["X", "X", "Y", "y "],
                             "year": [1999, 0, None, 1], "plays": [1, 2, 3, 4]}), root / "songs.parquet")
    return root / "songs.parquet"


def make_msd(root: Path) -> Path:
    h5(root / "A" / "A" / "TRAAAAA128F0000001.h5")
    h5(root / "A" / "B" / "TRAAAAB128F0000002.h5", "TRAAAAB128F0000002", title=b"Don\x19t", year=0)
    h5(root / "A" / "C" / "copy.h5")
    with h5py.File(root / "TREMPTY128F0000009.h5", "w") as file:
        file["default"] = np.zeros(3)
    (root / "TRBROKE128F0000008.h5").write_bytes(b"no HDF5 at all")
    return root


MSD_SONGS = [
    ("TRAAAAA128F0000001", "Face the Ashes", "SOGOB", "Foot in Mouth", "ARGOB", "Gob", 150.5, 2007),
    ("TRAAAAB128F0000002", "Don\x19t", "SOGOC", None, "ARGOB", "Gob", 0, 0),
    ("../etc", "Ashes", "SOGOD", "Foot in Mouth", "ARGOB", "Gob", 150.5, 2007),
    (None, "Ashes", "SOGOE", "Foot in Mouth", "ARGOB", "Gob", 150.5, 2007),
]


def make_track_metadata(root: Path) -> Path:
    path = root / "track_metadata.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE songs (track_id text PRIMARY KEY, title text, song_id text, release text, "
                   "artist_id text, artist_name text, duration real, year int)")
    add_songs(path, MSD_SONGS)
    return path


def add_songs(path: Path, songs: Iterable[tuple[Any, ...]]) -> None:
    """To a track_metadata.db."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany("INSERT INTO songs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", songs)


UNIQUE_TRACKS = """TRAAAAA128F0000001<SEP>SOAAAAA128F0000001<SEP>Gob<SEP>Face the Ashes
TRAAAAB128F0000002<SEP>SOAAAAB128F0000002<SEP>Gob<SEP>Don\x19t
TRAAAAC128F0000003<SEP>SOAAAAC128F0000003<SEP>Gob
a/b<SEP>SOAAAAC128F0000003<SEP>Gob<SEP>Ashes
"""
TRACKS_PER_YEAR = """2007<SEP>TRAAAAA128F0000001<SEP>Gob<SEP>Face the Ashes
2009<SEP>TRAAAAB128F0000002<SEP>Gob<SEP>Don\x19t
2009<SEP>TRAAAAC128F0000003
0<SEP>TRAAAAD128F0000004<SEP>Gob<SEP>Ashes
"""
MISMATCHES = """ERROR: <SOAAAAA128F0000001 TRAAAAA128F0000001> Gob  -  Ashes  !=  Gob  -  Face
ERROR: <SOAAAAB128F0000002 TRAAAAB128F0000002> Gob  -  Don't  !=  Gob  -  Do
ERROR: <SOAAAAC128F0000003>
"""


def make_msd_list(root: Path, content: str) -> Path:
    path = root / "list.txt"
    path.write_text(content, "utf-8")
    return path


def make_msd_archive(root: Path) -> Path:
    make_msd(root / "msd")
    return pack_msd(root / "msd.tar.gz")


def pack_msd(path: Path) -> Path:
    """The folder "msd" beside it."""
    with tarfile.open(path, "w:gz") as archive:
        archive.add(path.parent / "msd", "msd")
    return path


def make_msd_summary(root: Path, track_ids: Sequence[str] = ("TR0", "TR1", "not/one")) -> Path:
    meta, analysis = np.zeros(len(track_ids), META), np.zeros(len(track_ids), ANALYSIS)
    meta["title"], meta["artist_name"], analysis["track_id"] = "Ashes", "Gob", track_ids
    with h5py.File(root / "msd_summary_file.h5", "w") as file:
        file["metadata/songs"], file["analysis/songs"] = meta, analysis
        file["musicbrainz/songs"] = np.zeros(len(track_ids), [("year", "i4")])
    return root / "msd_summary_file.h5"


def make_lastfm(root: Path) -> Path:
    lastfm_json(root / "A" / "TRAAAAA128F0000001.json")
    lastfm_json(root / "B" / "TRAAAAB128F0000002.json", "TRAAAAB128F0000002", similars=[], tags=[])
    (root / "TRBROKE128F0000008.json").write_text('{"track_id": "TRBROKE128F0000008", "similars": [["TR')
    (root / "list.json").write_text("[1, 2]")
    return root


def make_lastfm_zip(root: Path) -> Path:
    """As lastfm_train.zip has its files: below a folder of its name."""
    make_lastfm(root / "json")
    with zipfile.ZipFile(root / "lastfm_train.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((root / "json").rglob("*.json")):
            archive.write(path, "lastfm_train/" + str(path.relative_to(root / "json")))
    return root / "lastfm_train.zip"


def add_rows(path: Path, table: str, rows: Sequence[Sequence[Any]]) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for row in rows:
            db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


def make_lastfm_similars(root: Path) -> Path:
    path = root / "lastfm_similars.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE similars_src (tid TEXT, target TEXT)")
        db.execute("CREATE TABLE similars_dest (tid TEXT, target TEXT)")
    add_rows(path, "similars_src", [
        ("TRAAAAA128F0000001", "TRAAAAB128F0000002,1,TRAAAAC128F0000003,0.25"),
        ("../etc", "TRAAAAA128F0000001,1"), ("TRAAAAB128F0000002", "TRAAAAA128F0000001,0.5"),
        ("TRBROKE128F0000008", "no list")])
    return path


def make_lastfm_tags(root: Path) -> Path:
    path = root / "lastfm_tags.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE tids (tid TEXT)")
        db.execute("CREATE TABLE tags (tag TEXT)")
        db.execute("CREATE TABLE tid_tag (tid INT, tag INT, val REAL)")
    tids = ("TRAAAAA128F0000001", "TRAAAAB128F0000002", "TRAAAAC128F0000003", "../x")
    add_rows(path, "tids", [(tid,) for tid in tids])
    add_rows(path, "tags", [("punk rock",), ("punk",), ("seen live",)])
    add_rows(path, "tid_tag", [(1, 1, 100.0), (1, 2, 60.0), (2, 2, 0.0), (2, 3, 100.0), (4, 1, 100.0),
                                (9, 1, 1.0)])
    return path


TAGTRAUM = """# A genre ground truth. Track id, majority genre, and perhaps a minority genre.
TRAAAAA128F0000001\tPunk\tRock
TRAAAAB128F0000002\tRock
TRAAAAC128F0000003
../etc\tRock
TRAAAAD128F0000004\tNew Age
"""


def make_tagtraum(root: Path) -> Path:
    path = root / "msd_tagtraum_CD1.cls"
    path.write_text(TAGTRAUM)
    return path


MSD_GENRES = """# MILLION SONG GENRE DATASET
# FORMAT: # - denotes a comment
%genre,track_id,artist_name,title,loudness,tempo
classic pop and rock,TRAAAAA128F0000001,Blue Oyster Cult,Mes Dames Sarat,-8.697,155.007
punk,TRAAAAB128F0000002,Gob,"Face" the "Ashes,-10.6,148.4
folk,TRAAAAC128F0000003,Gob,"Ashes, again",-10.6,148.4
metal,TRAAAAD128F0000004,Gob,Cut short
"""


def make_msd_genres(root: Path) -> Path:
    path = root / "msd_genre_dataset.txt"
    path.write_text(MSD_GENRES)
    return path


MUSIXMATCH = """# TESTING SET
%i,the,é,you
TRAAAAA128F0000001,4623710,1:6,2:4,4:2
TRAAAAB128F0000002,6477168,4:1,3:10
TRAAAAC128F0000003,100,5:1
TRAAAAD128F0000004,101,1:1,1:2
TRAAAAE128F0000005,102,2:7
"""


def make_musixmatch(root: Path) -> Path:
    path = root / "mxm_dataset_test.txt"
    path.write_text(MUSIXMATCH, "utf-8")
    return path


def make_musixmatch_db(root: Path) -> Path:
    """Of MUSIXMATCH, and two rows that count nothing."""
    path = root / "mxm_dataset.db"
    first, second = "TRAAAAA128F0000001", "TRAAAAB128F0000002"
    rows = [(first, "i", 6), (first, "the", 4), (first, "you", 2), (second, "you", 1), (second, "é", 10),
            (second, "", 1), ("TRAAAAC128F0000003", "i", 0), ("TRAAAAE128F0000005", "the", 7)]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE words (word TEXT PRIMARY KEY)")
        db.execute("CREATE TABLE lyrics (track_id, mxm_tid INT, word TEXT, count INT, is_test INT, "
                   "FOREIGN KEY(word) REFERENCES words(word))")
        db.executemany("INSERT INTO lyrics VALUES (?, 1, ?, ?, 0)", rows)
    return path


def zipped(path: Path) -> Path:
    """A .zip beside it, of it alone."""
    with zipfile.ZipFile(path.with_name(path.name + ".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    return path.with_name(path.name + ".zip")


def read(source: Source) -> tuple[dict[str, pa.Table], list[Rejected]]:
    """Everything a source gives, a table each."""
    items = list(source.read())
    rows = [item for item in items if isinstance(item, Rows)]
    tables = {name: pa.concat_tables([pa.table(dict(r.columns)) for r in rows if r.table == name],
                                     promote_options="permissive") for name in {r.table for r in rows}}
    return tables, [item for item in items if isinstance(item, Rejected)]


def songs(source: Source) -> dict[str, dict[str, Any]]:
    """Tracks by title."""
    return {row["title"]: row for row in read(source)[0]["tracks"].to_pylist()}
