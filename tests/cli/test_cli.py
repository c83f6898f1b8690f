"""The commands, as a user calls them: a process each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from simsong.answers.library import Library
from simsong.answers.similar import answer, file_named
from simsong.cli.similar import similar
from simsong.config import Config
from simsong.config_loader import load
from simsong.errors import FileMissing, ModelError, QueryError, StoreError
from simsong.files.places import AUDIO_SUFFIXES
from simsong.search.song_query import SongQuery
from storage.exports import CURRENT
from storage.store import Store

NAMES = [("Ann & the Anchors", "Sea <b>Song</b>"), ("Bob", "Road"), ("Bob", "Roads"), ("Çağla", "Deniz")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published store of four songs; vectors at 0, 10, 20 and 90 degrees."""
    root = tmp_path_factory.mktemp("cli") / "store"
    angles = np.radians([0, 10, 20, 90])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ids = [f"T{i}" for i in range(4)]
    with Store.writing(str(root)) as opened:
        opened.write("tracks", [[{"track_id": i, "artist": a, "title": t, "source": "table", "shard": 0}
                                 for i, (a, t) in zip(ids, NAMES, strict=True)]], "id")
        opened.write("outcomes", [[{"track_id": "T0", "status": "ok", "attempts": 1},
                                   {"track_id": "T1", "status": "failed", "reason": "private",
                                    "attempts": 1}]],
                     "id", partition="fetch_audio", facts={"outputs": {}, "open": 0})
        rows = pa.table({"track_id": ids, "artist": [a for a, _ in NAMES], "title": [t for _, t in NAMES],
                         "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 2)})
        file = opened.scratch()
        pq.write_table(rows, file)
        opened.put("exports/ns-0/tracks.parquet", file)
        opened.put_json(CURRENT, {"model": "ns-0", "songs": 4})
    return root


def simsong(*words: str | Path, cwd: Path | None = None, code: int = 0,
            **env: str) -> subprocess.CompletedProcess[str]:
    process = subprocess.run([sys.executable, "-m", "simsong.cli", *map(str, words)], capture_output=True,
                             text=True, check=False, cwd=cwd, env={**os.environ, **env}, timeout=120)
    assert process.returncode == code, process.stderr
    return process


def test_similar_by_id_and_by_name(store: Path) -> None:
    rows = json.loads(simsong("similar", "T0", "--store", store, "--json").stdout)
    assert [row["track_id"] for row in rows] == ["T1", "T2", "T3"]
    assert [row["score"] for row in rows] == [0.9848, 0.9397, 0.0]
    assert rows[0] == {"track_id": "T1", "artist": "Bob", "title": "Road", "score": 0.9848,
                       "duplicate_of": None, "same_recording_as": None}
    rows = json.loads(simsong("similar", "cagla - deniz", "-k", "1", "--store", store, "--json").stdout)
    assert [row["track_id"] for row in rows] == ["T2"]
    assert "Sea <b>Song</b>" in simsong("similar", "T1", "--store", store).stdout


def test_similar_marks_the_same_recording(tmp_path: Path) -> None:
    """Of T0 to T9, 10 degrees apart, T1 is T0 again; T3, T4 and T5 are one; T6 is of a song not published."""
    ids, angles = [f"T{i}" for i in range(10)], np.radians(np.arange(10) * 10)
    marks = {"T1": "T0", "T4": "T3", "T5": "T3", "T6": "T99"}
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    with Store.writing(str(tmp_path)) as opened:
        file = opened.scratch()
        pq.write_table(pa.table({
            "track_id": ids, "artist": ["Bob"] * 10, "title": [f"Song {i}" for i in ids],
            "duplicate_of": [marks.get(i) for i in ids],
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 2)}), file)
        opened.put("exports/ns-0/tracks.parquet", file)
        opened.put_json(CURRENT, {"model": "ns-0", "songs": 10})

    def listed(*words: str) -> list[tuple[str, str | None, str | None]]:
        rows = json.loads(simsong("similar", *words, "--store", tmp_path, "--json").stdout)
        return [(row["track_id"], row["duplicate_of"], row["same_recording_as"]) for row in rows]

    assert listed("T0", "-k", "6") == [("T1", "T0", "T0"), ("T2", None, None), ("T3", None, None),
                                       ("T4", "T3", "T3"), ("T5", "T3", "T3"), ("T6", "T99", None)]
    assert listed("T0", "-k", "3", "--distinct") == [("T2", None, None), ("T3", None, None),
                                                     ("T6", "T99", None)]
    assert [row[0] for row in listed("T5", "-k", "3", "--distinct")] == ["T6", "T7", "T2"]
    assert [row[0] for row in listed("T9", "--distinct")] == ["T8", "T7", "T6", "T5", "T2", "T1"]
    shown = simsong("similar", "T1", "-k", "2", "--store", tmp_path).stdout
    assert "same recording as" in shown
    assert ["T0", "T1"] in [line.split()[-2:] for line in shown.splitlines()]
    assert "same recording as" not in simsong("similar", "T8", "-k", "2", "--store", tmp_path).stdout


def test_sql_in_every_form(store: Path, tmp_path: Path) -> None:
    query = "SELECT reason, count(*) AS n FROM outcomes WHERE status = 'failed' GROUP BY 1"
    as_csv = simsong("sql", query, "--store", store, "--format", "csv").stdout
    assert as_csv.split() == ["reason,n", "private,1"]
    as_json = simsong("sql", query, "--store", store, "--format", "json").stdout
    assert json.loads(as_json) == [{"reason": "private", "n": 1}]
    assert "private" in simsong("sql", query, "--store", store).stdout
    simsong("sql", query, "--store", store, "--format", "parquet", "--output", tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == [{"reason": "private", "n": 1}]


def test_status_tells_the_funnel(store: Path) -> None:
    answer = json.loads(simsong("status", "--store", store, "--json").stdout)
    assert answer["stages"]["fetch_audio"] == {"ok": 1, "failed": {"private": 1}, "pending": {},
                                               "parts_computed": 0, "parts_reused": 0, "seconds": 0}
    assert "1 private" in simsong("status", "--store", store).stdout


@pytest.mark.parametrize("words", [("similar", "T0"), ("sql", "SELECT 1"), ("status",)])
def test_asking_imports_neither_prefect_nor_torch(store: Path, words: tuple[str, ...]) -> None:
    code = ("import sys; from simsong.cli import main; sys.argv = ['simsong', *sys.argv[1:]]\n"
            "try: main()\nexcept SystemExit: pass\n"
            "print([n for n in ('prefect', 'torch', 'transformers') if n in sys.modules], file=sys.stderr)")
    process = subprocess.run([sys.executable, "-c", code, *words, "--store", str(store)], capture_output=True,
                             text=True, check=True)
    assert process.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("words", "said"), [
    (("similar", "zzzz qqqq", "--store", "{store}"), "no song is called 'zzzz qqqq'"),
    (("similar", "T0", "--store", "nowhere"), "there is no store there; `simsong run` makes one"),
    (("similar", "gone.mp3", "--store", "{store}"), "gone.mp3"),
    (("sql", "SELEC 1", "--store", "{store}"), "Parser Error"),
    (("sql", "DROP VIEW tracks", "--store", "{store}"), "sql takes one SELECT"),
    (("sql", "SELECT 1; SELECT 2", "--store", "{store}"), "sql takes one SELECT"),
    (("sql", "SELECT * FROM read_csv('/etc/passwd')", "--store", "{store}"), "sql reads the store's views"),
    (("run", "--folder", "nowhere", "--store", "{tmp}/s"), "nowhere"),
    (("run", "--store", "{tmp}/s"), "no catalogue: name one with --folder DIR"),
    (("retry", "--stage", "fetching", "--store", "{store}"), "there is no such stage"),
    (("retry", "--stage", "fetch_audio", "--reason", "luck", "--store", "{store}"), "is no such reason"),
    (("status", "--config", "{tmp}/none.toml"), "there is no such file"),
    (("similar", "{tmp}/none", "--store", "{store}"), "there is no such file"),
    (("similar", "{tmp}", "--store", "{store}"), "is a folder; name an audio file"),
    (("status", "--store", "{store}/store.json"), "store.json"),
    (("ingest", "--folder", "", "--store", "{tmp}/s"), "sources.folder.0 = '': must not be empty"),
])
def test_mistakes_are_one_line(store: Path, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    process = simsong(*(word.format(store=store, tmp=tmp_path) for word in words), cwd=tmp_path, code=1,
                      PREFECT_HOME=str(tmp_path / "prefect"))
    lines = [line for line in process.stderr.splitlines() if line != "starting Prefect …"]
    assert len(lines) == 1, process.stderr
    assert lines[0].startswith("simsong: ")
    assert said in lines[0]


def published(root: Path, model: str, vectors: np.ndarray) -> Store:
    with Store.writing(str(root)) as opened:
        file = opened.scratch()
        flat = pa.array(vectors.ravel(), pa.float32())
        pq.write_table(pa.table({
            "track_id": [f"T{i}" for i in range(len(vectors))], "artist": ["Bob"] * len(vectors),
            "title": [f"Song {i}" for i in range(len(vectors))],
            "embedding": pa.FixedSizeListArray.from_arrays(flat, max(vectors.shape[1], 1))}), file)
        opened.put(f"exports/{model}/tracks.parquet", file)
        opened.put_json(CURRENT, {"model": model, "songs": len(vectors)})
        return opened


def asked(song: str | Path, config: Config, notes: list[str] | None = None) -> list[int]:
    """The numbers of the songs most like a file, as `similar` finds them."""
    ranking = answer(Library(Store.open(config.store), config), SongQuery(like=(str(song),), k=3))
    if notes is not None:
        notes[:] = ranking.notes
    return [hit.row for hit in ranking.hits]


def test_a_file_of_any_suffix_and_length_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published songs are three songs' own embeddings: each is most like itself, and a clip of it too."""
    from simsong.audio.segments import cut, decode_segment
    from simsong.config import ModelSettings
    from simsong.model.embedding import embed_segments, song_embedding
    from simsong.model.encoder import build

    config = load(None, {"store": str(tmp_path / "store"), "segments": {"length_s": 4, "hop_s": 4}}, {})
    rng, rate_hz = np.random.default_rng(0), 16_000
    encoder = build(ModelSettings(preset="tiny"), seed=0, segment_s=4.0).eval()
    songs = [(0.3 * np.sin(2 * np.pi * np.cumsum(np.full(12 * rate_hz, f)) / rate_hz)
              + level * rng.standard_normal(12 * rate_hz)).astype(np.float32)
             for f, level in ((220, 0.0), (1500, 0.02), (4000, 0.1))]
    vectors = [song_embedding(embed_segments(encoder, [decode_segment(window.audio) for window in
                                                       cut(song, 0, 12, config.segments)])) for song in songs]
    store = published(tmp_path / "store", "ns-0", np.stack(vectors))
    encoder.save(tmp_path / "model")
    with Store.writing(str(tmp_path / "store")) as opened:
        for name in ("model.safetensors", "config.json"):
            opened.put(f"models/ns/0/{name}", (tmp_path / "model" / name).read_bytes())
    notes: list[str] = []
    for number, song in enumerate(songs):
        sf.write(tmp_path / "clip.wav", song[:2 * rate_hz], rate_hz)
        assert asked(tmp_path / "clip.wav", config, notes)[0] == number
        assert f"{tmp_path}/clip.wav: a short clip, 2.0 s where the model hears 4 s at a time" in notes[0]
    sf.write(tmp_path / "all.wav", np.concatenate(songs), rate_hz)
    for number in range(3):
        span = f"0:{12 * number:02}-0:{12 * number + 12}"
        assert asked(f"{tmp_path}/all.wav@{span}", config, notes)[0] == number
    assert asked(f"{tmp_path}/all.wav@24-", config)[0] == 2
    with pytest.raises(QueryError, match="ends at 0:36, before 0:50"):
        asked(f"{tmp_path}/all.wav@0:50-0:55", config)
    sf.write(tmp_path / "whole.flac", songs[1], rate_hz)
    monkeypatch.setenv("HOME", str(tmp_path))
    for suffix in (".mka", ".ape", ".song", ""):
        (tmp_path / "whole.flac").rename(tmp_path / f"whole{suffix}")
        assert asked(f"~/whole{suffix}", config, notes)[0] == 1
        assert not notes, "a whole song is no clip"
        (tmp_path / f"whole{suffix}").rename(tmp_path / "whole.flac")
    (tmp_path / "store/models/ns/0/model.safetensors").unlink()
    with pytest.raises(ModelError, match="models/ns/0: lost; `simsong train` makes it again"):
        asked(tmp_path / "clip.wav", config)
    assert store.get_json(CURRENT)


def test_every_suffix_of_a_folder_is_a_files_and_slashes_may_be_names(tmp_path: Path) -> None:
    for suffix in AUDIO_SUFFIXES:
        with pytest.raises(FileMissing, match="there is no such file"):
            file_named(f"gone{suffix.upper()}", certain=True)
    for name in ("AC/DC - Thunderstruck", "T0", "Song", "x" * 5000, "a\0b"):
        assert file_named(name, certain=True) is None


def test_a_store_of_timbre_or_of_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(b"RIFF")
    published(tmp_path / "timbre", "timbre", np.eye(3, dtype=np.float32))
    with pytest.raises(ModelError, match="places its songs by MSD's timbre"):
        asked(tmp_path / "song.wav", load(None, {"store": str(tmp_path / "timbre")}, {}))
    published(tmp_path / "empty", "ns-0", np.empty((0, 1), np.float32))
    for words in (("T0",), (str(tmp_path / "song.wav"),)):
        with pytest.raises(StoreError, match="no songs are published"):
            similar.main([*words, "--store", str(tmp_path / "empty")], standalone_mode=False)
    with Store.writing(str(tmp_path / "unpublished")):
        pass
    with pytest.raises(StoreError, match="nothing is published yet"):
        similar.main(["T0", "--store", str(tmp_path / "unpublished")], standalone_mode=False)


def test_unknown_options_are_one_line(store: Path) -> None:
    process = simsong("similar", "T0", "--stor", store, code=2)
    assert len(process.stderr.splitlines()) == 1
    assert "--store" in process.stderr


def test_doctor_says_what_is_missing_and_what_mends_it(store: Path, tmp_path: Path) -> None:
    process = simsong("doctor", "--store", store, cwd=tmp_path)
    assert "lyric model" in process.stdout
    assert "→ export GENIUS_ACCESS_TOKEN" in process.stdout
    process = simsong("doctor", "--store", store, cwd=tmp_path, code=1,
                      SIMSONG_LYRIC_MODEL__NAME=str(tmp_path / "none"))
    assert "MISSING lyric model" in process.stdout


def test_verify_finds_damage(store: Path) -> None:
    part = store / "tables/outcomes/stage=fetch_audio/00000.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:])
    try:
        process = simsong("verify", "--store", store, code=1)
        assert "damaged" in process.stdout and "fetch_audio/00000.parquet" in process.stdout
        assert "verify --mend" in process.stderr
    finally:
        part.write_bytes(whole)


def test_every_command_is_documented() -> None:
    from simsong.cli import cli, commands

    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    for command in commands():
        assert command.help, command.name
        assert f"`{command.name}`" in readme, f"the README does not name `{command.name}`"
    assert cli.help
