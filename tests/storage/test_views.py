"""SQL over a store: views of what the catalogue has, and nothing else read, written or waited for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from simsong.errors import QueryError
from storage.script import script
from storage.store import Store
from storage.tables import TABLES
from storage.views import connect, distinct


def fill(root: Path) -> Store:
    with Store.writing(str(root)) as store:
        rows = [{"track_id": f"T{i}", "artist": f"a{i}", "title": "x", "source": "table", "shard": 0}
                for i in range(3)]
        store.write("tracks", [rows], "id")
        trims = [{"track_id": name, "start_s": 1, "end_s": 2, "mode": "none"} for name in ("T0", "T1", "T9")]
        store.write("trims", [trims], "id", shard=0)
        for stage in ("ingest", "trim"):
            outcomes = [{"track_id": name, "status": "ok", "attempts": 1} for name in ("T0", "T9")]
            store.write("outcomes", [outcomes], "id", shard=0, partition=stage)
        for model, width in (("a", 2), ("b", 3)):
            row = {"track_id": "T0", "embedding": np.ones(width, np.float32)}
            store.write("track_embeddings", [[row]], "id", shard=0, partition=model)
    return Store.open(str(root))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return fill(tmp_path_factory.mktemp("views") / "store")


def files(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_views_show_every_table(store: Store) -> None:
    with connect(store) as db:
        views = {name for name, in db.execute("SHOW TABLES").fetchall()}
        assert views == {*TABLES, "songs", "queries", "heard_tags", "outcomes_all", "lyric_embeddings_all",
                         "features_all", "tag_scores_all", "segment_embeddings_all", "track_embeddings_all"}
        for view in views:
            db.execute(f'SELECT * FROM "{view}"').fetchall()
        widths = db.execute("SELECT model, len(embedding) FROM track_embeddings_all ORDER BY 1")
        assert widths.fetchall() == [("a", 2), ("b", 3)]
        assert db.execute("SELECT count(*) FROM tracks JOIN segments USING (track_id)").fetchone() == (0,)


def test_songs_that_left_the_catalogue_are_not_shown(store: Store) -> None:
    with connect(store) as db:
        assert db.execute("SELECT track_id FROM trims ORDER BY 1").fetchall() == [("T0",), ("T1",)]
        outcomes = db.execute("SELECT stage, track_id FROM outcomes ORDER BY ALL").fetchall()
    assert outcomes == [("ingest", "T0"), ("ingest", "T9"), ("trim", "T0")], "T9 did not get in, or left"


@pytest.mark.parametrize("alone", [False, True], ids=["simsong", "duckdb alone"])
def test_of_a_stage_or_a_model_no_other_files_are_read(tmp_path: Path, alone: bool) -> None:
    store = fill(tmp_path / "store")
    for folder in ("outcomes/stage=ingest", "track_embeddings/model=b"):
        (tmp_path / "store/tables" / folder / "00001.parquet").write_bytes(b"no Parquet, whoever opens it")
    db: Any = duckdb.connect().execute(script(store)) if alone else connect(store)
    for query in ("FROM outcomes WHERE stage = 'trim'", "FROM outcomes_all WHERE stage IN ('trim', 'embed')",
                  "FROM failures('trim')", "FROM track_embeddings_all WHERE model = 'a'"):
        assert db.execute(query).fetchall() or "failures" in query
    for query in ("FROM outcomes", "FROM outcomes WHERE stage = 'ingest'", "FROM track_embeddings_all"):
        with pytest.raises((QueryError, duckdb.Error)):
            db.execute(query).fetchall()


@pytest.mark.parametrize("name", ["Music [2020]", "run=3", "stage=x", "it's", "a*b", "wh?t", "a\\b", "{a,b}",
                                  "two words", "naïve 音楽", "%20", "#x?y"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    with connect(fill(tmp_path / name / "store")) as db:
        assert db.execute("SELECT count(*) FROM tracks").fetchone() == (3,)
        stages = db.execute("SELECT DISTINCT stage FROM outcomes ORDER BY 1").fetchall()
        assert stages == [("ingest",), ("trim",)]


@pytest.mark.parametrize("query", [
    "SELECT 1", "VALUES (1)", "FROM tracks", "TABLE tracks", "DESCRIBE tracks", "SUMMARIZE tracks",
    "SHOW TABLES",
    "WITH a AS (SELECT 1) SELECT * FROM a", "EXPLAIN SELECT 1", "explain analyze select * from tracks",
    "EXPLAIN (FORMAT JSON) SELECT 1", "/* a */ EXPLAIN -- b\n SELECT 1", "EXPLAIN (SELECT 1)",
    "SELECT * FROM range(3) JOIN unnest([1, 2]) ON true", "SELECT 1;", "FROM information_schema.columns",
    "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a WHERE n < 9) FROM a",
])
def test_one_select_or_explain_of_one(store: Store, query: str) -> None:
    with connect(store) as db:
        assert db.execute(query).fetchall()


FILES = ["COPY (SELECT 1) TO '{new}'", "COPY tracks TO '{part}'",
         "EXPLAIN ANALYZE COPY (SELECT 1) TO '{part}'",
         "EXPLAIN COPY (SELECT 1) TO '{new}'", "/**/ EXPLAIN ANALYZE COPY (SELECT 1) TO '{new}'",
         "EXPORT DATABASE '{new}'", "ATTACH '{new}'", "ATTACH '{part}' AS x", "INSTALL httpfs",
         "LOAD '{new}'",
         "COPY (SELECT 1) TO '{folder}' (FORMAT parquet, PARTITION_BY (a))",
         "SELECT * FROM read_text('{mark}')", "SELECT * FROM read_csv('{mark}')",
         "SELECT * FROM read_blob('{mark}')", "SELECT * FROM read_json('{mark}')",
         "SELECT * FROM read_parquet('{part}')", "SELECT * FROM parquet_scan(['{part}'])",
         "SELECT * FROM parquet_metadata('{part}')", "SELECT * FROM sniff_csv('{mark}')",
         "SELECT * FROM glob('{folder}/*')", "SELECT * FROM '{part}'", "SELECT * FROM \"{mark}\"",
         "SELECT (SELECT max(content) FROM read_text('{mark}'))",
         "WITH a AS (FROM read_text('{mark}')) SELECT * FROM a",
         "EXPLAIN ANALYZE SELECT * FROM read_text('{mark}')", "DESCRIBE SELECT * FROM read_csv('{mark}')",
         "SUMMARIZE SELECT * FROM read_csv('{mark}')", "SELECT * FROM query('FROM read_text(''{mark}'')')",
         "SELECT * FROM 'http://127.0.0.1:9/x.parquet'",
         "CALL enable_logging(storage = 'file', storage_config = {{'path': '{new}'}})",
         "SELECT * FROM enable_logging(storage = 'file', storage_config = {{'path': '{new}'}})",
         "IMPORT DATABASE '{folder}'"]
OTHERS = ["CREATE TABLE t AS SELECT 1", "CREATE VIEW v AS SELECT 1", "DROP VIEW tracks",
          "INSERT INTO tracks SELECT 1",
          "SET threads = 1", "RESET memory_limit", "SET VARIABLE a = 1", "PRAGMA enable_profiling", "BEGIN",
          "CALL pragma_version()", "SELECT 1; SELECT 2", "SELECT 1; COPY (SELECT 1) TO '{new}'", "", ";",
          "PREPARE p AS SELECT 1", "EXPLAIN INSERT INTO tracks SELECT 1",
          "EXPLAIN CREATE TABLE t AS SELECT 1",
          "ATTACH ':memory:' AS x", "CREATE SECRET x (TYPE s3)", "SELECT getenv('HOME')", "SELEC 1",
          "SELECT * FROM duckdb_secrets()", "SELECT * FROM duckdb_settings()", "SELECT * FROM os", "VACUUM",
          "SELECT * FROM arrow_scan(1::UBIGINT, 2::UBIGINT, 3::UBIGINT)",
          "SELECT * FROM query_table('tracks')",
          "EXPLAIN EXPLAIN SELECT 1", "EXPLAIN SELECT 1; DROP VIEW tracks"]


def test_who_may_make_tables_changes_no_setting(store: Store) -> None:
    with connect(store, read_only=False) as db:
        db.execute("CREATE TABLE t AS SELECT 1")
        for query in ("SET memory_limit = '1TB'", "SET threads = 1", "SET enable_external_access = true"):
            with pytest.raises(QueryError, match=r"lock|external access"):
                db.execute(query)


@pytest.mark.parametrize("query", [*FILES, *OTHERS])
def test_other_statements_are_refused(store: Store, tmp_path: Path, query: str) -> None:
    root = Path(store.backend.url)
    before = files(root)
    query = query.format(new=tmp_path / "new", part=root / "tables/tracks/00000.parquet",
                         mark=root / "store.json", folder=root)
    with connect(store) as db, pytest.raises(QueryError) as refused:
        db.execute(query).fetchall()
    assert str(refused.value).startswith("sql") and "\n" not in str(refused.value)
    assert files(root) == before and not list(tmp_path.iterdir())


@pytest.mark.parametrize("query", FILES)
def test_the_engine_has_no_files_whatever_is_asked(store: Store, tmp_path: Path, query: str) -> None:
    """The second belt, without the first: statements are not looked at."""
    if "enable_logging" in query:
        pytest.skip("DuckDB ends the process when it may not open its log")
    root = Path(store.backend.url)
    before = files(root)
    query = query.format(new=tmp_path / "new", part=root / "tables/tracks/00000.parquet",
                         mark=root / "store.json", folder=root)
    with connect(store, read_only=False) as db, pytest.raises(QueryError):
        db.execute(query).fetchall()
    assert files(root) == before and not list(tmp_path.iterdir())


def test_nothing_is_written_where_the_program_runs(store: Store, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with connect(store, memory="40MB") as db, pytest.raises(QueryError, match="memory"):
        db.execute("SELECT * FROM range(50_000_000) ORDER BY hash(range)").fetchall()
    assert not list(tmp_path.iterdir()), "what does not fit is not spilled"


@pytest.mark.parametrize("query", [
    "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n FROM a) SELECT count(*) FROM a",
    "SELECT count(*) FROM range(10_000_000) a, range(10_000_000) b", "SELECT * FROM range(1_000_000_000_000)",
])
def test_queries_end_in_time(store: Store, query: str) -> None:
    start = time.monotonic()
    with connect(store, timeout_s=0.5) as db:
        with pytest.raises(QueryError, match=r"longer than 0\.5 s"):
            for _ in db.execute(query).batches():
                pass
        assert time.monotonic() - start < 5
        assert db.execute("SELECT 1").fetchone() == (1,), "the connection is still of use"


@pytest.mark.parametrize(("before", "after"), [("(", ")"), ("(SELECT ", ")"), ("[", "]"), ("NOT ", "")])
def test_nesting_is_no_crash(store: Store, before: str, after: str) -> None:
    with connect(store) as db, pytest.raises(QueryError):
        db.execute("SELECT " + before * 20_000 + "true" + after * 20_000)


def test_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "s/tables/lyrics/00000.parquet"
    with Store.writing(str(tmp_path / "s")) as store:
        song = {"track_id": "T0", "artist": "a", "title": "x", "source": "t", "shard": 0}
        store.write("tracks", [[song]], "id")
        words = [{"track_id": "T0", "kind": "text", "text": os.urandom(50_000).hex()}]
        store.write("lyrics", [words], "id", shard=0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with connect(store) as db:
        assert db.execute("SELECT kind FROM lyrics").fetchall() == [("text",)], "the text is not read"
        with pytest.raises(QueryError, match=r"(?i)crc"):
            db.execute("SELECT text FROM lyrics").fetchall()


def test_names_of_columns_are_distinct(store: Store) -> None:
    assert distinct(["a", "b", "A", "a_1", "a"]) == ["a", "b", "A_1", "a_1_1", "a_2"]
    with connect(store) as db:
        rows = db.execute("SELECT t.track_id, u.track_id, 1 AS x FROM tracks t, tracks u")
        assert rows.columns == ["track_id", "track_id_1", "x"]
        assert rows.to_arrow_table().column_names == rows.columns


def test_columns_are_read_alone(tmp_path: Path) -> None:
    """Of a part that is large by its audio."""
    with Store.writing(str(tmp_path / "s")) as store:
        store.write("tracks", [[{"track_id": f"T{i}", "artist": "a", "title": "x", "source": "t", "shard": 0}
                                for i in range(8)]], "id")
        store.write("segments", ([{"track_id": f"T{i}", "segment": 0, "start_s": 0, "end_s": 30,
                                   "audio": os.urandom(500_000)}] for i in range(8)), "id", shard=0)
    for query in ("SELECT count(*) FROM segments", "SELECT track_id, end_s FROM segments WHERE segment = 0"):
        with connect(Store.open(str(tmp_path / "s"))) as db:
            before = read_bytes()
            db.execute(query).fetchall()
            assert read_bytes() - before < 400_000


def read_bytes() -> int:
    lines: Iterator[Any] = (line.split() for line in Path("/proc/self/io").read_text().splitlines())
    return next(int(value) for name, value in lines if name == "rchar:")
