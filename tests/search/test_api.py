"""`import simsong`: what a program asks of a store in two lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import simsong
from simsong.errors import FileMissing, QueryError, StoreError
from simsong.search.resolve import SongUnresolved
from storage.exports import read_published
from storage.store import Store
from tests.asked_store import write_asked_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_asked_store(tmp_path_factory.mktemp("api") / "store")


@pytest.fixture
def songs(store: Store) -> simsong.Songs:
    return simsong.open(store.backend.url)


def test_similar_songs_are_those_of_the_sql(songs: simsong.Songs) -> None:
    ranking = songs.similar("ada bell - amber amber", k=7)
    by_sql = songs.sql("FROM similar($song, k := $k)", {"song": "TR000", "k": 7})
    assert ranking.columns == by_sql.columns == ["rank", "score", "artist", "title", "track_id"]
    assert [row["track_id"] for row in ranking] == [row["track_id"] for row in by_sql]
    assert [row["score"] for row in ranking] == pytest.approx([row["score"] for row in by_sql], abs=1e-6)
    assert len(ranking) == 7 and ranking[0]["rank"] == 1 and ranking[-1]["rank"] == 7
    with pytest.raises(IndexError):
        ranking[7]


def test_an_answer_prints_well_and_goes_elsewhere(songs: simsong.Songs) -> None:
    ranking = songs.similar("TR000", k=3)
    lines = repr(ranking).splitlines()
    assert lines[0].split() == ["rank", "score", "artist", "title", "track_id"] and len(lines) == 5
    assert ranking.to_arrow().num_rows == len(ranking.to_pandas()) == 3
    odd = repr(songs.sql("SELECT title FROM songs WHERE track_id = 'TR014'"))
    assert "\x1b" not in odd and "\t" not in odd
    assert len(repr(songs.sql("SELECT range AS n FROM range(80)")).splitlines()) == 53


def test_vectors_are_asked_as_songs_are(songs: simsong.Songs, store: Store) -> None:
    vector = songs.embedding("TR000")
    published = read_published(store)
    row = published.tracks["track_id"].to_pylist().index("TR000")
    assert np.array_equal(vector, published.embeddings[row])
    assert songs.similar(vector, k=1)[0]["track_id"] == "TR000"
    with pytest.raises(QueryError, match="a vector"):
        songs.similar(np.ones(3, np.float32))
    with pytest.raises(QueryError, match="k = 0"):
        songs.similar("TR000", k=0)


def test_what_cannot_be_answered_is_a_typed_error(songs: simsong.Songs, tmp_path: Path) -> None:
    with pytest.raises(SongUnresolved):
        songs.similar("nobody - nothing at all")
    with pytest.raises(QueryError):
        songs.sql("DROP VIEW songs")
    with pytest.raises(FileMissing):
        songs.embed(tmp_path / "none.mp3")
    with pytest.raises(StoreError):
        simsong.open(tmp_path / "none")
    with Store.writing(str(tmp_path / "empty")):
        pass
    with pytest.raises(StoreError, match="nothing is published"):
        simsong.open(tmp_path / "empty").similar("x")


def test_a_file_is_embedded_as_the_catalogues_songs_are(tmp_path: Path) -> None:
    from tests.search.test_neighbours import published
    from tests.small_world import configured, refresh, write_song

    file = write_song(tmp_path / "music", "one", lyrics=None)
    for name in ("two", "three"):
        write_song(tmp_path / "music", name, lyrics=None)
    config = configured(tmp_path / "music", tmp_path / "store")
    refresh(config)
    published(Store.open(config.store))
    settings = tmp_path / "simsong.toml"
    settings.write_text('[segments]\nlength_s = 1.0\nhop_s = 1.0\n[trim]\nmode = "none"\n')
    with simsong.open(config.store, config=settings) as songs:
        first, = songs.sql("SELECT track_id FROM songs WHERE title = 'song of one'")
        vector = songs.embed(file)
        assert vector == pytest.approx(songs.embedding(first["track_id"]), abs=1e-3)
        assert songs.similar(file, k=1)[0]["track_id"] == first["track_id"]
        samples, rate = soundfile.read(file)
        soundfile.write(tmp_path / "clip.wav", samples[:rate * 2], rate)
        assert songs.similar(str(tmp_path / "clip.wav"), k=1)[0]["track_id"] == first["track_id"]


def test_connect_is_simsong_sql(store: Store) -> None:
    with simsong.connect(store.backend.url) as db:
        assert db.execute("SELECT count(*) FROM songs").fetchone() == (56,)
        with pytest.raises(QueryError):
            db.execute("COPY songs TO 'x'")


def test_importing_it_is_light(store: Store) -> None:
    program = ("import sys, simsong\nassert 'pyarrow' not in sys.modules and 'storage' not in sys.modules\n"
               "songs = simsong.open(sys.argv[1])\nsongs.similar('TR000')\nsongs.sql('FROM funnel()')\n"
               "heavy = ('torch', 'prefect', 'transformers', 'librosa')\n"
               "print([name for name in heavy if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", program, store.backend.url], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
