"""Programs of ours that run in processes of their own, as what they use may crash, hang or fill the memory.

Each has a pipe of its own: the standard library's pools fail every task for one dead worker, and import the
caller's main module again in each.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

START_S = 60.0           # for one to start; usually it takes 0.2
# One thread each, and no heap reserved for each thread: it would count as memory.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1",
                "ARROW_DEFAULT_MEMORY_POOL": "system"}


def start(module: str, *descriptors: int, words: Sequence[str] = (), stdin: int = subprocess.DEVNULL,
          stderr: IO[bytes] | None = None, environ: Mapping[str, str] | None = None,
          own_session: bool = False) -> subprocess.Popen[bytes]:
    """`python -m module DESCRIPTORS… WORDS…`; the descriptors are handed over. It finds the modules that this
    one finds. In a session of its own it gets no signal that the terminal or a batch system sends to all."""
    # -P: a numpy.py in the working directory is not meant.
    return subprocess.Popen([sys.executable, "-P", "-m", module, *map(str, descriptors), *words],
                            pass_fds=descriptors, stdin=stdin, stdout=subprocess.DEVNULL, stderr=stderr,
                            start_new_session=own_session, env={
                                **os.environ, **_ENVIRONMENT, "PYTHONPATH": module_path(), **(environ or {})})


def module_path() -> str:
    """PYTHONPATH of a process that is to find the modules that this one finds, from wherever it starts."""
    return os.pathsep.join(str(Path(place).absolute()) for place in sys.path)


def end_with_parent(pipe: int) -> None:
    """Ends this process as soon as nobody holds the other end of a pipe (a file descriptor) any more."""
    def wait() -> None:
        while os.read(pipe, 1):
            pass
        os._exit(1)                     # the other threads may be waiting for a process that is gone

    threading.Thread(target=wait, name="end with parent", daemon=True).start()


def limit_memory(extra_bytes: int) -> None:
    """Of address space, beyond what is taken now: past that, allocations fail. No core files either."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():                                  # macOS has neither this nor the limit
        used_bytes = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used_bytes + extra_bytes, resource.RLIM_INFINITY))
