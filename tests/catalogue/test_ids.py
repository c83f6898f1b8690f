"""A song's id goes by its sound: whatever is done to files it stays, and no two songs share one."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import av
import mutagen
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from av.error import FFmpegError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutagen import apev2, flac, id3, mp4
from mutagen.aiff import AIFF
from mutagen.wave import WAVE

from simsong.config import CatalogueSettings
from simsong.errors import CatalogueShrunk
from simsong.files.sound import sound_digest
from simsong.parts.stages import RunContext
from simsong.sources import SOURCES
from simsong.sources.catalogue import FILES, SHARDS, Known, collecting
from storage.store import Store
from storage.tables import TABLES
from tasks.ingest import ingest
from tests.gathering import joined
from tests.small_world import configured, refresh, touch_later, write_song

RATE_HZ = 16_000
SOUNDFILE = {"mp3": "MP3", "flac": "FLAC", "ogg": "OGG", "wav": "WAV", "aiff": "AIFF", "w64": "W64",
             "caf": "CAF", "rf64": "RF64"}
FFMPEG = {"m4a": ("ipod", "aac"), "opus": ("ogg", "libopus"), "mka": ("matroska", "libvorbis"),
          "webm": ("webm", "libopus"), "aac": ("adts", "aac"), "wma": ("asf", "wmav2"),
          "wv": ("wv", "wavpack"), "tta": ("tta", "tta"), "ac3": ("ac3", "ac3"), "spx": ("ogg", "libspeex"),
          "oga": ("ogg", "flac")}


def noise(seed: int, seconds: float = 0.5) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE_HZ))).astype(np.float32)


def written(path: Path, seed: int, kind: str | None = None) -> Path:
    """A file of noise in the format that its suffix says. Skips where FFmpeg cannot write that."""
    kind = kind or path.suffix[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind in SOUNDFILE:
        soundfile.write(path, noise(seed), RATE_HZ, format=SOUNDFILE[kind])
        return path
    container, codec = FFMPEG[kind]
    rate_hz = 48_000 if codec in ("libopus", "ac3") else RATE_HZ
    try:
        with av.open(str(path), "w", format=container) as file:
            stream: Any = file.add_stream(codec, rate=rate_hz, layout="mono")
            samples = noise(seed, 1.5 if rate_hz > RATE_HZ else 0.5)[None, :]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = rate_hz
            resampler = av.AudioResampler(stream.codec_context.format, "mono", rate_hz,
                                          stream.codec_context.frame_size or None)
            for part in (*resampler.resample(frame), *resampler.resample(None)):
                file.mux(stream.encode(part))
            file.mux(stream.encode(None))
    except (FFmpegError, ValueError, LookupError) as error:
        pytest.skip(f"FFmpeg here writes no {kind}: {error}")
    return path


def copied(path: Path, title: str) -> Path:
    """Packets put into a new file of the same kind by FFmpeg, as `ffmpeg -c copy -metadata title=…` does."""
    out = path.with_stem(path.stem + "-copied")
    with av.open(str(path)) as source, av.open(str(out), "w", format=FFMPEG.get(
            path.suffix[1:], (path.suffix[1:],))[0]) as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        target.metadata["title"] = title
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return out


def tag(path: Path, text: str) -> None:
    """Write tags as players do, another time others of another length."""
    suffix = path.suffix
    if suffix in (".wav", ".aiff"):
        file = (WAVE if suffix == ".wav" else AIFF)(path)
        if file.tags is None:
            file.add_tags()
        file["TIT2"] = id3.TIT2(encoding=3, text=text)
        file.save()
    elif suffix in (".wv", ".tta", ".ac3"):
        tags = apev2.APEv2()
        tags["Title"] = text
        tags.save(path)
    elif suffix == ".aac":
        tags = id3.ID3()
        tags.add(id3.TIT2(encoding=3, text=text))
        tags.save(path)
    else:
        file = mutagen.File(path, easy=True)        # pyright: ignore[reportPrivateImportUsage]
        assert file is not None
        if file.tags is None:
            file.add_tags()
        file["title"] = text
        file.save()


TAGGED = ["mp3", "flac", "ogg", "wav", "aiff", "m4a", "opus", "wma", "wv", "tta", "ac3", "aac", "spx", "oga"]


@pytest.mark.parametrize("kind", TAGGED)
def test_tags_are_not_part_of_a_sound(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / f"a.{kind}", 1)
    before, bytes_before = sound_digest(path), path.read_bytes()
    for text in ("short", "long " * 20_000, "again"):
        tag(path, text)
        assert path.read_bytes() != bytes_before
        assert sound_digest(path) == before, text[:10]
    assert sound_digest(written(tmp_path / f"b.{kind}", 2)) != before


def test_all_the_tags_of_an_mp3(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp3", 1)
    before = sound_digest(path)
    tags = apev2.APEv2()
    tags["Artist"] = "A" * 500
    tags.save(path)
    lyrics = b"LYRICSBEGININD0000200LYR00010la la la  "
    path.write_bytes(path.read_bytes() + lyrics + f"{len(lyrics):06d}".encode() + b"LYRICS200"
                     + b"TAG" + b"x" * 125)
    tag(path, "front")
    path.write_bytes(b"ID3\x04\x00\x10\x00\x00\x00\x05" + bytes(5) + b"3DI\x04\x00\x10\x00\x00\x00\x05"
                     + path.read_bytes())
    assert sound_digest(path) == before


def test_pictures_and_padding_of_flac_and_mp4(tmp_path: Path) -> None:
    path = written(tmp_path / "a.flac", 1)
    before = sound_digest(path)
    file = flac.FLAC(path)
    picture = flac.Picture()
    picture.data = os.urandom(100_000)
    file.add_picture(picture)
    file.save(padding=lambda _: 5_000)
    assert sound_digest(path) == before
    path = written(tmp_path / "a.m4a", 1)
    before = sound_digest(path)
    file = mp4.MP4(path)
    file["covr"] = [mp4.MP4Cover(os.urandom(100_000))]
    file.save()
    assert sound_digest(path) == before


@pytest.mark.parametrize("kind", ["mp3", "flac", "ogg", "wav", "m4a", "opus", "mka", "webm", "aiff"])
def test_a_copy_by_ffmpeg_is_the_same_sound(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / f"a.{kind}", 1)
    copy = copied(copied(path, "one"), "another title")
    assert copy.read_bytes() != copied(path, "one").read_bytes()
    assert sound_digest(copy) == sound_digest(copied(path, "one"))
    if kind not in ("ogg", "opus"):                     # whose last frames FFmpeg counts anew
        assert sound_digest(copy) == sound_digest(path)


@pytest.mark.parametrize("kind", [*SOUNDFILE, *FFMPEG])
def test_a_changed_byte_of_sound_is_another_sound(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / f"a.{kind}", 1)
    before, content = sound_digest(path), bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 0x55
    path.write_bytes(content)
    assert sound_digest(path) != before


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["mp3", "flac", "ogg", "wav", "aiff", "w64", "caf", "mka", "m4a"]),
       cut=st.floats(0, 1), at=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=30))
def test_no_damage_is_too_odd(tmp_path_factory: pytest.TempPathFactory, kind: str, cut: float,
                              at: list[tuple[float, int]]) -> None:
    path = written(tmp_path_factory.mktemp("odd") / f"a.{kind}", 1)
    content = bytearray(path.read_bytes())
    for place, byte in at:
        content[int(place * min(len(content) - 1, 400))] = byte
    path.write_bytes(content[:int(cut * len(content))])
    assert len(sound_digest(path)) == 64


# --- ids ---

def ids_of(known: Known, *folders: Path) -> tuple[dict[str, str], Known]:
    """Place → id of the songs in some folders, and what is known then."""
    with tempfile.TemporaryDirectory() as work, collecting(
            [SOURCES["folder"](str(folder)) for folder in folders], CatalogueSettings(), known,
            Path(work)) as collected:
        tracks, files = joined("tracks", collected.rows("tracks")), joined("files", collected.files())
        there = set(tracks["track_id"].to_pylist())
        gone = pa.array([i not in there for i in files["track_id"].to_pylist()], pa.bool_())
        known = Known(SHARDS.empty_table(), files.append_column("gone", gone))
        assert sorted(there) == tracks["track_id"].to_pylist()
        return dict(zip(tracks["url"].to_pylist(), tracks["track_id"].to_pylist(), strict=True)), known


def pick(choice: random.Random, root: Path) -> Path:
    return choice.choice(sorted(root.rglob("*.wav")))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(["move", "rename", "retag", "copy", "delete", "restore", "edit", "swap",
                                 "folder", "look"]), min_size=6, max_size=14), st.integers(0, 1 << 30))
def test_whatever_is_done_to_a_folder(steps: list[str], seed: int) -> None:
    choice = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        root, bin = Path(folder) / "music", Path(folder) / "bin"
        bin.mkdir()
        for number in range(4):
            written(root / f"artist {number}" / "a.wav", number)
        result, known = ids_of(Known(), root)
        ids = {sound_digest(url.removeprefix("file://").replace("%20", " ")): {i} for url,
               i in result.items()}
        for count, step in enumerate([*steps, "look"]):
            files = sorted(root.rglob("*.wav"))
            file = pick(choice, root)
            if step == "move":
                target = root / f"moved {count}" / file.name
                target.parent.mkdir()
                file.rename(target)
            elif step == "rename":
                file.rename(file.with_stem(f"{file.stem} {count}"))
            elif step == "retag":
                tag(file, f"title {count}" * choice.randrange(1, 100))
            elif step == "copy":
                shutil.copy(file, file.with_stem(f"{file.stem} {count}"))
            elif step == "delete" and len(files) > 2:
                file.rename(bin / f"{count}.wav")
            elif step == "restore" and (left := sorted(bin.iterdir())):
                choice.choice(left).rename(root / f"restored {count}.wav")
            elif step == "edit":
                written(file, 1000 + count)
            elif step == "swap":
                other = pick(choice, root)
                file.rename(bin / "x")
                if other != file:
                    other.rename(file)
                (bin / "x").rename(other)
            elif step == "folder":
                root = root.rename(Path(folder) / f"music {count}")
            else:
                result, known = ids_of(known, root)
                here = [Path(url.removeprefix("file://").replace("%20", " ")) for url in result]
                assert sorted(here) == sorted(root.rglob("*.wav"))
                assert len(set(result.values())) == len(result)               # nothing is lost, none shared
                sounds: dict[str, set[str]] = {}
                for path, track_id in zip(here, result.values(), strict=True):
                    sounds.setdefault(sound_digest(path), set()).add(track_id)
                for sound, now in sounds.items():
                    before = ids.setdefault(sound, set())
                    assert len(now - before) == max(len(now) - len(before), 0)      # known ids come first
                    before |= now
                claimed = [i for each in ids.values() for i in each]
                assert len(claimed) == len(set(claimed))                    # an id is of one sound, for ever


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    path = written(tmp_path / "music" / "a.wav", 1)
    before, known = ids_of(Known(), tmp_path / "music")
    stat = path.stat()
    written(path, 2)                                    # of the same size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert ids_of(known, tmp_path / "music")[0] == before
    touch_later(path)
    assert ids_of(known, tmp_path / "music")[0] != before


def test_copies_keep_their_ids_and_the_one_that_moves_its_own(tmp_path: Path) -> None:
    first = written(tmp_path / "b" / "song.wav", 1)
    before, known = ids_of(Known(), tmp_path)
    copy = tmp_path / "a" / "copy.wav"                  # before it in the order of places
    copy.parent.mkdir()
    shutil.copy(first, copy)
    both, known = ids_of(known, tmp_path)
    assert both[first.as_uri()] == before[first.as_uri()] != both[copy.as_uri()]
    moved = copy.rename(tmp_path / "z.wav")
    now, known = ids_of(known, tmp_path)
    assert now == {first.as_uri(): both[first.as_uri()], moved.as_uri(): both[copy.as_uri()]}
    first.unlink()
    now, known = ids_of(known, tmp_path)
    assert now == {moved.as_uri(): both[copy.as_uri()]}
    shutil.copy(moved, first)                           # it is back
    assert ids_of(known, tmp_path)[0] == {first.as_uri(): both[first.as_uri()], **now}


def test_two_folders_with_the_same_paths_and_names_that_differ_in_composition(tmp_path: Path) -> None:
    for number, place in enumerate(["Rock/01 Intro.wav", "Jazz/01 Intro.wav", "Rock/Caf\u00e9.wav",
                                    "Rock/Cafe\u0301.wav"]):
        written(tmp_path / place, number)
    ids, _ = ids_of(Known(), tmp_path / "Rock", tmp_path / "Jazz")
    assert len(set(ids.values())) == len(ids) == 4
    assert ids_of(Known(), tmp_path / "Jazz", tmp_path / "Rock")[0] == ids
    inside, _ = ids_of(Known(), tmp_path, tmp_path / "Jazz")        # a folder in another: each file once
    assert inside == ids


def test_ids_of_a_store_made_before_stay(tmp_path: Path) -> None:
    stays, moves = written(tmp_path / "s.wav", 1), written(tmp_path / "old" / "m.wav", 2)
    edited = written(tmp_path / "e.wav", 3)
    rows = [{"track_id": f"FL{number}", "url": path.as_uri(),
             "stat": f"{path.stat().st_size}:{path.stat().st_mtime_ns}", "sound": None,
             "fingerprint": f"{path.stat().st_size}:{path.stat().st_mtime_ns}", "duration_s": 0.5,
             "gone": False} for number, path in enumerate([stays, moves, edited])]
    moved = tmp_path / "new" / "m.wav"
    moved.parent.mkdir()
    moves.rename(moved)
    tag(edited, "which changes its size")
    known = Known(files=pa.Table.from_pylist(rows, schema=FILES))
    ids, known = ids_of(known, tmp_path)
    assert ids == {stays.as_uri(): "FL0", moved.as_uri(): "FL1", edited.as_uri(): "FL2"}
    prints = {row["track_id"]: row["fingerprint"] for row in known.files.to_pylist()}
    assert prints["FL0"] == rows[0]["fingerprint"]      # nothing is made again of what is as it was
    stays.rename(tmp_path / "other.wav")                # by now its sound is known
    assert ids_of(known, tmp_path)[0][(tmp_path / "other.wav").as_uri()] == "FL0"


# --- what left the catalogue ---

def ingested(folder: Path, store: Path, **more: Any) -> Store:
    config = configured(folder, store, **more)
    with Store.writing(config.store) as opened:
        assert opened.generation is not None
        ingest.fn(run=RunContext(config=config, generation=opened.generation))
    return Store.open(config.store)


def gone(store: Store) -> dict[str, Any]:
    rows = store.read("shards").to_pylist()
    return {row["track_id"]: row["gone_at"] for row in rows if row["gone_at"]}


@pytest.fixture
def music(tmp_path: Path) -> Path:
    for number in range(10):
        write_song(tmp_path / "music", f"artist {number}", 0.3)
    return tmp_path / "music"


def test_what_left_is_gone_with_its_date_until_it_is_back(music: Path, tmp_path: Path) -> None:
    store = ingested(music, tmp_path / "store")
    assert gone(store) == {}
    tracks = {row["artist"]: row for row in store.read("tracks").to_pylist()}
    lost = tracks["artist 3"]["track_id"]
    (music / "artist 3").rename(tmp_path / "aside")
    (left,) = gone(ingested(music, tmp_path / "store")).items()
    assert left[0] == lost
    write_song(music, "one more", 0.3)
    assert gone(ingested(music, tmp_path / "store")) == dict([left])        # the date is when it left
    (tmp_path / "aside").rename(music / "artist 3")
    assert gone(ingested(music, tmp_path / "store")) == {}
    now = {row["artist"]: row for row in store.read("tracks").to_pylist()}
    assert now.items() >= tracks.items()


def test_a_catalogue_does_not_lose_a_fifth_of_its_songs_by_the_way(music: Path, tmp_path: Path) -> None:
    before = ingested(music, tmp_path / "store").read("tracks")
    for number in range(2):
        shutil.rmtree(music / f"artist {number}")
    assert len(gone(ingested(music, tmp_path / "store"))) == 2              # two of ten are a fifth
    for number in range(2, 4):
        shutil.rmtree(music / f"artist {number}")
    with pytest.raises(CatalogueShrunk, match=r"2 of the catalogue's 8 songs .* --yes") as refused:
        ingested(music, tmp_path / "store")
    assert "\n" not in str(refused.value)
    store = Store.open(str(tmp_path / "store"))
    assert store.read("tracks").num_rows == 8 and len(gone(store)) == 2
    store = ingested(music, tmp_path / "store", run={"may_shrink": True})
    assert store.read("tracks").num_rows == 6 and len(gone(store)) == 4
    assert before.num_rows == store.read("shards").num_rows == 10


def test_moving_everything_loses_nothing(music: Path, tmp_path: Path) -> None:
    config = configured(music, tmp_path / "store")
    refresh(config)
    before = Store.open(config.store).read("tracks")
    for artist in sorted(music.iterdir()):
        (artist / "album").mkdir()
        for file in artist.glob("*.*"):
            file.rename(artist / "album" / file.name)
    computed = refresh(config)
    after = Store.open(config.store).read("tracks")
    assert after["track_id"] == before["track_id"] and after["shard"] == before["shard"]
    assert not computed & {(stage, shard) for stage in ("trim", "segments", "embed") for shard in range(9)}
    changed = configured(music, tmp_path / "store", segments={"hop_s": 1.2})
    refresh(changed)                                    # which decodes what now lies elsewhere
    outcomes = Store.open(config.store).read("outcomes", partition="segments")
    assert "missing_file" not in outcomes["reason"].to_pylist()


def test_a_copy_is_marked_whatever_its_tags_say(tmp_path: Path) -> None:
    path = written(tmp_path / "music" / "a.wav", 1)
    shutil.copy(path, path.with_stem("b"))
    tag(path, "One")
    tag(path.with_stem("b"), "Another")
    rows = ingested(tmp_path / "music", tmp_path / "store").read("tracks").to_pylist()
    (mark,) = (row["duplicate_of"] for row in rows if row["duplicate_of"])
    assert mark in {row["track_id"] for row in rows if not row["duplicate_of"]}
    assert {row["title"] for row in rows} == {"One", "Another"}
    assert set(TABLES["files"].schema.names) >= {"sound", "stat"}
