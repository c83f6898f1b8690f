"""A process that decodes files, one at a time: `python -m simsong.audio.worker PIPE FILE` (see guard.py).

PIPE and FILE are descriptors. It reads Limits, then Jobs, from PIPE. It answers each Job with an Answer (the
samples are in FILE, if they are wanted), with a SongError or with OutOfMemory.
"""

from __future__ import annotations

import hashlib
import math
import os
import resource
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

from simsong.audio.decoders import SinkError, decode_into
from simsong.audio.guard import DecodeAnswer, DecodeJob, Limits, OutOfMemory
from simsong.audio.samples import RATE_HZ, AudioInfo
from simsong.errors import AudioInterrupted, AudioUndecodable, SongError
from simsong.programs import end_with_parent, limit_memory

BUFFER = 1 << 20


def main(pipe: int, file: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # Ctrl-C is for the one that asks
    end_with_parent(0)                                  # nothing is ever written there
    with Connection(pipe) as connection, open(file, "wb", BUFFER, closefd=False) as sink:
        limits: Limits = connection.recv()
        limit_memory(limits.memory_bytes)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)    # libraries complain there of what is reported anyway
        connection.send(True)
        while True:
            try:
                job: DecodeJob = connection.recv()
            except EOFError:
                return
            used_s = math.ceil(time.process_time())
            resource.setrlimit(resource.RLIMIT_CPU, (used_s + limits.cpu_s, resource.RLIM_INFINITY))
            connection.send(answer(job, sink))


def answer(job: DecodeJob, sink: BinaryIO) -> DecodeAnswer | SongError | OutOfMemory:
    path = Path(job.path)
    try:
        decoded = decode_into(sink if job.samples else None, path, job.subject, job.max_duration_s)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        info = AudioInfo(decoded.codec, decoded.samples / RATE_HZ, path.stat().st_size, digest,
                         decoded.clipped)
        return DecodeAnswer(info, decoded.samples if job.samples else 0)
    except SongError as error:
        return error
    except SinkError as error:
        return AudioInterrupted(job.subject, f"no room for its samples ({error})")
    except MemoryError:
        return OutOfMemory()
    except Exception as error:      # libraries raise what they like on such files
        detail = f"the decoder failed: {type(error).__name__}: {error}"
        return AudioUndecodable(job.subject, f"not decodable as audio ({detail})")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
