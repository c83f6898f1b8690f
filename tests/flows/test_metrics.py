"""What a run tells the machine's collectors: counts for Prometheus, and lines of JSON."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flows.metrics import tell
from simsong.care.account import Account
from simsong.errors import CatalogueError, SongsLost
from simsong.parts.compute import Done
from storage.store import Store
from tests.small_world import SETTINGS, write_song

STAGES = {"fetch_audio": Done(stage="fetch_audio", shards=(0,), parts_computed=1, ok=3, seconds=2.5,
                              failed={"removed": 2}, pending={"blocked": 4}),
          "trim": Done(stage="trim", shards=(0,), parts_reused=1, ok=3)}
SONGS = Account(found=9, embedded=3, failed=Counter(removed=2), pending=Counter(blocked=4))


def told(to: str, flow: str = "refresh", **more: Any) -> None:
    given: dict[str, Any] = {"seconds": 3.0, "error": None, "stages": STAGES, "songs": SONGS, "recall": {},
                             "recall_before": {}, **more}
    tell(to, "s3://ann:hush@host/store", flow, **given)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """By the name, and what the labels beside store and flow say, in the alphabet's order."""
    return {(sample.name, *sorted(value for name, value in sample.labels.items()
                                  if value and name not in ("store", "flow"))): sample.value
            for family in text_string_to_metric_families(text) for sample in family.samples}


def test_a_file_for_the_textfile_collector(tmp_path: Path) -> None:
    told(str(tmp_path / "collected"))
    told(str(tmp_path / "collected"), "publish", recall={"wns": 0.4, "mfcc": 0.1}, recall_before={"wns": 0.5})
    texts = {path.stem.rpartition("-")[2]: path.read_text() for path in (tmp_path / "collected").iterdir()}
    assert texts.keys() == {"refresh", "publish"}, "no flow's file takes another's place"
    found = samples(texts["refresh"])
    assert found["simsong_stage_songs", "failed", "fetch_audio", "removed"] == 2
    assert found["simsong_stage_songs", "fetch_audio", "ok"] == 3
    assert found["simsong_stage_seconds", "fetch_audio"] == 2.5
    assert found["simsong_stage_parts", "kept", "trim"] == 1
    assert found["simsong_breaker_open", "fetch_audio"] == 1
    assert found["simsong_catalogue_songs", "found"] == 9 and found["simsong_catalogue_songs", "lost"] == 0
    assert found["simsong_run_failed",] == 0
    assert found["simsong_run_ended_timestamp_seconds",] > 1.7e9
    found = samples(texts["publish"])
    assert found["simsong_recall_at_10", "mfcc"] == 0.1
    assert found["simsong_recall_at_10_change", "wns"] == pytest.approx(-0.1)
    assert ("simsong_recall_at_10_change", "mfcc") not in found, "there was none before"
    assert not any("hush" in text for text in texts.values())


def test_a_gateway_is_pushed_to(tmp_path: Path) -> None:
    with gateway() as (url, pushed):
        told(url, error=SongsLost(1, ["x"]))
    (path, text), = pushed
    assert path.startswith("/metrics/job/simsong/") and "/flow/refresh" in path and "hush" not in path
    assert samples(text)["simsong_run_failed", "SongsLost"] == 1


@pytest.mark.parametrize("place", ["http://127.0.0.1:9", "http://nowhere.invalid", "http://[", "FILE"])
def test_a_collector_that_cannot_be_told_is_a_line_and_no_failure(
        place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(logging.getLogger("prefect"), "propagate", True)
    with caplog.at_level(logging.WARNING, "prefect"):
        told(str(tmp_path / "file") if place == "FILE" else place)
    (line,) = [record.getMessage() for record in caplog.records if "run.metrics" in record.getMessage()]
    assert "\n" not in line


@contextmanager
def gateway() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A push gateway's interface: what it was sent, by path."""
    pushed: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            pushed.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", pushed
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def plain_logs() -> Iterator[None]:
    runs = [logging.getLogger(f"prefect.{kind}_runs") for kind in ("flow", "task")]
    before = [(one.handlers[:], one.level, one.propagate) for one in runs]
    yield
    for one, (handlers, level, propagate) in zip(runs, before, strict=True):
        one.handlers[:], one.level, one.propagate = handlers, level, propagate


def test_a_run_tells_each_of_them_also_where_it_fails(
        tmp_path: Path, prefect: None, plain_logs: None, capsys: pytest.CaptureFixture[str]) -> None:
    from flows.pipeline import refresh
    from storage.catalogue import Catalogue

    for name in ("ann", "bob"):
        write_song(tmp_path / "music", name)
    (tmp_path / "music/bob/song of bob.wav").write_bytes(b"RIFF no sound")
    settings = {**SETTINGS, "store": str(tmp_path / "store"),
                "sources": {"folder": [str(tmp_path / "music")]}, "pretrained": {"network": "none"},
                "run": {"metrics": str(tmp_path / "metrics"), "log": "json"}}
    refresh(None, settings)
    (file,) = (tmp_path / "metrics").iterdir()
    assert samples(file.read_text())["simsong_stage_songs", "failed", "fetch_audio", "undecodable"] == 1
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    (failed,) = [line for line in lines if line.get("reason") == "undecodable"]
    ids = Catalogue(Store.open(settings["store"])).ids(0).to_pylist()
    assert failed["stage"] == "fetch_audio" and failed["shard"] == 0 and failed["track_id"] in ids
    assert failed["task_run_name"] == "fetch_audio, shard 0" and failed["flow_name"] == "refresh"
    assert any("begins" in line["message"] and line["stage"] == "trim" for line in lines)

    (tmp_path / "music").rename(tmp_path / "away")
    with pytest.raises(CatalogueError):
        refresh(None, settings)
    assert samples(file.read_text())["simsong_run_failed", "CatalogueError"] == 1
    store = Store.open(settings["store"])
    assert "folder" in (store.get_json(store.backend.list("runs")[-1]) or {})["error"]
