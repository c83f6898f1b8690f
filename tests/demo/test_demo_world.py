"""The demo world: what it says of itself is true of its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile

from simsong.demo import lyrics
from simsong.demo.compose import NIGHTCORE, render, song_score
from simsong.demo.plan import AUDIO_LOST, KINDS, plan_world, standard_kinds
from simsong.demo.styles import STYLE_NAMES, STYLES
from simsong.demo.synth import RATE_HZ
from simsong.demo.world import CATALOGUE_ERROR_S, World, build_world, encode
from simsong.errors import CatalogueError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SHORT = (30.0, 40.0)
ONE_OF_EACH = dict.fromkeys(KINDS, 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("demo") / "world", 24, seed=3, workers=1, duration_s=SHORT,
                       kinds=ONE_OF_EACH)


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12))


def read(h5: Any, name: str) -> Any:
    return h5[name][()]


def songs_of_each_style():
    plan = plan_world(24, 5, (45.0, 50.0), {})
    by_style = {song.spec.style: song for song in plan.songs}
    assert set(by_style) == set(STYLE_NAMES)
    return by_style


# --- composing

def test_a_song_is_the_same_every_time_and_another_with_another_seed():
    spec = plan_world(6, 0, SHORT, {}).songs[0].spec
    score = song_score(spec)
    assert score == song_score(spec)
    samples = render(spec, score)
    assert samples.dtype == np.float32 and len(samples) == int(score.duration_s * RATE_HZ)
    np.testing.assert_array_equal(samples, render(spec, song_score(spec)))
    other = plan_world(6, 1, SHORT, {}).songs[0].spec
    assert song_score(other).notes != score.notes


def test_plan_is_deterministic_and_differs_by_seed():
    assert plan_world(40, 0, SHORT, {}) == plan_world(40, 0, SHORT, {})
    assert {s.track_id for s in plan_world(40, 0, SHORT,
                                           {}).songs}.isdisjoint(s.track_id for s in plan_world(40, 1, SHORT,
                                                                                                {}).songs)


@pytest.mark.parametrize("style", STYLE_NAMES)
def test_intro_and_outro_are_where_the_truth_says(style: str):
    song = songs_of_each_style()[style]
    score = song_score(song.spec)
    samples = render(song.spec, score)
    start, end = int(score.intro_s * RATE_HZ), int((score.duration_s - score.outro_s) * RATE_HZ)
    two_bars = int(2 * STYLES[style].steps * 60 / score.tempo / 4 * RATE_HZ)
    body = level_db(samples[start:start + two_bars])
    assert body - level_db(samples[:start]) > 6              # sparse before, everybody after
    last = samples[-int(0.25 * score.outro_s * RATE_HZ):]
    assert level_db(samples[end - two_bars:end]) - level_db(last) > 10
    assert np.abs(samples).max() < 1.0
    assert 45 - 5 < score.duration_s < 50 + 5


def test_styles_differ_in_tempo_metre_and_drums():
    scores = {style: song_score(song.spec) for style, song in songs_of_each_style().items()}
    for style, score in scores.items():
        low, high = STYLES[style].tempo
        assert low <= score.tempo <= high
    assert scores["punk"].tempo > scores["folk"].tempo > scores["reggae"].tempo

    def beats_of(style: str, hit: str) -> set[int]:
        """Places of a hit within the bar, in beats, over the first verse."""
        score = scores[style]
        beat_s = 60 / score.tempo
        end_s = score.sections[1][1] - 4 * beat_s
        return {round((h.start_s - score.intro_s) / beat_s) % 4 for h in score.hits
                if h.name == hit and h.start_s < end_s}

    assert beats_of("house", "kick") >= {0, 1, 2, 3}         # four on the floor
    assert {"kick", "boom"} & {h.name for h in scores["trap"].hits} == {"boom"}
    assert not {"snare", "clap", "kick"} & {h.name for h in scores["ambient"].hits}
    density = {style: len(score.notes) / score.duration_s for style, score in scores.items()}
    assert density["punk"] > 3 * density["ambient"]


def test_variants_change_what_they_say():
    spec = songs_of_each_style()["folk"].spec
    score = song_score(spec)
    original = render(spec, score)
    karaoke = render(spec, score, "karaoke")
    assert len(karaoke) == len(original) and any(note.role == "lead" for note in score.notes)
    assert abs(len(render(spec, score, "nightcore")) - len(original) / NIGHTCORE) < 2
    body = slice(int(score.intro_s * RATE_HZ), int((score.duration_s - score.outro_s) * RATE_HZ))
    alike = np.corrcoef(original[body], karaoke[body])[0, 1]
    assert 0.3 < alike < 0.999                               # the band stays, the lead is gone
    assert abs(np.corrcoef(original[body], render(spec, score, "cover")[body])[0, 1]) < 0.3


# --- truth

@pytest.fixture(scope="module")
def plan():
    return plan_world(120, 0, (90.0, 150.0), standard_kinds(120))


def test_world_of_the_demo_has_the_promised_size(plan):
    assert len(plan.songs) == 120 and len(plan.artists) == 24
    assert {artist.style for artist in plan.artists} == set(STYLE_NAMES)
    assert sum(song.kind in AUDIO_LOST for song in plan.songs) <= 0.05 * 120
    assert {song.kind for song in plan.songs} == {None, *KINDS}
    fits = [STYLE_NAMES.index(s.spec.style) == lyrics.THEME_NAMES.index(s.theme) for s in plan.songs]
    assert 0.5 < np.mean(fits) < 0.75
    assert len({(s.artist, s.title) for s in plan.songs}) == 120
    assert all(len(s.track_id) == 18 and s.track_id[:2] == "TR" and s.track_id.isalnum() for s in plan.songs)
    assert len(plan_world(400, 0, SHORT, {}).artists) == 80


def test_similars_follow_artist_style_and_relation(plan):
    by_id = {song.track_id: song for song in plan.songs}
    scores: dict[str, list[float]] = {"artist": [], "style": [], "related": [], "other": []}
    for song in plan.songs:
        assert list(song.similars) == sorted(song.similars, key=lambda pair: (-pair[1], pair[0]))
        for other_id, score in song.similars:
            if (other := by_id.get(other_id)) is None:
                continue                                     # a track that the catalogue does not hold
            mine, its = song.spec.style, other.spec.style
            relation = "artist" if other.artist_id == song.artist_id else "style" if its == mine \
                else "related" if its in STYLES[mine].related else "other"
            scores[relation].append(score)
    assert min(scores["artist"]) >= 0.5 and max(scores["artist"]) == 1.0
    assert min(scores["style"]) >= 0.1 and max(scores["style"]) <= 0.7
    assert np.mean(np.array(scores["related"]) < 0.1) > 0.8 and max(scores["other"]) <= 0.03
    same_style = 24 * 5 * 10                                 # directed pairs of one style and two artists
    assert 0.75 < len(scores["style"]) / same_style < 0.85   # 0.8 of them are listed


def test_lyrics_have_headers_and_their_theme_only():
    for i, name in enumerate(lyrics.THEME_NAMES):
        text = lyrics.lyrics(name, np.random.default_rng(i))
        lines = [line for line in text.split("\n") if line and not line.startswith("[")]
        assert 20 <= len(lines) <= 40 and text.count("[Chorus]") >= 2 and text.startswith("[Verse 1]")
        chorus = text.split("[Chorus]\n")[1].split("\n\n")[0]
        assert text.count(chorus) == text.count("[Chorus]")


# --- files

def test_files_and_truth_agree(world: World):
    assert len(world.tracks) == 24 and World.open(world.folder) == world
    assert len(list(world.msd.rglob("*.h5"))) == len(list(world.lastfm.rglob("*.json"))) == 24
    for track in world.tracks:
        page = world.page[track.page] if track.page else None
        if page is None or not track.has_audio:
            continue
        samples, rate = soundfile.read(world.audio / str(page.file))
        assert rate == RATE_HZ and abs(len(samples) / rate - track.duration_s) < 0.1
        with h5py.File(world.msd.joinpath(*track.track_id[2:5], f"{track.track_id}.h5")) as h5:
            songs, analyses = read(h5, "metadata/songs"), read(h5, "analysis/songs")
            pitches, timbre = read(h5, "analysis/segments_pitches"), read(h5, "analysis/segments_timbre")
            assert songs["title"][0].decode() == track.title
            analysis = analyses[0]
            assert analysis["duration"] == pytest.approx(track.duration_s)
            assert analysis["start_of_fade_out"] == pytest.approx(track.duration_s - track.outro_s, abs=0.01)
            assert pitches.shape[1] == 12 and pitches.max() == 1.0
            assert timbre.shape == pitches.shape


def test_broken_files_are_broken_as_said(world: World):
    by_kind = {track.kind: track for track in world.tracks if track.kind}
    assert set(by_kind) == set(KINDS)
    for kind in ("truncated", "garbage"):
        file = world.page[str(by_kind[kind].page)].file
        with pytest.raises(soundfile.LibsndfileError):
            soundfile.read(world.audio / str(file))
    assert world.page[str(by_kind["removed"].page)].status == 404
    assert world.page[str(by_kind["private"].page)].status == 403

    wrong = by_kind["wrong_duration"]
    lengths = [page.duration_s for page in world.pages if page.track_id == wrong.track_id]
    assert wrong.page is None and wrong.catalogue_duration_s == wrong.duration_s + CATALOGUE_ERROR_S
    assert len(lengths) == 2 and max(lengths) > 3500
    assert all(abs(length_s - wrong.catalogue_duration_s) > 60 for length_s in lengths)

    known = {(song.artist, song.title): song.lyrics for song in world.genius}
    assert by_kind["no_lyrics"].title not in {title for _, title in known}
    stranger = by_kind["other_artist_lyrics"]
    assert [artist for artist, title in known if title == stranger.title] != [stranger.artist]
    instrumental = by_kind["instrumental"]
    assert known[instrumental.artist, instrumental.title] is None and instrumental.lyrics is None
    twin_id = by_kind["karaoke_twin"].track_id
    assert "karaoke" in {page.kind for page in world.pages if page.track_id == twin_id}

    duplicate = by_kind["duplicate"]
    first, second = (world.page[str(world.track[t].page)] for t in (str(duplicate.twin_of),
                                                                    duplicate.track_id))
    a, b = (soundfile.read(world.audio / str(page.file))[0] for page in (first, second))
    n = min(len(a), len(b))
    best = max(np.corrcoef(a[1200:n - 1200], b[1200 + lag:n - 1200 + lag])[0, 1] for lag in (-1105, 0, 1105))
    assert best > 0.9


def test_second_build_takes_the_first_and_another_replaces_it(tmp_path: Path):
    folder = tmp_path / "world"
    first = build_world(folder, 4, workers=1, duration_s=SHORT)
    written = (folder / "world.json").stat().st_mtime_ns
    assert build_world(folder, 4, workers=1, duration_s=SHORT) == first
    assert (folder / "world.json").stat().st_mtime_ns == written
    other = build_world(folder, 4, seed=1, workers=1, duration_s=SHORT)
    assert {t.track_id for t in other.tracks}.isdisjoint(t.track_id for t in first.tracks)
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_processes_make_no_difference(tmp_path: Path):
    alone = build_world(tmp_path / "a", 24, seed=9, workers=1, duration_s=(10.0, 12.0))
    together = build_world(tmp_path / "b", 24, seed=9, workers=2, duration_s=(10.0, 12.0))
    assert (alone.tracks, alone.pages, alone.genius) == (together.tracks, together.pages, together.genius)
    for page in alone.pages:
        np.testing.assert_array_equal(soundfile.read(alone.audio / str(page.file))[0],
                                      soundfile.read(together.audio / str(page.file))[0])


def test_foreign_folders_are_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CatalogueError, match="holds other files"):
        build_world(tmp_path, 4, workers=1, duration_s=SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(CatalogueError, match="no demo world"):
        World.open(tmp_path)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_codecs_keep_the_sound(tmp_path: Path, suffix: str):
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE_HZ) / RATE_HZ)).astype(np.float32)
    encode(tmp_path / f"tone.{suffix}", tone)
    samples, rate = soundfile.read(tmp_path / f"tone.{suffix}")
    assert rate == RATE_HZ and abs(len(samples) - len(tone)) < 2000
    middle = samples[RATE_HZ // 2:RATE_HZ // 2 + RATE_HZ]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440 and level_db(middle) == pytest.approx(level_db(tone),
                                                                                               abs=0.5)


# --- true formats

def test_hdf5_has_the_fields_and_types_of_a_real_file(world: World):
    real_file = SHARED / "msd" / "h5" / "A" / "A" / "A" / "TRAAAEF128F4273421.h5"
    if not real_file.exists():
        pytest.skip("the real MSD files are not at hand")
    with h5py.File(real_file) as real, h5py.File(next(world.msd.rglob("*.h5"))) as ours:
        def layout(h5: h5py.File) -> dict[str, tuple]:
            entries: dict[str, tuple] = {}

            def note(name: str, item: h5py.Dataset | h5py.Group) -> None:
                dataset = isinstance(item, h5py.Dataset)
                entries[name] = (item.dtype, item.shape[1:], item.maxshape) if dataset else ("group",)

            h5.visititems(note)
            return entries

        assert layout(ours) == layout(real)


def test_lastfm_json_has_the_shape_of_a_real_file(world: World):
    ours = [json.loads(path.read_text()) for path in world.lastfm.rglob("*.json")]
    for song in ours:
        scores = [score for _, score in song["similars"]]
        assert scores == sorted(scores, reverse=True) and all(0 < score <= 1 for score in scores)
        assert all(isinstance(weight, str) and 0 <= int(weight) <= 100 for _, weight in song["tags"])
    assert any(score == 1 and isinstance(score, int) for song in ours for _, score in song["similars"])
    real_file = SHARED / "lastfm" / "A" / "A" / "A" / "TRAAAFD128F92F423A.json"
    if not real_file.exists():
        pytest.skip("the real Last.fm files are not at hand")
    assert set(ours[0]) == set(json.loads(real_file.read_text()))
