"""Playlists as files: whatever songs and files are called, a player finds each, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simsong.errors import FileMissing, QueryError
from simsong.files.playlists import Entry, form_of, read_m3u, written

LETTERS = st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",))
NAMES = st.text(LETTERS, min_size=1, max_size=20).filter(lambda name: name not in (".", ".."))
HOSTILE = ["a\nhttp:evil.mp3", "#EXTM3U", "x\r\n#EXTINF:1,b", "\x1b]0;owned\x07", "  spaces  ", "tab\there",
           "c:\\x", "http:", "100%41", "a\u2028b", "\ufeffbom", "naïve – 歌"]


def players_view(text: str, folder: Path) -> list[str]:
    """The paths that a player opens: a line each that is no comment."""
    out = []
    for line in text.split("\n"):
        if line and not line.startswith("#"):
            uri = line.startswith("file://")
            out.append(os.fsdecode(unquote_to_bytes(line[7:])) if uri else os.path.normpath(folder / line))
    return out


@given(st.lists(st.tuples(NAMES | st.sampled_from(HOSTILE), st.text(max_size=30)), max_size=5))
@example([("http://evil/x.mp3", "")])
def test_each_file_is_found_whatever_it_is_called(songs: list[tuple[str, str]]) -> None:
    folder = Path("/music/lists")
    entries = [Entry(f"/music/{name}/{name}", title, title, None, 61.4, "T1") for name, title in songs]
    text = written(entries, "m3u8", folder, "a\nb")
    want = [os.path.normpath(f"/music/{name}/{name}") for name, _ in songs]
    assert players_view(text, folder) == want
    assert text.count("\n") == 2 + 2 * len(songs) and text.isprintable() is False
    assert not any(c in text for c in "\r\x1b\x07")


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    entry = Entry(str(tmp_path / "music" / name), "Ann", name, "An album", 10.0, "T1")
    for folder in (tmp_path / "lists", tmp_path / "music"):
        folder.mkdir(exist_ok=True)
        (folder / "x.m3u8").write_text(written([entry], "m3u8", folder), encoding="utf-8", newline="\n")
        result, = read_m3u(folder / "x.m3u8")
        assert result.location == entry.location and result.artist == "Ann" and result.duration_s == 10


def test_files_are_named_from_the_playlists_folder() -> None:
    entries = [Entry("/music/Ann/a.mp3", "Ann", "A"), Entry("/music/b.mp3"), Entry("https://x.org/a b?c=é"),
               Entry(None, "Nowhere", "to be heard")]
    lines = [line for line in written(entries, "m3u8", Path("/music/lists")).split("\n") if line[:1] != "#"]
    assert lines == ["../Ann/a.mp3", "../b.mp3", "https://x.org/a%20b?c=%C3%A9", ""]
    assert written(entries[:1], "m3u8", Path("/home/me")).split("\n")[3] == "/music/Ann/a.mp3"
    assert json.loads(written(entries, "json", Path("/music")))[0] == {
        "artist": "Ann", "title": "A", "location": "Ann/a.mp3"}
    song = Entry("/music/ü b.mp3", "A\nnn", "T", "R", 1.5, "T 1")
    answer = json.loads(written([song], "jspf", Path("/music")))
    assert answer["playlist"]["track"] == [{
        "location": ["%C3%BC%20b.mp3"], "identifier": ["urn:simsong:T%201"], "title": "T", "creator": "A nn",
        "album": "R", "duration": 1500}]


def test_names_that_are_no_unicode_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp3")
    for form in ("m3u8", "jspf", "json"):
        text = written([Entry(f"/music/{name}", "Ann", name)], form, tmp_path)
        assert "caf%E9.mp3" in text if form != "json" else json.loads(text)[0]["location"] == f"/music/{name}"
        text.encode()
    (tmp_path / "x.m3u8").write_text(written([Entry(f"/music/{name}")], "m3u8", tmp_path), encoding="utf-8")
    assert read_m3u(tmp_path / "x.m3u8")[0].location == f"/music/{name}"


def test_playlists_of_others_are_read(tmp_path: Path) -> None:
    file = tmp_path / "x.m3u"
    file.write_bytes("\ufeff#EXTM3U\r\n#EXTINF:-1 tvg-id=\"a\",Ann - Song - Live\r\nC\\d.mp3\r\n\r\n"
                     "#EXTINF:nan,Only a title\r\nfile:///music/%C3%A9.mp3\r\nhttp://x/y.mp3\rz.mp3".encode())
    assert read_m3u(file) == [
        Entry(str(tmp_path / "C/d.mp3"), "Ann", "Song - Live"), Entry("/music/é.mp3", None, "Only a title"),
        Entry("http://x/y.mp3"), Entry(str(tmp_path / "z.mp3"))]
    file.write_bytes(b"caf\xe9.mp3")
    assert read_m3u(file)[0].location == str(tmp_path / "café.mp3")
    file.write_bytes(b"\x00\x01")
    with pytest.raises(QueryError, match="is no playlist"):
        read_m3u(file)
    with pytest.raises(FileMissing):
        read_m3u(tmp_path / "none.m3u")
    with file.open("wb") as large:
        large.truncate(17 * 2**20)
    with pytest.raises(QueryError, match="too large"):
        read_m3u(file)
    file.write_text("a\n" * 100_001)
    with pytest.raises(QueryError, match="over 100,000"):
        read_m3u(file)
    with pytest.raises(QueryError, match=r"ends in \.m3u8"):
        form_of(Path("x.pls"))
