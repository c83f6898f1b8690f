"""The macros of the SQL, against the plainest computation of what they say; and by DuckDB alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.compute as pc
import pytest

from simsong.care.funnel import funnel
from simsong.matching import same_key
from storage.exports import CURRENT, Published, read_published
from storage.script import script
from storage.store import Store
from storage.tables import FUNNEL
from storage.views import connect
from tests.asked_store import track_id, write_asked_store

COPY = """import sys, duckdb
db = duckdb.connect()
db.execute(open(sys.argv[1]).read())
assert "simsong" not in sys.modules and "storage" not in sys.modules
print(db.execute(sys.argv[2]).fetchall())
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_asked_store(tmp_path_factory.mktemp("asked") / "a store [1] run=3 it's")


def asked(store: Store, query: str) -> list[tuple[Any, ...]]:
    """Through `connect`, and from DuckDB with the written file: the same."""
    with connect(store) as db:
        rows = db.execute(query).fetchall()
    with duckdb.connect() as plain:
        plain.execute(script(store))
        assert repr(plain.execute(query).fetchall()) == repr(rows)
    return rows


def brute(published: Published, vector: np.ndarray, own: str | None, k: int) -> list[tuple[float, str]]:
    """The k nearest, each recording once, as a loop in float64."""
    ids, marks = published.tracks["track_id"].to_pylist(), published.duplicate_of
    recording = {i: mark or i for i, mark in zip(ids, marks, strict=True)}
    v = vector.astype(np.float64)
    scored = []
    for name, row in zip(ids, published.embeddings.astype(np.float64), strict=True):
        scored.append((-round(float(row @ v / np.linalg.norm(row) / np.linalg.norm(v)), 12), name))
    seen, out = {recording[own]} if own else set(), []
    for score, name in sorted(scored):
        if recording[name] not in seen:
            seen.add(recording[name])
            out.append((-score, name))
    return out[:k]


@pytest.mark.parametrize("k", [1, 10, 58, 300])
def test_similar_is_what_brute_force_and_the_command_find(store: Store, k: int) -> None:
    published = read_published(store)
    for number in (0, 11, 47, 30):
        own = track_id(number)
        row = published.tracks["track_id"].to_pylist().index(own)
        rows = asked(store, f"SELECT track_id, score FROM similar('{own}', k := {k})")
        expected = brute(published, published.embeddings[row], own, k)
        assert [name for name, _ in rows] == [name for _, name in expected]
        assert [score for _, score in rows] == pytest.approx([s for s, _ in expected], abs=1e-6)
    done = subprocess.run([sys.executable, "-m", "simsong.cli", "similar", own, "-k", str(k), "--distinct",
                           "--json", "--store", store.backend.url], capture_output=True, text=True)
    assert [row["track_id"] for row in json.loads(done.stdout)] == [name for name, _ in rows], done.stderr


def test_similar_to_vector_is_what_brute_force_finds(store: Store) -> None:
    published, rng = read_published(store), np.random.default_rng(0)
    for _ in range(3):
        vector = rng.standard_normal(published.embeddings.shape[1]).astype(np.float32)
        rows = asked(store, f"SELECT track_id, score FROM similar_to_vector({vector.tolist()}, 20)")
        expected = brute(published, vector, None, 20)
        assert [name for name, _ in rows] == [name for _, name in expected]
        assert [score for _, score in rows] == pytest.approx([s for s, _ in expected], abs=1e-9)
    none = [0.0] * published.embeddings.shape[1]
    assert asked(store, f"FROM similar_to_vector({none})") == [], "no direction"


def test_artists_are_compared_by_all_pairs_of_their_songs(store: Store) -> None:
    published = read_published(store)
    names = np.array(published.tracks["artist"].to_pylist())
    unit = published.embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    expected = sorted((-cosines[np.ix_(names == "Fjord", names == other)].mean(), other)
                       for other in set(names) - {"Fjord"})
    rows = asked(store, "SELECT artist, round(score, 5) FROM artist_similar('fjord', 20)")
    assert [name for name, _ in rows] == [name for _, name in expected]
    assert [score for _, score in rows] == pytest.approx([-s for s, _ in expected], abs=2e-5)
    assert asked(store, "FROM artist_similar('nobody')") == []
    for spelling in ("The FJÖRD", "Fjord feat. Gale", "Fjord (ft. Gale)"):
        again = asked(store, f"SELECT artist, round(score, 5) FROM artist_similar('{spelling}', 20)")
        assert again == rows


def test_one_artist_is_told_as_everywhere_else(store: Store) -> None:
    names = ["The Beatles", "beatles", "Beatles, The", "Björk", "BJORK feat. Thom Yorke", "AC/DC", "ac dc",
             "!!!", "Theatre", "Be the Bear", "Guns N' Roses", "久石譲", "Ann Featherstone",
             "Sigur Rós ft. X", "Sigur Ros"]
    with connect(store) as db:
        keys = [db.execute("SELECT artist_key($1)", [name]).fetchall()[0][0] for name in names]
    for a, one in zip(names, keys, strict=True):
        for b, other in zip(names, keys, strict=True):
            assert (one == other) == (same_key(a) == same_key(b)), (a, b)


def test_neighbours_are_the_100_nearest_written_at_publish(store: Store) -> None:
    published = read_published(store)
    written = store.read("neighbours").to_pylist()
    for row, own in enumerate(published.tracks["track_id"].to_pylist()):
        expected = brute(published, published.embeddings[row], own, 100)
        own_rows = [line for line in written if line["track_id"] == own]
        assert [line["similar_id"] for line in own_rows] == [name for _, name in expected]
        assert [line["rank"] for line in own_rows] == list(range(1, len(expected) + 1))
    rows = asked(store, f"SELECT track_id FROM neighbours('{track_id(3)}')")
    assert [name for name, in rows] == [
        line["similar_id"] for line in written if line["track_id"] == track_id(3)]


def test_the_funnel_is_that_of_status(store: Store) -> None:
    expected = funnel(store)
    rows = asked(store, "SELECT stage, ok, failed, pending FROM funnel()")
    assert [row[0] for row in rows] == list(expected)
    for stage, *counts in rows:
        output = expected[stage]
        assert counts == [output["ok"], sum(output["failed"].values()),
                          sum(output["pending"].values())], stage
    with connect(store) as db:
        (text,), = db.execute("SELECT macro_definition FROM duckdb_functions() "
                              "WHERE function_name = 'funnel'").fetchall()
        assert all(f"'{stage}'" in text for stage in FUNNEL)


def test_failures_are_those_of_a_stage_or_of_all(store: Store) -> None:
    failed = [row for row in store.read("outcomes", partition="fetch_audio").to_pylist()
              if row["status"] != "ok"]
    rows = asked(store, "SELECT track_id, reason, detail FROM failures('fetch_audio')")
    assert sorted(rows) == sorted((row["track_id"], row["reason"], row["detail"]) for row in failed)
    stages = asked(store, "SELECT DISTINCT stage FROM failures() ORDER BY 1")
    assert stages == [("fetch_audio",), ("fetch_lyrics",)]


def test_two_songs_are_explained(store: Store) -> None:
    published = read_published(store)
    a, b = track_id(0), track_id(12)
    ids = published.tracks["track_id"].to_pylist()
    x, y = (published.embeddings[ids.index(name)].astype(np.float64) for name in (a, b))
    aspects = {aspect: (score, detail) for aspect, score,
               detail in asked(store, f"FROM explain('{a}', '{b}')")}
    assert aspects["audio"][0] == pytest.approx(float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)),
                                                abs=1e-4)
    assert aspects["artist"] == (1.0, "Ada Bell") and aspects["genres"] == (1.0, "electronic")
    assert aspects["listeners"][0] == pytest.approx(0.9)
    with connect(store) as db:
        rows = db.execute("SELECT track_id, segment, embedding FROM segment_embeddings").fetchall()
    windows = {(name, n): np.array(v, np.float64) for name, n, v in rows if name in (a, b)}
    best = max((float(windows[a, i] @ windows[b, j] / np.linalg.norm(windows[a, i])
                      / np.linalg.norm(windows[b, j])), i, j) for i in range(3) for j in range(3))
    assert aspects["windows"][0] == pytest.approx(best[0], abs=1e-4)
    spans = [f"{(2 + 30 * n) // 60}:{(2 + 30 * n) % 60:02d}-{(32 + 30 * n) // 60}:{(32 + 30 * n) % 60:02d}"
             for n in best[1:]]
    assert aspects["windows"][1] == f"most alike: {spans[0]} of a, {spans[1]} of b"
    assert asked(store, f"FROM explain('{a}', 'nobody')") == []


def test_centroids_are_means(store: Store) -> None:
    (mean,), = asked(store, "SELECT centroid(list(embedding ORDER BY track_id)) FROM songs")
    assert mean == pytest.approx(read_published(store).embeddings.mean(axis=0).tolist(), abs=1e-6)


def test_songs_are_found_by_their_name(store: Store) -> None:
    assert asked(store, "SELECT track_id, score FROM find('ada bell - amber amber', 1)") == [("TR000", 1.0)]
    assert asked(store, "SELECT track_id FROM find('TR014', 1)") == [("TR014",)]


def test_what_is_current_is_shown_and_every_model_in_all(store: Store) -> None:
    width = read_published(store).embeddings.shape[1]
    assert asked(store, "SELECT DISTINCT model, typeof(embedding) FROM track_embeddings") == [
        ("mfcc-2", f"FLOAT[{width}]")]
    assert asked(store, "SELECT model, count(*) FROM track_embeddings_all GROUP BY 1 ORDER BY 1") == [
        ("mfcc-2", 56), ("timbre", 60)]
    assert asked(store, "SELECT DISTINCT typeof(embedding) FROM lyric_embeddings") == [("FLOAT[8]",)]
    assert asked(store, "SELECT DISTINCT typeof(embedding) FROM segment_embeddings") == [
        (f"FLOAT[{width}]",)]


def test_everything_says_what_it_is(store: Store) -> None:
    for query in ("SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal "
                  "AND comment IS NULL",
                  "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = 'main' "
                  "AND NOT internal AND coalesce(comment, '') = ''",
                  "SELECT function_name FROM duckdb_functions() WHERE NOT internal AND comment IS NULL"):
        assert asked(store, query) == []


def test_a_stale_table_of_neighbours_is_not_asked(tmp_path: Path) -> None:
    """Where other embeddings are published, and where a song has left the catalogue."""
    store = write_asked_store(tmp_path / "store")
    with Store.writing(store.backend.url) as writing:
        songs = writing.read("tracks").filter(pc.field("track_id") != track_id(24))
        writing.write("tracks", [songs], "id")
    published = read_published(store)
    row = published.tracks["track_id"].to_pylist().index(track_id(0))
    expected = [name for _, name in brute(published, published.embeddings[row], track_id(0), 20)]
    assert track_id(24) not in expected
    assert [i for i, in asked(store, "SELECT track_id FROM similar('TR000', k := 20)")] == expected
    assert asked(store, "SELECT count(*) FROM neighbours WHERE 'TR024' IN (track_id, similar_id)") == [(0,)]
    with Store.writing(store.backend.url) as writing:
        writing.put_json(CURRENT, (writing.get_json(CURRENT) or {}) | {"content": "another"})
    assert asked(store, "SELECT count(*) FROM neighbours") == [(0,)]
    assert [i for i, in asked(store, "SELECT track_id FROM similar('TR000', k := 20)")] == expected


def test_nothing_published_is_nothing_found(tmp_path: Path) -> None:
    with Store.writing(str(tmp_path / "s")) as store:
        pass
    for query in ("FROM songs", "FROM similar('x')", "FROM neighbours('x')", "FROM similar_to_vector([1, 2])",
                  "FROM artist_similar('x')", "FROM explain('a', 'b')", "FROM funnel()", "FROM failures()",
                  "FROM queries", "FROM find('x')"):
        assert asked(store, query) == [], query


def test_the_written_file_needs_nothing_of_ours(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "simsong.sql"
    file.write_text(script(store))
    query = "SELECT track_id FROM similar('TR000', k := 3)"
    done = subprocess.run([sys.executable, "-c", COPY, str(file), query], capture_output=True, text=True,
                          cwd=tmp_path)
    with connect(store) as db:
        assert done.stdout == f"{db.execute(query).fetchall()}\n", done.stderr


@pytest.mark.parametrize("name", ["Music [2020]", "run=3", "stage=x", "it's", "a*b", "wh?t", "a\\b", "{a,b}",
                                  "two words", "naïve 音楽", "%20", "#x?y", "line\nbreak", "a;b--c", "$HOME"])
def test_the_written_file_reads_a_store_of_any_path(tmp_path: Path, name: str) -> None:
    with Store.writing(str(tmp_path / name / "store")) as store:
        rows = [{"track_id": f"T{i}", "artist": "a", "title": "x", "source": "t", "shard": 0} for i in (1, 2)]
        store.write("tracks", [rows], "id")
        for stage in ("ingest", "trim", "embed-a-0"):
            store.write("outcomes", [[{"track_id": "T1", "status": "ok", "attempts": 1}]], "id", shard=0,
                        partition=stage)
    assert asked(store, "SELECT count(*) FROM tracks") == [(2,)]
    assert asked(store, "SELECT stage, model FROM outcomes_all ORDER BY 1") == [
        ("embed", "a-0"), ("ingest", None), ("trim", None)]


@pytest.mark.parametrize("query", [
    "FROM similar('x', k := (SELECT count(*) FROM read_text('/etc/hostname')))",
    "SELECT centroid(list(v)) FROM (SELECT [1.0] AS v FROM read_blob('/etc/hostname'))",
    "FROM similar((SELECT content FROM read_text('/etc/hostname')))",
    "FROM failures(of_stage := (SELECT max(file) FROM glob('/*')))",
    "FROM similar_to_vector((FROM query('SELECT 1')))", "DROP MACRO cosine", "FROM stored.read_text('/x')",
    "CREATE OR REPLACE MACRO cosine(a, b) AS 1", "COMMENT ON VIEW songs IS 'x'",
    "COPY stored.songs TO '/tmp/x'"])
def test_macros_are_no_way_around(store: Store, query: str) -> None:
    from simsong.errors import QueryError

    with connect(store) as db, pytest.raises(QueryError):
        db.execute(query).fetchall()


@pytest.mark.parametrize("hostile", ["x' OR true --", "'; DROP VIEW songs; --", "\x00", "run=3", "[a-z]*",
                                     ""])
def test_values_are_values(store: Store, hostile: str) -> None:
    with connect(store) as db:
        for query in ("FROM similar($v)", "FROM neighbours($v)", "FROM artist_similar($v)",
                      "FROM explain($v, $v)", "FROM failures($v)"):
            assert db.execute(query, {"v": hostile}).fetchall() == []
        assert db.execute("SELECT count(*) FROM songs").fetchone() == (56,)
