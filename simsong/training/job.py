"""A training that lies in a folder, as `simsong.training.task.save` wrote it, done by one process or several:

    python -m simsong.training.job FOLDER
    torchrun --nproc-per-node N -m simsong.training.job FOLDER

The model, its card and checkpoints are written into the same folder; run again, it goes on from the last
checkpoint. A file named `stop` in the folder ends it after a step, with a checkpoint. On several machines all
read the same folder, and only the first process writes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from simsong import progress
from simsong.errors import SimSongError
from simsong.programs import end_with_parent
from simsong.training import task as tasks
from simsong.training.distributed import joined
from simsong.training.launch import STOP, Messages
from simsong.training.train import run


def main(arguments: list[str] | None = None) -> int:
    """Returns: the exit code: 0 where it is finished or was stopped, 1 where it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m simsong.training.job", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--attended", action="store_true", help="speak to, and end with, the process at the "
                        "other end of standard input and output")
    args = parser.parse_args(arguments)
    if args.attended:
        end_with_parent(sys.stdin.fileno())
    messages = Messages(sys.stdout) if args.attended else None
    try:
        _do(args.folder, messages)
    except SimSongError as error:
        if messages is not None:
            messages.say({"error": str(error)})
        else:
            sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _do(folder: Path, messages: Messages | None) -> None:
    task, stop = tasks.load(folder), folder / STOP
    with joined() as group, progress.bars():
        result = run(task, folder, group, stop.exists, messages)
        if not group.leads:
            return
        stop.unlink(missing_ok=True)
        if messages is not None:
            messages.say({"steps": result.steps})
        elif not result.finished:
            sys.stderr.write(f"stopped after {result.steps} steps; run it again to go on\n")


if __name__ == "__main__":
    sys.exit(main())
