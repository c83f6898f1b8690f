"""Why two songs are alike: against the SQL that says the same, and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import simsong
from simsong.answers.library import Library
from simsong.answers.why import why
from simsong.answers.windows import windows_of
from simsong.config_loader import load
from simsong.errors import PartDamaged, QueryError
from simsong.search.why import Aspect, closer_than, most_alike, with_shares
from storage.lookup import rows_beside, rows_of_song
from storage.store import Store
from storage.views import connect
from tests.asked_store import write_asked_store
from tests.cli.test_cli import simsong as command
from tests.serving.server import served


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    store = write_asked_store(tmp_path_factory.mktemp("why") / "store")
    return Library(store, load(None, {"store": store.backend.url}, {}))


def test_shares_are_what_is_above_chance() -> None:
    found = with_shares([Aspect("audio", 0.9, 1.0), Aspect("lyrics", 0.1, 0.75), Aspect("tags", 0, 0.3)])
    assert [one.share for one in found] == pytest.approx([2 / 3, 1 / 3, 0])
    assert [one.share for one in with_shares([Aspect("audio", 0, 0.2), Aspect("artist", None)])] == [0, None]
    assert closer_than(np.array([0.1, 0.2, np.nan, 0.2, 0.9]), 0.2) == 0.5
    assert closer_than(np.array([0.1, 0.2]), 0.3) == 1 and closer_than(np.array([np.nan]), 1) == 0.5


def test_the_windows_most_alike_are_the_earliest_of_the_best() -> None:
    a, b = np.eye(3)[[2, 0, 1]], np.eye(3)[[1, 1, 0]]
    assert most_alike(a, b) == [(1, 2, 1.0)] and most_alike(a, np.zeros((0, 3))) == []
    pairs = most_alike(a, b, 9)
    assert len(pairs) == min(len(a), len(b)) and pairs[0] == (1, 2, 1.0)
    assert all(len({pair[side] for pair in pairs}) == len(pairs) for side in (0, 1)), "each window once"
    assert [score for _, _, score in pairs] == sorted((score for _, _, score in pairs), reverse=True)


@pytest.mark.parametrize(("a", "b"), [("TR000", "TR012"), ("TR001", "TR020"), ("TR003", "TR005")])
def test_it_says_what_the_sql_says(library: Library, a: str, b: str) -> None:
    found = {one.name: one for one in why(library, a, b).aspects}
    with connect(library.store) as db:
        by_sql = {aspect: (score, detail) for aspect, score, detail in
                  db.execute(f"FROM explain('{a}', '{b}')").fetchall()}
    none = {name for name, (score, _) in by_sql.items() if not score}           # said of nobody's
    assert set(found) - {"album"} == {{"genres": "genre"}.get(name, name) for name in by_sql
                                      if name not in none or name in ("tags", "genres")} - {"windows"}
    assert found["audio"].score == pytest.approx(by_sql["audio"][0], abs=1e-4)
    assert found["tags"].score == pytest.approx(by_sql["tags"][0], abs=1e-4)
    assert found["genre"].score == pytest.approx(by_sql["genres"][0], abs=1e-4)
    for name in {"lyrics", "listeners"} & set(found):
        assert found[name].score == pytest.approx(by_sql[name][0], abs=1e-4)
    moment = why(library, a, b).moment
    assert moment is not None and moment.score == pytest.approx(by_sql["windows"][0], abs=1e-4)
    first, last = (int(moment.of_a_s[0]), int(moment.of_b_s[0]))
    assert f"{first // 60}:{first % 60:02}-" in by_sql["windows"][1]
    assert f"{last // 60}:{last % 60:02}-" in by_sql["windows"][1]


def test_closer_than_is_counted_over_the_other_songs(library: Library) -> None:
    found = {one.name: one for one in why(library, "TR000", "TR012").aspects}
    units = library.space.units(np.arange(len(library))).astype(np.float64)
    rows = [library.song("TR000"), library.song("TR012")]
    shares = []
    for row in rows:
        others = np.delete(units @ units[row], rows)
        shares.append((others < units[rows[0]] @ units[rows[1]]).mean())
    assert found["audio"].closer_than == pytest.approx(np.mean(shares))
    same, rest = 60 // 4 - 2, 60 - 2                        # of the songs that have a genre, published or not
    assert found["genre"].closer_than == pytest.approx(((rest - same) + rest) / 2 / rest)


def test_two_are_asked(library: Library) -> None:
    with pytest.raises(QueryError, match="is one song"):
        why(library, "TR000", "ada bell - amber amber")


def test_windows_are_the_published_models(library: Library) -> None:
    windows = windows_of(library, library.song("TR004"))
    exports = Path(library.store.backend.url) / "exports"
    rows = pq.read_table(exports / library.published.model / "segments.parquet")
    own = np.array([row["embedding"] for row in rows.to_pylist() if row["track_id"] == "TR004"], np.float64)
    assert windows.units == pytest.approx(own / np.linalg.norm(own, axis=1, keepdims=True), abs=1e-6)


def test_the_command_tells_and_writes_what_to_listen_to(library: Library, tmp_path: Path) -> None:
    store = library.store.backend.url
    shown = command("why", "TR000", "TR012", "--store", store).stdout
    assert "closer than" in shown and "most alike: " in shown and "simsong similar TR000@" in shown
    told = json.loads(command("why", "TR000", "TR012", "--store", store, "--json", "--clips",
                              tmp_path / "c").stdout)
    assert told["a"] == "TR000" and told["windows"][0]["score"] > 0 and len(told["clips"]) == 2
    assert [Path(file).read_bytes() for file in told["clips"]] == [b"fLaC", b"fLaC"]
    assert all(Path(file).parent == tmp_path / "c" for file in told["clips"])


def test_it_is_one_answer_whoever_asks(library: Library) -> None:
    """Of the command, Python and HTTP (which the page shows)."""
    store = library.store.backend.url
    told = json.loads(command("why", "TR000", "TR012", "--store", store, "--json").stdout)
    with served(library.store) as api, simsong.open(store) as songs:
        asked = api.get("/api/why", params={"a": "TR000", "b": "TR012"}).json()
        by_name = api.get("/api/why", params={"a": "ada bell - amber amber", "b": "TR012"}).json()
        rows = songs.why("TR000", "TR012")
    assert asked["reasons"] == told["reasons"] == rows.to_list() and asked == by_name
    assert asked["windows"] == told["windows"] == [moment.as_dict() for moment in rows.moments]
    assert {"audio", "lyrics", "tags", "genre", "artist", "listeners"} <= {
        reason["aspect"] for reason in told["reasons"]}


def test_only_the_two_songs_row_groups_are_read(tmp_path: Path) -> None:
    """Of a store whose other lyric embeddings and windows are damaged, two songs are told of; and what is
    read of a table of all songs is the groups that they may be in."""
    store = write_asked_store(tmp_path / "store")
    root = Path(store.backend.url) / "tables"
    for table in ("lyric_embeddings/bert-0", "segment_embeddings/mfcc", "segments"):
        for part in sorted((root / table).glob("0000[12].parquet")):
            part.write_bytes(part.read_bytes()[:-9] + b"x" * 9)
    library = Library(Store.open(store.backend.url), load(None, {"store": store.backend.url}, {}))
    found = why(library, "TR000", "TR012")
    assert found.moment and {"audio", "lyrics"} <= {one.name for one in found.aspects}
    with pytest.raises(PartDamaged):
        why(library, "TR000", "TR025")


def test_groups_that_cannot_hold_a_song_are_passed_over(tmp_path: Path) -> None:
    ids = [f"TR{i:06d}" for i in range(150_000)]
    with Store.writing(str(tmp_path / "store")) as store:
        store.write("tags", [pa.table({"track_id": ids, "name": ["a"] * len(ids),
                                       "weight": pa.array([1.0] * len(ids), pa.float32())})], "id")
        near = rows_beside(store, "tags", [ids[70_000]], ["track_id", "name"])
        assert 1 <= near.num_rows <= 65_536 and ids[70_000] in near["track_id"].to_pylist()
        assert rows_of_song(store, "tags", ids[140_000], ["name"]).num_rows == 1
        assert rows_of_song(store, "tags", "none", ["name"]).num_rows == 0
