"""A process that reads HDF5 files: `python -m simsong.sources.msd.worker PIPE` (see readers.py).

PIPE is a descriptor. The worker reads from it the memory that it may take, then calls: a function, its
argument, and the seconds that it may take. It answers each with what the function returns, or raises.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection

from simsong.programs import limit_memory


def main(pipe: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # Ctrl-C is for the one that asks
    signal.signal(signal.SIGALRM, signal.SIG_DFL)       # ends the process, even in the midst of libhdf5
    with Connection(pipe) as connection:
        try:
            limit_memory(connection.recv())
            connection.send(True)
            while True:
                function, argument, seconds = connection.recv()
                signal.setitimer(signal.ITIMER_REAL, seconds)
                try:
                    answer = function(argument)
                except Exception as error:
                    answer = error
                signal.setitimer(signal.ITIMER_REAL, 0)
                connection.send(answer)
        except (EOFError, OSError):                     # the one that asks is gone
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
