"""Every form of query against what it means, over a small published store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simsong
from simsong.answers.library import Library
from simsong.answers.similar import AGAINST, answer
from simsong.answers.windows import windows_of
from simsong.config_loader import load
from simsong.errors import FileMissing, QueryError, StoreError
from simsong.search.resolve import SongUnresolved
from simsong.search.song_query import SongFilters, SongQuery
from storage.store import Store
from tests.asked_store import ARTISTS, GENRES, WORDS, write_asked_store
from tests.cli.test_cli import simsong as command


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    store = write_asked_store(tmp_path_factory.mktemp("similar") / "store")
    return Library(store, load(None, {"store": store.backend.url}, {}))


def found(library: Library, **query: Any) -> list[str]:
    ranking = answer(library, SongQuery(**query))
    return [library.ids[hit.row].as_py() for hit in ranking.hits]


def unit(library: Library, *rows: int) -> np.ndarray:
    vectors = library.published.embeddings[list(rows)].astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def nearest(library: Library, vector: np.ndarray, without: set[int], k: int = 10) -> list[str]:
    """By brute force, each recording once."""
    scores = unit(library, *range(len(library))) @ vector
    out, seen = list[str](), {int(library.recordings[row]) for row in without}
    for row in np.argsort(-scores, kind="stable").tolist():
        if row not in without and int(library.recordings[row]) not in seen:
            seen.add(int(library.recordings[row]))
            out.append(library.ids[row].as_py())
    return out[:k]


def row(library: Library, number: int) -> int:
    at = library.row_of(f"TR{number:03d}")
    assert at is not None
    return at


def test_several_songs_with_plus_and_minus(library: Library) -> None:
    a, b, c = (row(library, number) for number in (0, 5, 9))
    plus = unit(library, a, b).mean(axis=0)
    assert found(library, like=("TR000", "TR005")) == nearest(library, plus, {a, b})
    want = nearest(library, plus - AGAINST * unit(library, c)[0], {a, b, c})
    assert found(library, like=("TR000", "TR005"), unlike=("TR009",)) == want
    assert want != nearest(library, plus, {a, b, c}), "or this could not fail"
    about = answer(library, SongQuery(like=("TR000",), unlike=("TR009",))).about
    assert about.startswith("Ada Bell - Amber amber, unlike Juniper - ")


def test_an_artist_is_asked_without_its_own_songs(library: Library) -> None:
    rows = [at for at, name in enumerate(library.published.tracks["artist"].to_pylist()) if name == "Fjord"]
    want = nearest(library, unit(library, *rows).mean(axis=0), set(rows))
    assert found(library, artists=("fjord",)) == found(library, artists=("Fjörd",)) == want
    with pytest.raises(QueryError, match=r"no artist is called 'Fjrdo qq'"):
        found(library, artists=("Fjrdo qq",))
    with pytest.raises(QueryError, match="no artist is called"):
        found(library, artists=("\x1b[2J",))


def test_a_genre_is_asked_with_its_own_songs(library: Library) -> None:
    rows = library.of_genre("folk")
    assert {int(library.ids[at].as_py()[2:]) % len(GENRES) for at in rows} == {GENRES.index("Folk")}
    assert found(library, genres=("folk",)) == nearest(library, unit(library, *rows).mean(axis=0), set())
    with pytest.raises(QueryError, match="no genre is called 'polka'"):
        found(library, genres=("polka",))


def test_a_vector_is_asked_and_joins_in(library: Library) -> None:
    a = row(library, 3)
    vector = np.linspace(-1, 1, 16)
    assert found(library, vector=vector) == nearest(library, vector, set())
    both = (unit(library, a)[0] + vector / np.linalg.norm(vector)) / 2
    assert found(library, vector=vector, like=("TR003",)) == nearest(library, both, {a})


def test_a_span_of_a_song_is_its_windows_there(library: Library) -> None:
    a = row(library, 8)
    windows = windows_of(library, a)
    assert windows.starts_s.tolist() == [2, 32, 62] and windows.ends_s.tolist() == [32, 62, 92]
    want = nearest(library, windows.units[1], {a})
    assert found(library, like=("TR008@0:32-1:02",)) == want
    both = 10 * windows.units[0] + 20 * windows.units[1]
    assert found(library, like=("TR008@0:22-0:52",)) == nearest(library, both / np.linalg.norm(both), {a})
    with pytest.raises(QueryError, match="of that song was heard 0:02-0:32, 0:32-1:02, 1:02-1:32"):
        found(library, like=("TR008@2:00-",))


FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({"genres": ("ROCK", "jazz")}, lambda i: i % 4 in (2, 3)),
    ({"artists": ("gale feat. Nobody", "Fjord")}, lambda i: ARTISTS[i % 12] in ("Gale", "Fjord")),
    ({"without_artists": ("Gale",)}, lambda i: ARTISTS[i % 12] != "Gale"),
    ({"years": (1995, 1999)}, lambda i: 1995 <= 1990 + (7 * i) % 30 <= 1999),
    ({"years": (None, 1991)}, lambda i: (7 * i) % 30 <= 1),
    ({"tags": ("Amber",)}, lambda i: WORDS[i % 5] == "amber" or WORDS[(i * i) % 5] == "amber"),
    ({"genres": ("Folk",), "years": (2000, None)}, lambda i: i % 4 == 1 and (7 * i) % 30 >= 10),
]


@pytest.mark.parametrize(("filters", "passes"), FILTERS, ids=[str(filters)[:40] for filters, _ in FILTERS])
def test_filters_let_pass_what_they_say(library: Library, filters: dict[str, Any], passes: Any) -> None:
    ids = found(library, like=("TR000",), k=100, distinct=False, filters=SongFilters(**filters))
    there = {name for name in library.ids.to_pylist() if name != "TR000" and passes(int(name[2:]))}
    assert set(ids) == there and 0 < len(ids) < len(library) - 1
    alone = found(library, k=3, filters=SongFilters(**filters))
    rows = [at for at, name in enumerate(library.ids.to_pylist()) if passes(int(name[2:]))]
    mean = unit(library, *rows).mean(axis=0)
    assert alone == [name for name in nearest(library, mean, set(), 100) if library.row_of(name) in rows][:3]


def test_traits_filter_by_range_and_by_word(tmp_path: Path) -> None:
    with Store.writing(str(write_asked_store(tmp_path / "store").backend.url)) as store:
        config = load(None, {"store": store.backend.url}, {})
        ids = Library(store, config).ids.to_pylist()
        store.write("traits", [[{"track_id": name, "tempo_bpm": 60.0 + at, "key": ("A", "C#", None)[at % 3],
                                 "mode": ("minor", "major", None)[at % 3], "energy": at / len(ids)}
                                for at, name in enumerate(ids)]], "id", shard=0)
        library = Library(store, config)

    def passing(*traits: Any) -> set[int]:
        mask = library.passing(SongFilters(traits=traits))
        assert mask is not None
        return set(np.flatnonzero(mask).tolist())

    assert passing(("tempo_bpm", 70, 79.5)) == set(range(10, 20))
    assert passing(("key", "a"), ("mode", "MINOR")) == {at for at in range(len(ids)) if at % 3 == 0}
    assert passing(("key", "C#"), ("energy", 0.5, None)) == {
        at for at in range(len(ids)) if at % 3 == 1 and at / len(ids) >= 0.5}
    assert passing(("voice", "sung")) < set(range(len(ids))) and not passing(("instrumental", 0, 1))


@pytest.mark.parametrize(("filters", "said"), [
    ({"genres": ("ro",)}, "no genre is called 'ro'; nearest: rock"), ({"tags": ("x",)}, "bears the tag 'x'"),
    ({"artists": ("Galaxy",)}, "no artist is called 'Galaxy'; nearest: Gale"),
    ({"without_artists": ("nobody at all",)}, "no artist"),
    ({"traits": (("tempo", 1.0, 2.0),)}, "no trait 'tempo'"),
    ({"traits": (("key", 3.0, 3.0),)}, "no trait 'key'"),
    ({"traits": (("energy", "high"),)}, "no trait 'energy' of that kind"),
    ({"traits": (("mode", "minor"),)}, "no song passes the filters"),
    ({"years": (2090, None)}, "no song passes the filters")])
def test_a_filter_that_nothing_can_pass_is_a_mistake(library: Library, filters: dict[str, Any],
                                                     said: str) -> None:
    with pytest.raises(QueryError, match=said):
        found(library, filters=SongFilters(**filters))


def test_caps_and_diversity(library: Library) -> None:
    ids = found(library, like=("TR000",), k=12, per_artist=1)
    artists = [ARTISTS[int(name[2:]) % 12] for name in ids]
    assert len(set(artists)) == len(artists) == 12
    albums = [(ARTISTS[int(name[2:]) % 12], int(name[2:]) % 7) for name in
              found(library, like=("TR000",), k=100, per_album=1)]
    assert len(set(albums)) == len(albums) > 30
    near, far = (found(library, like=("TR000",), k=8, diversity=value) for value in (0.0, 0.9))

    def spread(names: list[str]) -> float:
        vectors = unit(library, *[at for name in names if (at := library.row_of(name)) is not None])
        return float((vectors @ vectors.T).mean())

    assert near[0] == far[0] and spread(far) < spread(near) - 0.1


def test_whoever_may_not_read_files_names_none(library: Library, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(b"RIFF")
    for text in (str(tmp_path / "song.wav"), f"{tmp_path}/song.wav@0:01-0:02", str(tmp_path)):
        with pytest.raises(SongUnresolved):
            answer(library, SongQuery(like=(text,)), files=False)
    with pytest.raises(FileMissing):
        answer(library, SongQuery(like=(str(tmp_path / "none.wav"),)))
    with pytest.raises(FileMissing):
        answer(library, SongQuery(like=(f"{tmp_path}/none.wav@1-2",)))


def test_words_are_compared_with_the_lyrics(tmp_path: Path) -> None:
    from tests.search.test_neighbours import published
    from tests.small_world import configured, refresh, write_song

    about = {
        "sea": "The waves roll over the harbour, sailors sail their boats across the stormy ocean all night",
        "love": "I love you my darling, kiss me again, hold my heart in your arms and marry me tomorrow",
        "war": "Soldiers march with guns to the front, the bombs are falling and the cities are burning"}
    for name, words in about.items():
        write_song(tmp_path / "music", name, lyrics=f"{words}\n{words.lower()} again")
    write_song(tmp_path / "music", "silent", lyrics=None)
    config = configured(tmp_path / "music", tmp_path / "store")
    refresh(config)
    published(Store.open(config.store))
    songs = simsong.open(config.store)
    for name, words in (("sea", "a ship on the water"), ("war", "the army attacks"), ("love", "a wedding")):
        rows = songs.search(SongQuery(lyrics=words))
        assert rows[0]["title"] == f"song of {name}" and len(rows) == 3
        assert rows.notes == ("3 of 4 songs have lyrics",)
        assert rows.about == f'the words "{words}"'


def test_where_nobody_has_lyrics_that_is_said(tmp_path: Path) -> None:
    store = write_asked_store(tmp_path / "store")
    with pytest.raises(StoreError, match="no published song has lyrics"):
        simsong.open(store.backend.url).search(SongQuery(lyrics="words"))


def test_the_command_asks_the_same(library: Library) -> None:
    store = library.store.backend.url
    out = command("similar", "TR000", "TR005", "--unlike", "TR009", "--years", "1990-2005", "--per-artist",
                  "2", "-k", "5", "--distinct", "--store", store, "--json").stdout
    want = found(library, like=("TR000", "TR005"), unlike=("TR009",), k=5, per_artist=2,
                 filters=SongFilters(years=(1990, 2005)))
    assert [one["track_id"] for one in json.loads(out)] == want
    assert "like the genre Folk (model" in command("similar", "--like-genre", "Folk", "--store", store).stdout
    for words, said in ((("--years", "x"), "years are"), ((), "nothing is asked"),
                        (("--lyrics", "a", "--like-artist", "b"), "lyrics is asked by itself")):
        stderr = command("similar", *words, "--store", store, code=1).stderr
        assert said in stderr and len(stderr.splitlines()) == 1


def test_two_threads_may_load_models_at_once() -> None:
    """As an upload and the server's own warming up do."""
    script = """
import threading
from simsong.answers.similar import import_transformers
errors = []
def load(module):
    try:
        import_transformers()
        __import__(module)
    except ImportError as error:
        errors.append(error)
names = ("simsong.model.frozen", "simsong.lyrics.embed")
threads = [threading.Thread(target=load, args=(name,)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(errors)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
