"""The store: parts that show damage, atomic writes, splits, digests, views."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simsong.errors import PartDamaged, StoreError
from storage import parquet
from storage.backend import Backend, Local, Remote, open_backend
from storage.catalogue import Catalogue
from storage.identity import column_digests
from storage.store import Store
from storage.tables import TABLES, conform


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.writing(str(tmp_path / "store")) as opened:
        yield opened


def tracks(count: int, per_shard: int = 2) -> list[dict[str, Any]]:
    return [{"track_id": f"T{i:03d}", "artist": f"a{i}", "title": "x", "source": "table",
             "shard": i // per_shard} for i in range(count)]


def windows(song: str, count: int, size: int = 2000) -> list[dict[str, Any]]:
    rng = random.Random(song)
    return [{"track_id": song, "segment": i, "start_s": 30.0 * i, "end_s": 30.0 * (i + 1),
             "audio": rng.randbytes(size)} for i in range(count)]


@pytest.fixture(params=["local", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return Local(tmp_path) if request.param == "local" else open_backend("memory://")


def test_every_backend_has_the_five_verbs(backend: Backend) -> None:
    backend.scratch.mkdir(parents=True, exist_ok=True)
    backend.put_atomic("a/one", b"1")
    backend.put_atomic("a/one", b"2")
    file = backend.scratch / "x"
    file.write_bytes(b"333")
    backend.put_atomic("a/b/two", file)
    assert not file.exists()
    assert backend.get("a/one").read() == b"2"
    assert backend.list("a") == ["a/b/two", "a/one"]
    assert backend.create_exclusive("a/new", b"n")
    assert not backend.create_exclusive("a/new", b"other")
    assert backend.get("a/new").read() == b"n"
    backend.delete("a/one")
    backend.delete("a/one")
    with pytest.raises(FileNotFoundError):
        backend.get("a/one")
    assert backend.list("nowhere") == []


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a/../../x", ""])
def test_keys_cannot_leave_the_store(backend: Backend, key: str) -> None:
    with pytest.raises(StoreError, match="not a key"):
        backend.put_atomic(key, b"")


def test_remote_stores_are_used_by_the_store_too() -> None:
    memory = open_backend("memory://")
    assert isinstance(memory, Remote)
    from storage import lease

    with lease.writer(memory) as generation:
        store = Store(memory, generation)
        store.write("segments", [windows("A", 2), windows("B", 1)], "id", shard=3)
        assert [song for song, _ in store.by_song("segments", 3)] == ["A", "B"]


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    path, rng = tmp_path / "part", random.Random(0)
    parquet.write(path, TABLES["segments"], [windows("A", 2), windows("B", 1)], "id")
    whole = path.read_bytes()
    places = [rng.randrange(len(whole)) for _ in range(60)] + [len(whole) - n for n in range(1, 40)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with path.open("rb") as file, pytest.raises(PartDamaged):
            parquet.read(file, "part")
    path.write_bytes(whole)
    with path.open("rb") as file:
        assert parquet.check(file, "part").rows == 3


@pytest.mark.parametrize("length", [0, 3, 11, 100, -1, -9])
def test_files_cut_short_are_damaged(tmp_path: Path, length: int) -> None:
    path = tmp_path / "part"
    row = {"track_id": "A", "start_s": 1, "end_s": 2, "mode": "none"}
    parquet.write(path, TABLES["trims"], [[row]], "id")
    path.write_bytes(path.read_bytes()[:length])
    for ask in (parquet.footer, parquet.read, parquet.check):
        with path.open("rb") as file, pytest.raises(PartDamaged):
            ask(file, "part")


def test_pages_have_checksums_for_other_readers(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "part"
    parquet.write(path, TABLES["segments"], [windows("A", 1)], "id")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1                   # in the audio, which is most of the file
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"[Cc][Rr][Cc]"):
        pq.ParquetFile(path, page_checksum_verification=True).read()


def test_what_is_written_is_read(store: Store) -> None:
    store.write("tracks", [tracks(5)], "id")
    assert store.read("tracks", 1)["track_id"].to_pylist() == ["T002", "T003"]
    assert store.read("tracks", columns=["artist"])["artist"].to_pylist() == [f"a{i}" for i in range(5)]
    assert store.read("audio").num_rows == 0
    vector = np.arange(4, dtype=np.float32)
    store.write("track_embeddings", [[{"track_id": "A", "embedding": vector}]], "id", shard=7, partition="m")
    rows = store.read("track_embeddings", partition="m")
    assert rows.schema.field("embedding").type == pa.list_(pa.float32(), 4)
    assert rows["embedding"][0].as_py() == [0, 1, 2, 3]
    assert store.shards("track_embeddings", "m") == [7]
    assert store.partitions("track_embeddings") == ["m"]


@pytest.mark.parametrize(("table", "partition", "row"), [
    ("outcomes", "trim", {"track_id": "T1", "status": "ok", "attempts": 1}),
    ("shards", None, {"track_id": "T1", "shard": 0})])
def test_parts_of_before_read_as_if_they_had_the_columns_of_now(
        store: Store, table: str, partition: str | None, row: dict[str, Any]) -> None:
    """Such a part, and one of now, read together."""
    declared = TABLES[table]
    before = replace(declared, schema=pa.schema([declared.schema.field(name) for name in row]))
    path = store.scratch()
    parquet.write(path, before, iter([[row]]), "id")
    store.put(f"{declared.folder(partition)}/00000.parquet", path)
    expected = [{**dict.fromkeys(declared.schema.names), **row}]
    if declared.sharded:
        store.write(table, [[{**row, "track_id": "T2"}]], "id", shard=1, partition=partition)
        expected.append({**expected[0], "track_id": "T2"})
    assert store.read(table, partition=partition).to_pylist() == expected
    some = [declared.schema.names[-1], "track_id"]
    assert store.read(table, 0, partition=partition, columns=some).column_names == some


def test_large_parts_are_split_and_joined(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.store.SPLIT_BYTES", 10_000)        # the limit, not the code
    songs = [windows(f"S{i}", 2) for i in range(9)]
    assert len(store.write("segments", songs, "id", shard=0)) > 2
    counts = [(song, rows.num_rows) for song, rows in store.by_song("segments", 0)]
    assert counts == [(f"S{i}", 2) for i in range(9)]
    assert store.read("segments", 0).num_rows == 18
    assert len(store.write("segments", songs[:1], "id", shard=0)) == 1
    assert [song for song, _ in store.by_song("segments", 0)] == ["S0"]


def test_small_songs_share_a_row_group_and_large_ones_do_not(store: Store) -> None:
    """What a look at a column costs, and what a reader by song holds."""
    def groups(songs: list[list[dict[str, Any]]]) -> list[int]:
        key, = store.write("segments", songs, "id", shard=0)
        with store.backend.get(key) as file:
            metadata = pq.ParquetFile(file).metadata
        assert [song for song, _ in store.by_song("segments", 0)] == [rows[0]["track_id"] for rows in songs]
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    assert groups([windows(f"S{i:03}", 2) for i in range(128)]) == [256]
    assert groups([windows(f"S{i}", 2, 5 * 2**20) for i in range(5)]) == [4, 4, 2]
    assert groups([windows(f"S{i}", 30_000, 1) for i in range(3)]) == [90_000], "songs stay together"


@pytest.mark.parametrize(("table", "row", "said"), [
    ("trims", {"track_id": "A", "start_s": 1, "end_s": 2}, "mode is null"),
    ("trims", {"track_id": "A", "start_s": 1, "end_s": 2, "mode": "x", "more": 1}, "unknown columns more"),
    ("trims", {"track_id": "A", "start_s": "one", "end_s": 2, "mode": "x"}, "start_s"),
])
def test_rows_must_fit_their_table(table: str, row: dict[str, Any], said: str) -> None:
    with pytest.raises(StoreError, match=said):
        conform(TABLES[table], [row])


def test_keys_are_unique() -> None:
    row = {"track_id": "A", "start_s": 1, "end_s": 2, "mode": "x"}
    with pytest.raises(StoreError, match="several rows of one track_id"):
        conform(TABLES["trims"], [row, row])


def test_digests_are_of_values_not_of_chunks() -> None:
    whole = pa.table({"a": pa.array(["x", None, "", "yz"]),
                      "b": pa.array([1.0, 2.0, None, 3.0], pa.float32()),
                      "v": pa.array([[1, 2], [3, 4], [5, 6], [7, 8]], pa.list_(pa.float32(), 2))})
    pieces = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 2), whole.slice(3)])
    names = ["a", "b", "v"]
    assert column_digests(pieces, names) == column_digests(whole, names)
    assert column_digests(whole.slice(1), names) == column_digests(pieces.slice(1), names)
    one_less = column_digests(whole.slice(1), names)
    assert all(one_less[name] != column_digests(whole, names)[name] for name in names)


def test_null_and_empty_are_not_the_same() -> None:
    digests = [column_digests(pa.table({"a": pa.array(values, pa.string())}), ["a"])["a"]
               for values in (["x", None], ["x", ""], [None, "x"], ["x"], ["", "x"])]
    assert len(set(digests)) == 5


def test_readers_cannot_write(store: Store) -> None:
    reader = Store.open(store.backend.url)
    with pytest.raises(StoreError, match="opened for reading"):
        reader.put_json("x.json", {})


def test_folders_of_other_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match="folder of other things"), Store.writing(str(tmp_path)):
        pass
    with pytest.raises(StoreError, match="no store there"):
        Store.open(str(tmp_path))


def test_a_shards_tracks_are_found_without_looking_at_the_others(store: Store) -> None:
    """Counted is what Arrow allocates: a filter, say, makes a mask as long as the catalogue."""
    songs = 4000
    store.write("tracks", [tracks(songs, per_shard=1)], "a")
    columns, pool = ["track_id", "artist"], pa.default_memory_pool()
    catalogue = Catalogue(store)
    assert store.read("tracks", 7, columns=columns).num_rows == len(catalogue.ids(7)) == 1
    before = pool.total_bytes_allocated()
    ids_twice = [(store.read("tracks", shard, columns=columns)["track_id"].to_pylist(),
                  catalogue.ids(shard).to_pylist()) for shard in range(songs)]
    assert pool.total_bytes_allocated() - before < 200 * songs
    assert sorted(i for ids, _ in ids_twice for i in ids) == sorted(row["track_id"] for row in tracks(songs))
    assert all(ids == same and len(ids) == 1 for ids, same in ids_twice)
    assert store.read("tracks", songs, columns=columns).num_rows == len(catalogue.ids(songs)) == 0


def test_what_a_shard_has_is_that_of_the_catalogue_there_is(store: Store) -> None:
    for title in "abc":
        rows = [row | {"title": title} for row in tracks(4)]
        store.write("tracks", [rows], title)
        assert store.read("tracks", 1)["title"].to_pylist() == [title] * 2
        assert store.read("tracks", 1).column_names == TABLES["tracks"].schema.names
        assert Catalogue(store).shards == [0, 1]
    store.write("tracks", [tracks(2)], "d")
    assert Catalogue(store).shards == [0]
    assert store.read("tracks", 1).num_rows == 0


class Counting(io.BytesIO):
    """Counts the bytes that are read of it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


@pytest.mark.parametrize("songs", [1, 100])
def test_of_a_footer_no_more_is_read_than_there_is(store: Store, songs: int) -> None:
    store.write("segments", (conform(TABLES["segments"], windows(f"{n:05d}", 3)) for n in range(songs)), "a")
    with store.backend.get("tables/segments/00000.parquet") as file:
        counted = Counting(file.read())
    length = pq.ParquetFile(counted).metadata.serialized_size
    counted.count = 0
    facts = parquet.footer(counted, "segments")
    assert facts.rows == 3 * songs and facts == store.footers("segments")[0]
    assert counted.count <= length + 2 * 8192
