"""Starts the processes of a training, as torchrun does, and looks after them: nothing outlives the one that
asked for them, and nothing waits for one that is dead.

What they say goes through pipes. The first process writes a line of JSON a step, the last one of what came
of it. All of them have this process's pipe as standard input: when it closes, for whatever reason this
process is gone, they end.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from simsong import programs, progress
from simsong.errors import ModelError
from simsong.training import task as tasks
from simsong.training.task import Task

LOG, STOP = "processes.log", "stop"
POLL_S, END_S = 0.5, 15.0           # between two looks at `stop`; that processes may take to end
KILLED = re.compile(r"Signal \d+ \((SIG\w+)\) received by PID")
RAISED = re.compile(r"^(?:\[rank\d+\]: ?)?([\w.]*(?:Error|Exception)\b: .+)$")


def launch(task: Task, folder: Path, processes: int, stop: Callable[[], bool] | None = None) -> int:
    """Do a task with several processes on this machine; what they make is in the folder.

    Args: stop: asked about twice a second; True lets them end after a step, with a checkpoint.
    Returns: how many steps are done.
    Raises: ModelError where one fails, in a line; all that they said is then in the folder's processes.log.
    """
    tasks.save(task, folder)
    (folder / STOP).unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
               "-m", "simsong.training.job", str(folder), "--attended"]
    threads = task.threads or max(1, (os.cpu_count() or 1) // processes)
    # They find the modules that this process finds, and no numpy.py that lies in the working directory.
    environ = {"OMP_NUM_THREADS": str(threads), "CUBLAS_WORKSPACE_CONFIG": ":4096:8", **os.environ,
               "PYTHONPATH": programs.module_path(), "PYTHONSAFEPATH": "1"}
    with (folder / LOG).open("wb") as log:
        # In a session of its own: Ctrl-C reaches this process alone, which then ends the others in order.
        agent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                 env=environ, start_new_session=True, text=True)
        try:
            last = _attend(agent, folder, stop)
            agent.wait()
        finally:
            _end(agent)
    (folder / STOP).unlink(missing_ok=True)
    if agent.returncode or "steps" not in last:
        raise ModelError(f"{processes} training processes: {_reason(last, folder / LOG)}; all they said is "
                         f"in {folder / LOG}")
    tasks.remove(folder)
    (folder / LOG).unlink()
    return last["steps"]


class Messages:
    """The other end: shows steps as lines of JSON, for `launch` to read."""

    def __init__(self, to: IO[str]) -> None:
        self.to = to

    @contextmanager
    def __call__(self, what: str, total: int) -> Iterator[Messages]:
        self.say({"what": what, "total": total})
        yield self

    def step(self, n: int = 1, note: str = "") -> None:
        self.say({"done": n, "note": note})

    def say(self, what: dict[str, Any]) -> None:
        self.to.write(json.dumps(what) + "\n")
        self.to.flush()


def _attend(agent: subprocess.Popen[str], folder: Path,
            stop: Callable[[], bool] | None) -> dict[str, Any]:
    """Shows what they do until they are done. Returns: the last thing said that was no step."""
    assert agent.stdout is not None
    lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(agent.stdout, lines), daemon=True).start()
    last: dict[str, Any] = {}
    meter: progress.Meter | None = None
    with ExitStack() as shown:
        while True:
            if stop is not None and not (folder / STOP).exists() and stop():
                (folder / STOP).touch()
            try:
                said = lines.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if said is None:
                return last
            if "what" in said:
                meter = shown.enter_context(progress.meter(said["what"], said["total"], "steps"))
            elif "done" in said and meter is not None:
                meter.step(said["done"], said["note"])
            elif "error" not in last:
                last = said


def _read(lines: Iterable[str], to: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            continue                    # not ours
        if isinstance(said, dict):
            to.put(said)
    to.put(None)


def _end(agent: subprocess.Popen[str]) -> None:
    assert agent.stdin is not None
    agent.stdin.close()                 # the processes end, and then the agent by itself
    try:
        agent.wait(END_S)
    except subprocess.TimeoutExpired:
        agent.kill()
        agent.wait()


def _reason(last: dict[str, Any], log: Path) -> str:
    """Why they failed, in a line: what one of ours said, a signal, or the last exception."""
    if "error" in last:
        return last["error"]
    said = log.read_text("utf-8", "replace")
    if killed := KILLED.search(said.rpartition("Root Cause")[2]):      # torchrun ends the others with signals
        return f"one of them was killed ({killed[1]})"
    raised = [match[1] for line in said.splitlines() if (match := RAISED.match(line)) and
              "ChildFailedError" not in line]
    return raised[-1] if raised else "they ended without a word"
