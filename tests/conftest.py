"""What tests share: one Prefect test server a session (it takes seconds to start, so few ask)."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A slow machine is no wrong answer.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.pop("GENIUS_ACCESS_TOKEN", None)
# No pretrained network is in the cache, whatever this machine's user has fetched.
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir()) / f"simsong-tests-{os.getuid()}")
# Processes side by side share the cores; threads of each would wait for those of the others.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // workers, 1)))
for name in [name for name in os.environ if name.startswith("SIMSONG_")]:
    del os.environ[name]
# A shell has what it runs in the background ignore Ctrl-C, and all that is started from there.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def prefect() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
