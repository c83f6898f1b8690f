"""Lyrics beside files and in their tags: files made here, and the real collection where it is at hand."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from mutagen.flac import FLAC
from mutagen.id3 import ID3
from mutagen.id3._frames import TXXX, USLT
from mutagen.oggvorbis import OggVorbis

from simsong.errors import LyricsJunk
from simsong.lyrics.clean import Lyrics
from simsong.lyrics.local import MAX_BYTES, local_lyrics

DATA = Path(__file__).parents[1].parent / "shared" / "data"
FRENCH = ("J'ai quitté le port au lever du jour\net le vent me chantait mon amour\n"
          "À l’été je reviendrai peut-être")
ENGLISH = "I left the harbour with the morning tide\nA paper lantern burning at my side"


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("suffix", [".txt", ".lrc", ".TXT"])
def test_sidecar_in_any_encoding(tmp_path: Path, encoding: str, suffix: str) -> None:
    text = FRENCH.replace("’", "'") if encoding == "latin-1" else FRENCH
    (tmp_path / f"Mr. X (live){suffix}").write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert local_lyrics(tmp_path / "Mr. X (live).mp3") == Lyrics("text", text, None, None, "fr")


def test_lrc_is_cleaned_and_comes_before_txt(tmp_path: Path) -> None:
    first, second = ENGLISH.split("\n")
    (tmp_path / "a.txt").write_text(FRENCH, "utf-8")
    (tmp_path / "a.lrc").write_text(f"[ar:Lena]\n[00:01.00]{first}\n[00:05.50]{second}\n")
    found = local_lyrics(tmp_path / "a.ogg")
    assert found is not None and found.text == ENGLISH


@pytest.mark.parametrize("text", ["[Instrumental]", "[ar:Lena]\n[00:00.00]Instrumental"])
def test_instrumental(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.lrc").write_text(text)
    assert local_lyrics(tmp_path / "a.mp3") == Lyrics("instrumental", None, None, None, None)


def test_nothing_there(tmp_path: Path) -> None:
    assert local_lyrics(tmp_path / "a.mp3") is None
    (tmp_path / "a.mp3").write_bytes(b"not audio")
    (tmp_path / "a.txt").write_text("  \n")
    (tmp_path / "a.lrc").mkdir()
    assert local_lyrics(tmp_path / "a.mp3") is None


@pytest.mark.parametrize(("content", "reason"), [
    (b"Ripped by me", "a.txt: too short"),
    (ENGLISH.encode() * (1 + MAX_BYTES // len(ENGLISH)), "a.txt: over 1000000 bytes"),
    (bytes(range(256)) * 20, "a.txt: "),
])
def test_junk_is_named_and_does_not_hide_the_tags(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(LyricsJunk, match=reason) as caught:
        local_lyrics(tmp_path / "a.flac")
    assert caught.value.subject == "a.flac"
    tag_flac(tmp_path / "a.flac", LYRICS=ENGLISH)
    found = local_lyrics(tmp_path / "a.flac")
    assert found is not None and found.text == ENGLISH


def tag_flac(path: Path, **tags: str) -> None:
    soundfile.write(path, np.zeros(8000, np.float32), 16000, format="FLAC")
    file = FLAC(path)
    file.update(tags)
    file.save()


def tag_vorbis(path: Path, **tags: str) -> None:
    soundfile.write(path, np.zeros(8000, np.float32), 16000, format="OGG")
    file = OggVorbis(path)
    file.update(tags)
    file.save()


def tag_id3(path: Path, *frames: Any) -> None:
    soundfile.write(path, np.zeros(16000, np.float32), 16000, format="MP3")
    tags = ID3()
    for frame in frames:
        tags.add(frame)
    tags.save(path)


@pytest.mark.parametrize("write", [
    lambda path: tag_flac(path, LYRICS=ENGLISH),
    lambda path: tag_flac(path, UNSYNCEDLYRICS=ENGLISH, title="Harbour", comment=FRENCH),
    lambda path: tag_vorbis(path, unsyncedlyrics=ENGLISH.replace("\n", "\r\n")),
    lambda path: tag_vorbis(path, **{"UNSYNCED LYRICS": f"[Verse 1]\n{ENGLISH}"}),
    lambda path: tag_id3(path, USLT(encoding=3, lang="eng", desc="", text=ENGLISH.replace("\n", " • "))),
    lambda path: tag_id3(path, USLT(encoding=1, lang="eng", desc="x", text="[00:01.00]" + ENGLISH)),
    lambda path: tag_id3(path, TXXX(encoding=3, desc="LYRICS", text=[ENGLISH])),
    lambda path: tag_id3(path, USLT(encoding=3, lang="fra", desc="", text="la la"),
                         USLT(encoding=3, lang="eng", desc="", text=ENGLISH)),
])
def test_tags(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "a.audio")
    assert local_lyrics(tmp_path / "a.audio") == Lyrics("text", ENGLISH, None, None, "en")


def test_mp4_tags(tmp_path: Path) -> None:
    import av
    from mutagen.mp4 import MP4
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    file = MP4(path)
    file["\xa9lyr"] = [ENGLISH]
    file.save()
    assert local_lyrics(path) == Lyrics("text", ENGLISH, None, None, "en")


@pytest.mark.skipif(not (DATA / "music").is_dir(), reason="the real collection is not at hand")
def test_all_lyrics_of_the_real_collection() -> None:
    with (DATA / "music" / "catalogue.csv").open(encoding="utf-8") as file:
        songs = list(csv.DictReader(file))
    found = {song["file"]: local_lyrics(DATA / "music" / song["file"]) for song in songs}
    with_lyrics = {song["file"]: song["language"] for song in songs if song["lyrics"]}
    assert len(with_lyrics) == 24 and set(with_lyrics.values()) == {"en", "fr", "de", "es"}
    languages = {name: lyrics.language for name, lyrics in found.items() if lyrics and lyrics.text}
    # The karaoke version has no file beside it, but the words of the original in its own tags.
    assert languages.pop("Pornophonique/Space Invaders (Kar).mp3") == "en"
    assert languages == with_lyrics


@pytest.mark.skipif(not (DATA / "odd_audio").is_dir(), reason="the odd audio files are not at hand")
def test_no_file_is_too_odd() -> None:
    for path in sorted((DATA / "odd_audio").rglob("*.*")):
        with contextlib.suppress(LyricsJunk):
            local_lyrics(path)
