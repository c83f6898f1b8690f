"""The description is true: what it allows is answered as it says, and nothing breaks (schemathesis)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from simsong.config_loader import load
from simsong.serving.app import create_app
from storage.backend import open_backend
from storage.store import Store
from tests.asked_store import write_asked_store
from tests.serving.server import served

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_every_answer_is_a_documented_one(tmp_path: Path) -> None:
    store = write_asked_store(tmp_path / "store")
    (tmp_path / "store/audio").mkdir()
    (tmp_path / "store/audio/1").write_bytes(bytes(range(200)))
    with served(store, upload_s=2) as api:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "schemathesis.cli",
                "run",
                f"{api.base_url}/api/openapi.json",
                "--checks",
                CHECKS,
                "--phases",
                "examples,coverage,fuzzing",
                "--max-examples",
                "5",
                "--seed",
                "7",
                "--no-color",
                "--request-timeout",
                "60",
                "--generation-database",
                "none",
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=500,
        )
    assert done.returncode == 0, done.stdout


def test_every_question_is_described() -> None:
    app = create_app(Store(open_backend("memory://")), load(None, {}, {}))
    paths = app.openapi()["paths"]
    assert len(paths) > 25
    for path, methods in paths.items():
        for method, description in methods.items():
            assert description.get("description") or description.get("summary"), (path, method)
            assert "Problem" in str(description["responses"]["422"]), (path, method)
