"""The flows on Prefect, over a small demo world on loopback: the real yt-dlp, lyricsgenius, BERT and AST."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simsong.audio.decode import files_decoded
from simsong.demo.plan import KINDS
from simsong.demo.server import DemoServer, serve
from simsong.demo.world import World, build_world
from simsong.errors import LeaseHeld, ModelError, NothingDone, PartDamaged
from storage.store import Store
from tests.small_world import contents

SONGS, TOKEN = 16, "planted-secret-7f3a"
pytestmark = pytest.mark.usefixtures("prefect")


@dataclass
class Demo:
    world: World
    site: DemoServer
    root: Path
    decoded: int = 0        # files, by the first run

    @property
    def store(self) -> Store:
        return Store.open(str(self.root / "store"))

    def settings(self, **more: dict[str, Any]) -> dict[str, Any]:
        base: dict[str, dict[str, Any]] = {
            "sources": {"msd": str(self.world.msd), "lastfm": str(self.world.lastfm)},
            "catalogue": {"shard_songs": 6}, "fetch": {"search": self.site.search},
            "lyrics": {"provider": "genius", "genius_root": self.site.genius_root},
            "segments": {"length_s": 8.0, "hop_s": 8.0}, "trim": {"max_s": 5.0},
            "training": {"steps": 6, "batch": 4}, "evaluation": {"bootstrap": 100}}
        merged = {name: {**base.get(name, {}), **more.get(name, {})} for name in {*base, *more}}
        return {"store": str(self.root / "store"), **merged}

    def run(self, **more: dict[str, Any]) -> dict[str, Any]:
        from flows.pipeline import pipeline

        stages = pipeline(None, self.settings(**more)).stages
        return {name: done.model_dump() for name, done in stages.items()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    root = tmp_path_factory.mktemp("demo")
    kinds = dict.fromkeys(KINDS, 0) | {"removed": 1, "private": 1, "garbage": 1, "no_lyrics": 1}
    world = build_world(root / "world", SONGS, duration_s=(26, 34), kinds=kinds)
    with pytest.MonkeyPatch.context() as patch, serve(world, 0, TOKEN) as site:
        patch.setenv("GENIUS_ACCESS_TOKEN", TOKEN)
        yield Demo(world, site, root)


@pytest.fixture(scope="module")
def first(demo: Demo) -> dict[str, Any]:
    before = files_decoded()
    stages = demo.run()
    demo.decoded = files_decoded() - before
    return stages


def test_each_song_is_decoded_once_for_all_stages(demo: Demo, first: dict[str, Any]) -> None:
    undecodable = 1
    assert demo.decoded == first["fetch_audio"]["ok"] + undecodable


def test_every_song_ends_in_an_embedding_or_a_reason(demo: Demo, first: dict[str, Any]) -> None:
    lost = {track.track_id: track.kind for track in demo.world.tracks if not track.has_audio}
    assert sorted(map(str, lost.values())) == ["garbage", "private", "removed"]
    outcomes = demo.store.read("outcomes", partition="fetch_audio").to_pylist()
    failed = {row["track_id"]: row["reason"] for row in outcomes if row["status"] != "ok"}
    assert failed == {i: "undecodable" if kind == "garbage" else kind for i, kind in lost.items()}
    embedded = demo.store.read("track_embeddings", partition="mfcc-2")["track_id"].to_pylist()
    assert sorted([*embedded, *failed]) == sorted(track.track_id for track in demo.world.tracks)
    assert first["embed"]["ok"] == SONGS - 3
    assert first["fetch_lyrics"]["failed"] == {"no_lyrics": 1}
    assert first["fetch_audio"]["failed"] == {"private": 1, "removed": 1, "undecodable": 1}


def test_artifacts_show_the_funnel_and_the_recall(demo: Demo, first: dict[str, Any]) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/artifacts/latest/filter", json={"limit": 50}).json()
    data = {artifact["key"]: artifact["data"] for artifact in answer}
    assert {f"simsong-{flow}-{what}" for flow in ("pipeline", "refresh", "train", "publish")
            for what in ("account", "funnel")} <= data.keys(), "none is overwritten by another flow's"
    assert {row["stage"] for row in json.loads(str(data["simsong-pipeline-funnel"]))} == set(first)
    assert {row["stage"] for row in json.loads(str(data["simsong-train-funnel"]))} == {"train"}
    assert {row["method"] for row in json.loads(str(data["simsong-pipeline-recall"]))} == \
        {"random", "same_artist", "mfcc", "timbre", "lyrics", "untrained", "ns", "wns", "fusion"}
    account = str(data["simsong-pipeline-account"])
    assert "| fetch_audio | private | 1 | 0 | final" in account
    assert "`simsong retry --stage fetch_audio --reason private`" in account
    assert "## Recall@10" in account and "report.html" in account and "file://" not in account


def test_runs_have_names_and_tags_that_say_what_they_are(demo: Demo, first: dict[str, Any]) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        tasks = {run.name: run.tags for run in client.read_task_runs(limit=200)}
        flows = {run.name: run.tags for run in client.read_flow_runs(limit=100)}
    assert {"pipeline of store", "refresh of store", "train of store", "publish of store"} <= flows.keys()
    assert {"ingest", "trim, shard 0", "fetch_audio, shard 1", "train, ns", "report"} <= tasks.keys()
    assert set(flows["refresh of store"]) == {"simsong", "refresh"}
    assert not any(tasks.values()), "Prefect waits for a concurrency slot of each of a task's tags"


def test_the_right_recordings_and_words_come_out(demo: Demo, first: dict[str, Any]) -> None:
    rows = demo.store.read("audio", columns=["track_id", "url"]).to_pylist()
    pages = {row["track_id"]: row["url"].rpartition("/")[2] for row in rows}
    assert pages == {i: demo.world.track[i].page for i in pages}
    texts = {row["track_id"]: row["text"] for row in demo.store.read("lyrics").to_pylist()}
    for track in demo.world.tracks:
        if texts.get(track.track_id):
            assert track.lyrics is not None
            words = track.lyrics.split()[-3:]
            assert words[0] in texts[track.track_id]


def test_a_second_run_computes_nothing(demo: Demo, first: dict[str, Any]) -> None:
    before, count = contents(demo.store), len(demo.site.requests)
    second = demo.run()
    assert {name: stage["parts_computed"] for name, stage in second.items()} == dict.fromkeys(first, 0)
    assert {name: stage["parts_reused"] for name, stage in second.items()} == \
        {name: stage["parts_computed"] for name, stage in first.items()}
    assert {name: (s["ok"], s["failed"]) for name, s in second.items()} == \
        {name: (s["ok"], s["failed"]) for name, s in first.items()}
    assert len(demo.site.requests) == count, "nothing is asked for twice"
    assert contents(demo.store) == before


def test_a_part_cut_short_is_made_again_alone(demo: Demo, first: dict[str, Any]) -> None:
    part = demo.root / "store/tables/trims/00001.parquet"
    before = contents(demo.store)
    part.write_bytes(part.read_bytes()[:-20])
    assert {name: s["parts_computed"] for name, s in demo.run().items() if s["parts_computed"]} == {"trim": 1}
    assert contents(demo.store) == before


def test_a_flipped_byte_is_told_and_mended(demo: Demo, first: dict[str, Any]) -> None:
    from simsong.care.verify import remove, verify
    from simsong.config_loader import load

    part, before = demo.root / "store/tables/segments/00001.parquet", contents(demo.store)
    config = load(None, demo.settings(), {})
    assert list(verify(demo.store, config)) == []
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 4
    part.write_bytes(data)
    # so that the part is read
    (demo.root / "store/tables/track_embeddings/model=mfcc-2/00001.parquet").unlink()
    with pytest.raises(PartDamaged, match=r"segments/00001.parquet: damaged .*verify --mend"):
        demo.run()
    faults = list(verify(demo.store, config))
    assert {(f.key, f.fault) for f in faults} == {
        ("tables/segments/00001.parquet", "damaged"),
        ("tables/track_embeddings/model=mfcc-2/00001.parquet", "missing")}
    with Store.writing(config.store) as store:
        assert remove(store, faults) == 1
    assert {name: s["parts_computed"] for name, s in demo.run().items() if s["parts_computed"]} == \
        {"segments": 1, "embed": 1}
    assert contents(demo.store) == before


def test_models_are_the_same_again(demo: Demo, first: dict[str, Any]) -> None:
    """Also where the version is another: by now it is known which songs sound the same."""
    def weights() -> dict[str, bytes]:
        models = (demo.root / "store/models").glob("*/*/model.safetensors")
        return {path.parent.parent.name: path.read_bytes() for path in models}

    before = weights()
    assert len(before) == 3
    for path in (demo.root / "store/models").glob("*/*/model.safetensors"):
        path.unlink()
    again = demo.run()
    assert again["train"]["parts_computed"] == 3
    assert weights() == before
    left = [path for path in (demo.root / "store/work").rglob("*") if path.is_file()]
    assert not left, "no checkpoints are left"


def test_only_what_was_mended_is_fetched_again(demo: Demo, tmp_path: Path) -> None:
    from flows.pipeline import refresh
    from simsong.care.reopen import Chosen, reopen

    broken = [track for track in demo.world.tracks if track.has_audio][:2]
    pages = [demo.world.page[track.page] for track in broken if track.page is not None]
    settings = {**demo.settings(network={"retries": 0}), "store": str(tmp_path / "store")}
    demo.site.faults.update({f"/watch/{page.page_id}": 500 for page in pages})
    try:
        done = refresh(None, settings).stages
        assert done["fetch_audio"].failed["server_error"] == 2
        demo.site.faults.clear()
        with Store.writing(str(tmp_path / "store")) as store:
            assert len(reopen(store, Chosen("fetch_audio", ["server_error"])).songs) == 2
        count = len(demo.site.requests)
        done = refresh(None, settings).stages
    finally:
        demo.site.faults.clear()
    assert done["fetch_audio"].ok == SONGS - 3
    fetched = {path for _, path in demo.site.requests[count:] if path.startswith("/watch/")}
    assert fetched == {f"/watch/{page.page_id}" for page in pages}


def test_a_run_without_any_audio_fails_and_says_why(demo: Demo, tmp_path: Path) -> None:
    nowhere = {"search": "http://127.0.0.1:9/search?q={query}"}
    settings = {**demo.settings(fetch=nowhere, network={"retries": 0}), "store": str(tmp_path / "store")}
    from flows.pipeline import pipeline

    with pytest.raises(NothingDone, match=r"no song came through fetch_audio: .*connection"):
        pipeline(None, settings)
    rows = Store.open(str(tmp_path / "store")).read("outcomes", partition="fetch_audio").to_pylist()
    assert len(rows) == SONGS and all(row["reason"] == "connection" for row in rows)


def test_what_there_is_is_published_where_a_training_fails(demo: Demo, first: dict[str, Any]) -> None:
    nothing = {"lyrics": 0.0, "artist": 0.0, "genre": 0.0, "tags": 0.0, "words": 0.0}
    with pytest.raises(ModelError, match="prior"):
        demo.run(training={"steps": 5, "batch": 4, "losses": ["wns", "ns"], "priors": nothing})
    last = json.loads(max((demo.root / "store" / "runs").glob("*-publish.json")).read_text())
    assert last["error"] is None and last["stages"]["export"]["ok"] > 0
    ns = demo.store.get_json("models/ns/latest.json")
    assert ns is not None
    card = demo.store.get_json(f"models/ns/{ns['version']}/training.json")
    assert card is not None and card["training"]["steps"] == 5


def test_a_second_writer_is_refused_by_name(demo: Demo, first: dict[str, Any]) -> None:
    from tests.storage.test_lease import holder

    process = holder(demo.root / "store")
    try:
        with pytest.raises(LeaseHeld, match=rf"process {process.pid}\) is writing to it"):
            demo.run()
    finally:
        process.kill()
        process.wait()


def test_no_secret_is_anywhere(demo: Demo, first: dict[str, Any]) -> None:
    import prefect.settings

    places = [demo.root / "store", prefect.settings.PREFECT_HOME.value()]
    files = [path for place in places for path in Path(place).rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
