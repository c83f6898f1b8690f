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
from mutagen.id3._frames import SYLT, TXXX, USLT
from mutagen.oggvorbis import OggVorbis

from simsong.errors import LyricsJunk
from simsong.lyrics.clean import Lyrics
from simsong.lyrics.local import MAX_BYTES, local_lyrics

DATA = Path(__file__).parents[2].parent / "shared" / "data"
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
    lyrics = local_lyrics(tmp_path / "a.ogg")
    assert lyrics is not None and lyrics.text == ENGLISH


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
    lyrics = local_lyrics(tmp_path / "a.flac")
    assert lyrics is not None and lyrics.text == ENGLISH


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
    lyrics_of = {song["file"]: local_lyrics(DATA / "music" / song["file"]) for song in songs}
    with_lyrics = {song["file"]: song["language"] for song in songs if song["lyrics"]}
    assert len(with_lyrics) == 24 and set(with_lyrics.values()) == {"en", "fr", "de", "es"}
    languages = {name: lyrics.language for name, lyrics in lyrics_of.items() if lyrics and lyrics.text}
    # The karaoke version has no file beside it, but the words of the original in its own tags.
    assert languages.pop("Pornophonique/Space Invaders (Kar).mp3") == "en"
    assert languages == with_lyrics


@pytest.mark.skipif(not (DATA / "odd_audio").is_dir(), reason="the odd audio files are not at hand")
def test_no_file_is_too_odd() -> None:
    for path in sorted((DATA / "odd_audio").rglob("*.*")):
        with contextlib.suppress(LyricsJunk):
            local_lyrics(path)


# --- encodings that nobody wrote down ---

WORDS = {
    "ru": ("Я иду по пустой дороге домой\nи фонари горят надо мной\nникто не ждёт меня у окна\n"
           "и только луна в небе одна", ["cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic"]),
    "ja": ("夜の街をひとりで歩いている\n誰も待っていない部屋へ帰る\n月だけが空に浮かんでいて\n"
           "君の歌を思い出している", ["cp932", "euc_jp"]),
    "zh": ("我独自走在空荡的街道上\n路灯照着我回家的方向\n没有人在窗前等我\n只有月亮挂在天上", ["gb18030"]),
    "ko": ("나는 혼자 빈 거리를 걷고 있어\n아무도 기다리지 않는 집으로\n달만이 하늘에 떠 있고\n"
           "너의 노래가 생각나", ["cp949"]),
    "pl": ("Idę pustą drogą do domu\nświatła płoną nade mną\nnikt nie czeka już na mnie\n"
           "tylko księżyc świeci żółto", ["cp1250", "iso8859_2"]),
    "cs": ("Jdu prázdnou ulicí domů\nsvětla hoří nade mnou\nnikdo už na mě nečeká\njen měsíc žlutě září",
           ["cp1250", "iso8859_2"]),
    "es": ("Camino por la calle vacía\nlas luces brillan sobre mí\nnadie me espera mañana\n"
           "sólo la luna, corazón", ["cp1252"]),
    "el": ("Περπατώ στον άδειο δρόμο\nτα φώτα καίνε πάνω μου\nκανείς δεν με περιμένει\nμόνο το φεγγάρι",
           ["cp1253"]),
    "tr": ("Boş sokakta yürüyorum\nışıklar üstümde yanıyor\nkimse beni beklemiyor\n"
           "yalnız ay parlıyor gökte, şarkı söylüyorum", ["cp1254"]),
    "he": ("אני הולך ברחוב הריק\nהאורות דולקים מעלי\nאף אחד לא מחכה לי\nרק הירח בשמיים", ["cp1255"]),
}


@pytest.mark.parametrize(("text", "encoding"), [(text, encoding) for text, encodings in WORDS.values()
                                                for encoding in encodings])
@pytest.mark.parametrize("stamped", [False, True])
def test_words_in_their_encoding(tmp_path: Path, text: str, encoding: str, stamped: bool) -> None:
    stamps = [f"[00:{number}.00]" if stamped else "" for number in range(10, 20)]
    lines = [stamp + line for stamp, line in zip(stamps, text.split("\n"), strict=False)]
    (tmp_path / "a.lrc").write_bytes("\n".join(lines).encode(encoding))
    lyrics = local_lyrics(tmp_path / "a.mp3")
    assert lyrics is not None and lyrics.text == text
    unnamed = text.encode(encoding).decode("latin-1")       # as ID3 has it from careless programs
    tag_id3(tmp_path / "b.mp3", USLT(encoding=0, lang="XXX", desc="", text=unnamed))
    lyrics = local_lyrics(tmp_path / "b.mp3")
    assert lyrics is not None and lyrics.text == text


def test_what_reads_in_no_encoding_is_no_lyrics(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"word \xff\x81\x01\xfe\x90\x02 and another\n" * 20)
    with pytest.raises(LyricsJunk, match="encoding"):
        local_lyrics(tmp_path / "a.mp3")


def test_lyrics_beside_a_name_composed_otherwise(tmp_path: Path) -> None:
    (tmp_path / "The\u0301.lrc").write_text(ENGLISH)
    lyrics = local_lyrics(tmp_path / "Th\u00e9.mp3")
    assert lyrics is not None and lyrics.text == ENGLISH
    (tmp_path / "The\u0301.mp3").write_bytes(b"another song, whose words they are")
    assert local_lyrics(tmp_path / "Th\u00e9.mp3") is None


def test_synchronised_lyrics(tmp_path: Path) -> None:
    lines = [(line, 1000 * number) for number, line in enumerate(ENGLISH.split("\n"))]
    tag_id3(tmp_path / "a.mp3", SYLT(encoding=3, lang="eng", format=2, type=1, desc="", text=lines))
    tag_flac(tmp_path / "b.flac", SYNCEDLYRICS="\n".join(f"[00:0{n}.00]{line}" for n, line in
                                                         enumerate(ENGLISH.split("\n"))))
    for name in ("a.mp3", "b.flac"):
        lyrics = local_lyrics(tmp_path / name)
        assert lyrics is not None and lyrics.text == ENGLISH
