"""What each source promises alone: fields, ids, what it believes, and what becomes of damage."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutagen import id3
from mutagen.wave import WAVE

from simsong.errors import REASONS, CatalogueError
from simsong.files.places import AUDIO_SUFFIXES
from simsong.sources import SOURCES
from simsong.sources.base import TRACK_ID, Source
from simsong.sources.folder import names_of, read_tags, without_artist
from tests.source_files import make_csv, make_folder, make_parquet, read, songs, sound

DATA = Path(__file__).parents[2].parent / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not on this machine")
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# --- the folder ---

def test_folder_believes_catalogue_then_tags_then_path(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "music")
    (root / "catalogue.csv").write_text(
        "file,artist,title,genre\nGob/Ashes.mp3,GOB!,,Pop\nloose - song.wav,,Song!,\nabsent.mp3,No,One,\n")
    rows = songs(SOURCES["folder"](str(root)))
    assert {t: r["artist"] for t, r in rows.items()} == {
        "Face the Ashes": "GOB!", "Untagged": "Gob", "broken": "Gob", "Song!": "loose"}
    ashes = rows["Face the Ashes"]
    assert ashes["url"] == (root / "Gob" / "Ashes.mp3").as_uri()
    assert ashes["year"] == 2007
    assert ashes["duration_s"] == pytest.approx(0.5, abs=0.1)
    status = (root / "Gob" / "Ashes.mp3").stat()
    assert ashes["fingerprint"] == f"{status.st_size}:{status.st_mtime_ns}"
    assert ashes["lyrics_fingerprint"].startswith(".lrc:12:")
    assert rows["Untagged"]["lyrics_fingerprint"] is None
    assert rows["Untagged"]["artist_id"] == rows["broken"]["artist_id"] != ashes["artist_id"]


def test_folder_genres_are_the_tags_or_the_catalogues(tmp_path: Path) -> None:
    source = SOURCES["folder"](str(make_folder(tmp_path / "music")))

    def genres() -> list[tuple[str, str]]:
        return [(g["name"], g["source"]) for g in read(source)[0]["genres"].to_pylist()]
    assert genres() == [("Punk", "tag"), ("Rock", "tag")]
    before = source.fingerprint()
    (tmp_path / "music" / "catalogue.csv").write_text("file,genre\nGob/Ashes.mp3,Pop\n")
    assert genres() == [("Pop", "catalogue.csv")]
    assert source.fingerprint() != before


def test_folder_notices_a_new_lyrics_file(tmp_path: Path) -> None:
    source = SOURCES["folder"](str(make_folder(tmp_path / "music")))
    before = source.fingerprint()
    (tmp_path / "music" / "Gob" / "broken.txt").write_text("la la")
    assert source.fingerprint() != before
    assert songs(source)["broken"]["lyrics_fingerprint"].startswith(".txt:5:")


def test_folder_takes_names_that_are_no_unicode(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/Caf\xe9 \xff.wav"
    Path(os.fsdecode(raw)).write_bytes(sound(tmp_path.parent / "tone.wav").read_bytes())
    (song,) = songs(SOURCES["folder"](str(tmp_path))).values()
    song["title"].encode()
    assert song["url"].endswith("/Caf%E9%20%FF.wav")
    SOURCES["folder"](str(tmp_path)).fingerprint()


def test_songs_of_unknown_artists_are_not_by_one_artist(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    sound(tmp_path / "b.wav")
    rows = songs(SOURCES["folder"](str(tmp_path)))
    assert rows["a"]["artist"] == rows["b"]["artist"] == "Unknown artist"
    assert rows["a"]["artist_id"] != rows["b"]["artist_id"]


def test_an_artist_has_one_id_whatever_the_case(tmp_path: Path) -> None:
    sound(tmp_path / "a.mp3", artist="Björk  Guð", title="1")
    sound(tmp_path / "b.ogg", artist="BJÖRK GUÐ", title="2")
    rows = songs(SOURCES["folder"](str(tmp_path)))
    assert rows["1"]["artist_id"] == rows["2"]["artist_id"]


@pytest.mark.parametrize("suffix", [".mp3", ".ogg", ".flac"])
def test_tags_of_each_format(suffix: str, tmp_path: Path) -> None:
    song = sound(tmp_path / f"x{suffix}", 1.0, artist="A", title="T", album="R", genre="G, H", date="1984")
    tags = read_tags(str(song))
    assert (tags.artist, tags.title, tags.release, tags.genres) == ("A", "T", "R", ("G", "H"))
    assert tags.year == 1984
    assert tags.duration_s == pytest.approx(1.0, abs=0.1)


def test_tags_of_wav_are_id3_frames(tmp_path: Path) -> None:
    file = WAVE(sound(tmp_path / "x.wav"))
    file.add_tags()
    assert file.tags is not None
    for frame in (id3.TPE1(text="A"), id3.TIT2(text="T"), id3.TCON(text="(17)")):
        file.tags.add(frame)
    file.save()
    tags = read_tags(str(tmp_path / "x.wav"))
    assert (tags.artist, tags.title, tags.genres) == ("A", "T", ("Rock",))


@pytest.mark.parametrize(("path", "names"), [
    ("Gob/Ashes.mp3", ("Gob", "Ashes", None)),
    ("Gob/Foot in Mouth/07 - Ashes.mp3", ("Gob", "Ashes", "Foot in Mouth")),
    ("music/Gob/Foot/07. Ashes.mp3", ("Gob", "Ashes", "Foot")),
    ("Gob - Ashes.mp3", ("Gob", "Ashes", None)), ("01 - Gob - Ashes.mp3", ("Gob", "Ashes", None)),
    ("Gob/Gob - Ashes.mp3", ("Gob", "Ashes", None)), ("Gob/Ashes - Live.mp3", ("Gob", "Ashes - Live", None)),
    ("Nena/99 Luftballons.mp3", ("Nena", "99 Luftballons", None)), ("Ashes.mp3", (None, "Ashes", None)),
    ("Toto/03 Africa.mp3", ("Toto", "Africa", None)),
    ("X/ .mp3", ("X", ".mp3", None)), ("a - .mp3", (None, "a -", None)),
])
def test_names_from_paths(path: str, names: tuple[str | None, str, str | None]) -> None:
    assert names_of(path) == names


def test_artist_before_the_title_is_left_out() -> None:
    assert without_artist("Joshua Morin - On The Run", "joshua  morin") == "On The Run"
    assert without_artist("Someone - On The Run", "Joshua Morin") == "Someone - On The Run"
    assert without_artist("Joshua Morin - ", "Joshua Morin") == "Joshua Morin - "
    assert without_artist("On - The Run", None) == "On - The Run"


@real_data
def test_all_real_songs_come_out() -> None:
    source = SOURCES["folder"](str(DATA / "music"))
    tables, rejected = read(source)
    rows = {row["url"].rpartition("/")[2]: row for row in tables["tracks"].to_pylist()}
    assert (len(rows), rejected) == (42, [])
    assert len({row["artist_id"] for row in rows.values()}) == 22
    # the karaoke version has the words of the original in its own tags
    assert sum(row["lyrics_fingerprint"] is not None for row in rows.values()) == 24 + 1
    assert all(row["duration_s"] > 50 for row in rows.values())
    assert rows["unknown.ogg"]["title"] == "unknown"
    assert rows["Space%20Invaders%20%28Kar%29.mp3"]["title"] == "Space Invaders (Kar)"
    with (DATA / "music" / "catalogue.csv").open(encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    assert {r["title"] for r in rows.values()} == {r["title"] or "unknown" for r in listed}
    from_catalogue = [g["name"] for g in tables["genres"].to_pylist() if g["source"] == "catalogue.csv"]
    assert sorted(from_catalogue) == sorted(r["genre"] for r in listed if r["genre"])


@real_data
def test_odd_audio_files_are_all_songs() -> None:
    """Damaged tags lose no file; the audio stage is to judge them."""
    source = SOURCES["folder"](str(DATA / "odd_audio"))
    tables, rejected = read(source)
    there = [p for p in (DATA / "odd_audio").rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file()]
    assert tables["tracks"].num_rows == len(there) > 200
    assert rejected == []


# --- tables ---

def table(path: Path, content: str | bytes) -> Source:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return SOURCES["table"](str(path))


def test_csv_rows(tmp_path: Path) -> None:
    source = SOURCES["table"](str(make_csv(tmp_path)))
    rows = songs(source)
    ashes, comma = rows["Face the Ashes"], rows["Song"]
    assert ashes["track_id"] == "TB" + hashlib.sha256(b"gob\nface the ashes").hexdigest()[:16].upper()
    assert (ashes["year"], ashes["duration_s"], ashes["url"]) == (2007, 150.5, "https://example.org/1")
    assert (comma["track_id"], comma["artist"], comma["year"], comma["duration_s"], comma["url"]) == (
        "id-1", "Comma, The", None, None, None)
    tables, rejected = read(source)
    assert [(g["track_id"], g["name"]) for g in tables["genres"].to_pylist()] == [(ashes["track_id"], "punk")]
    assert [r.detail for r in rejected] == [
        "songs.csv:3: duplicate id of line 2", "songs.csv:4: no artist", "songs.csv:5: no title",
        "songs.csv:6: track_id '../etc'; up to 64 letters, digits, '_', '-' and '.' were expected",
        "songs.csv:8: 9 values, but the header names 7 columns"]
    assert rejected[2].track_id == "S1"


@pytest.mark.parametrize("content", [
    "\ufeffTitle;Artist\r\nSong;Gob\r\n", " title \t ARTIST \nSong\tGob\n", 'artist,title\n"Gob","Song"',
    "artist,title,Title\nGob,Song,Other\n\n",
])
def test_csv_dialects(content: str, tmp_path: Path) -> None:
    (row,) = songs(table(tmp_path / "x.csv", content)).values()
    assert (row["artist"], row["title"]) == ("Gob", "Song")


@pytest.mark.parametrize(("content", "says"), [
    ("artist,name\na,b\n", "no column title; its columns are: artist, name"),
    ("", "no column artist and title; its columns are: none"),
    (b"artist,title\na,b\nc,\xff\n", "x.csv:3: not UTF-8"),
    ("artist,title\na,b\nc,\"d\n", "x.csv:3: not readable as CSV"),
    ("artist,title\na,b\nc,\"d\" e\n", "x.csv:3: not readable as CSV"),
])
def test_csv_damage_is_told_with_its_line(content: str | bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError) as error:
        list(table(tmp_path / "x.csv", content).read())
    assert says in str(error.value)
    assert str(tmp_path / "x.csv") in str(error.value)


def test_years_and_durations_of_no_use_are_counted(tmp_path: Path) -> None:
    """Empty and 0 say that nothing is known."""
    source = table(tmp_path / "x.csv", "artist,title,year,duration_s\n" + "".join(
        f"Gob,{number},{year},{length}\n" for number, (year, length) in enumerate((
            ("1999", "3:45"), ("last summer", "200"), ("0", "0"), (" ", ""), ("0000", "-5"), ("99", "inf"),
            ("2012-03-06", "0.0"), ("n/a", "nan")))) + "Gob,,soon,long\n")
    for _ in range(2):
        assert len(songs(source)) == 8
        assert vars(source)["left_out"] == {"years": 3, "durations": 4}
    pq.write_table(pa.table({"artist": ["X"] * 4, "title": list("abcd"), "year": [[1], None, [], [1999]],
                             "duration_s": [float("nan"), float("-inf"), None, 1.5]}), tmp_path / "x.parquet")
    source = SOURCES["table"](str(tmp_path / "x.parquet"))
    assert len(songs(source)) == 4 and vars(source)["left_out"] == {"years": 3, "durations": 1}
    root = make_folder(tmp_path / "music")
    (root / "catalogue.csv").write_text("file,year\nGob/Ashes.mp3,long ago\nloose - song.wav,0\n")
    source = SOURCES["folder"](str(root))
    assert songs(source)["Face the Ashes"]["year"] == 2007, "as its tag says"
    assert vars(source)["left_out"] == {"years": 1}


def test_parquet_rows_and_damage(tmp_path: Path) -> None:
    path = make_parquet(tmp_path)
    rows = songs(SOURCES["table"](str(path)))
    assert {t: (r["artist"], r["year"]) for t, r in rows.items()} == {"A": ("X", 1999), "B": ("Y", None)}
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CatalogueError, match=r"songs\.parquet: not readable as Parquet"):
        list(SOURCES["table"](str(path)).read())


def test_table_and_parquet_give_one_song_one_id(tmp_path: Path) -> None:
    pq.write_table(pa.table({"artist": ["GOB"], "title": ["Face The Ashes"]}), tmp_path / "x.parquet")
    (one,) = songs(SOURCES["table"](str(tmp_path / "x.parquet"))).values()
    (two,) = songs(table(tmp_path / "x.csv", "artist,title\nGob,Face  the Ashes\n")).values()
    assert (one["track_id"], one["artist_id"]) == (two["track_id"], two["artist_id"])


def test_table_knows_its_local_files(tmp_path: Path) -> None:
    song = sound(tmp_path / "my song.wav")
    source = table(tmp_path / "x.csv", f"artist,title,url\nGob,Ashes,{song.as_uri()}\nGob,Gone,file:///nowhere.wav\n")
    rows = songs(source)
    assert rows["Ashes"]["fingerprint"] == f"{song.stat().st_size}:{song.stat().st_mtime_ns}"
    assert rows["Gone"]["fingerprint"] is None
    before = source.fingerprint()
    sound(song, seconds=1.0)
    assert source.fingerprint() != before


ALMOST_CSV = st.text(alphabet='ab,;"\n\r\x00é\t', max_size=80).map(str.encode)


@given(content=st.binary(max_size=200) | ALMOST_CSV, header=st.booleans())
@FUZZ
def test_any_bytes_are_songs_or_one_clear_error(content: bytes, header: bool, tmp_path: Path) -> None:
    source = table(tmp_path / "x.csv", (b"artist,title,track_id,url,year\n" if header else b"") + content)
    try:
        tables, rejected = read(source)
    except CatalogueError as error:
        assert "x.csv" in str(error)
        return
    for row in tables["tracks"].to_pylist():
        assert TRACK_ID.fullmatch(row["track_id"])
        assert row["artist"]
        assert row["title"]
    assert all(r.reason in REASONS for r in rejected)
    source.fingerprint()


def test_addresses_of_a_table_are_taken_or_refused_by_name(tmp_path: Path) -> None:
    song = sound(tmp_path / "my songs" / "a.wav")
    good = {"plain": str(song), "relative": "my songs/a.wav", "address": song.as_uri(),
            "FILE": "FILE" + song.as_uri()[4:], "web": "https://example.org/1", "none": ""}
    bad = ["ftp://example.org/2", "my songs/absent.wav", "youtube.com/watch?v=1", "http://", "file://host/a.wav"]
    rows = "".join(f"A,{title},{url}\n" for title, url in good.items())
    rows += "".join(f"A,bad {number},{url}\n" for number, url in enumerate(bad))
    (tmp_path / "t.csv").write_text("artist,title,url\n" + rows)
    source = SOURCES["table"](str(tmp_path / "t.csv"))
    tables, rejected = read(source)
    urls = dict(zip(tables["tracks"]["title"].to_pylist(), tables["tracks"]["url"].to_pylist(), strict=True))
    assert urls == dict.fromkeys(good, song.as_uri()) | {"web": good["web"], "none": None}
    assert [reject.reason for reject in rejected] == ["malformed"] * len(bad)
    assert all("url" in reject.detail for reject in rejected)
    before = source.fingerprint()
    os.utime(song, ns=(1, 1))
    assert source.fingerprint() != before


def test_a_track_id_may_be_one_of_youtubes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("artist,title,track_id\nA,1,-dQw4w9WgXc\nA,2,_x\nA,3,../x\nA,4,.x\n")
    tables, rejected = read(SOURCES["table"](str(tmp_path / "t.csv")))
    assert tables["tracks"]["track_id"].to_pylist() == ["-dQw4w9WgXc", "_x"]
    assert len(rejected) == 2
