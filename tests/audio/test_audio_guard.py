"""Decoders that crash, hang, spin and eat: real processes, really killed, and files that really do it."""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from simsong.audio.guard import SONGS, Guard, Limits
from simsong.errors import (
    REASONS,
    AudioInterrupted,
    AudioTimeout,
    AudioTooLong,
    AudioUndecodable,
    FileMissing,
    SongError,
)

ROOT = Path(__file__).parents[2]
RATE_HZ = 16_000
FOREVER_S = 1e6


def sparse_wav(path: Path, rate_hz: int, channels: int, size: int, bits: int = 8, form: int = 1) -> Path:
    """A WAV of silence that takes no disk."""
    frame = channels * bits // 8
    with path.open("wb") as file:
        file.write(struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 2**32 - 1, b"WAVE", b"fmt ", 16, form, channels,
                               rate_hz, rate_hz * frame, frame, bits, b"data", 2**32 - 46))
        file.truncate(size)
    return path


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """Fifty days at 1,000 samples a second: minutes of work."""
    return sparse_wav(tmp_path / "endless.wav", 1_000, 1, 2**32 - 1)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    sf.write(tmp_path / "song.wav", np.full(2 * RATE_HZ, 0.25), RATE_HZ)
    return tmp_path / "song.wav"


def failure(call: Callable[[], object]) -> SongError:
    with pytest.raises(SongError) as error:
        call()
    return error.value


def while_decoding(guard: Guard, path: Path, sent: signal.Signals, times: int) -> SongError:
    """What comes of a file whose worker is sent a signal while at work; with `times` = 2 the next one too."""
    known = set(guard.pids)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(guard.decode, path, FOREVER_S)
        for _ in range(times):
            while not (new := set(guard.pids) - known):
                time.sleep(0.01)
            known |= new
            time.sleep(0.1)
            os.kill(new.pop(), sent)
        return failure(job.result)


def gone(pid: int, within_s: float = 5.0) -> bool:
    ends = time.monotonic() + within_s
    while time.monotonic() < ends:
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("sent", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_decoder_that_crashes_costs_its_file_alone(endless: Path, song: Path, sent: signal.Signals) -> None:
    with Guard(1) as guard:
        error = while_decoding(guard, endless, sent, times=2)
        assert isinstance(error, AudioUndecodable)
        assert str(error) == f"{endless}: not decodable as audio (the decoder crashed: {sent.name})"
        assert len(guard.decode(song, 10.0)) == 2 * RATE_HZ


def test_a_decoder_killed_from_outside_is_no_fault_of_the_file(endless: Path, song: Path) -> None:
    with Guard(1) as guard:
        error = while_decoding(guard, endless, signal.SIGKILL, times=2)
        assert isinstance(error, AudioInterrupted)
        assert error.detail == "the decoder was killed (SIGKILL)"
        guard.decode(song, 10.0)
        before = guard.pids
        os.kill(before[0], signal.SIGKILL)        # while it waits for work
        np.testing.assert_array_equal(guard.decode(song, 10.0), np.full(2 * RATE_HZ, 0.25, np.float32))
        assert len(guard.pids) == 1
        assert guard.pids != before


def test_one_death_is_made_up_for(tmp_path: Path) -> None:
    long = tmp_path / "long.flac"
    sf.write(long, np.zeros(3 * 3_600 * 8_000, np.int16), 8_000)
    with Guard(1) as guard, ThreadPoolExecutor(1) as pool:
        job = pool.submit(guard.probe, long, FOREVER_S)
        while not (first := guard.pids):
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(first[0], signal.SIGSEGV)
        assert job.result().duration_s == 3 * 3_600
        assert guard.pids != first


def test_a_decoder_that_hangs_is_ended_in_time(endless: Path, song: Path) -> None:
    with Guard(1, Limits(wall_s=1.0)) as guard:
        guard.decode(song, 10.0)
        hung, = guard.pids
        os.kill(hung, signal.SIGSTOP)
        start = time.monotonic()
        error = failure(lambda: guard.decode(song, 10.0))
        assert time.monotonic() - start < 5
        assert isinstance(error, AudioTimeout)
        assert error.detail == "not decoded within 1 s"
        assert gone(hung)
        assert len(guard.decode(song, 10.0)) == 2 * RATE_HZ


def test_a_decoder_that_spins_is_ended_by_its_processor_time(endless: Path) -> None:
    with Guard(1, Limits(wall_s=60.0, cpu_s=1)) as guard:
        for ask in (guard.decode, guard.probe):
            error = failure(lambda ask=ask: ask(endless, FOREVER_S))
            assert isinstance(error, AudioTimeout)
            assert error.detail == "not decoded within 1 s of processor time"
            assert REASONS[error.reason] == "transient"


def test_a_slow_machine_has_time_for_a_song(song: Path) -> None:
    """Thirty times slower than it should be: the worker stands still most of the time."""
    with Guard(1) as guard, ThreadPoolExecutor(1) as pool:
        guard.decode(song, 10.0)
        pid, = guard.pids
        os.kill(pid, signal.SIGSTOP)
        job = pool.submit(guard.decode, song, 10.0)
        time.sleep(10)
        os.kill(pid, signal.SIGCONT)
        assert len(job.result()) == 2 * RATE_HZ


def test_processor_time_is_counted_for_each_file_anew(tmp_path: Path) -> None:
    file = tmp_path / "hour.flac"
    sf.write(file, np.zeros(3_600 * 8_000, np.int16), 8_000)
    with Guard(1, Limits(cpu_s=1)) as guard:
        guard.probe(file, FOREVER_S)
        worker = guard.pids
        start = time.monotonic()
        while time.monotonic() - start < 2.5:
            guard.probe(file, FOREVER_S)
        assert guard.pids == worker


def test_memory_is_limited(tmp_path: Path, song: Path) -> None:
    """An MP3 with a picture of 250 MB in its tag, which FFmpeg takes into memory twice."""
    def syncsafe(n: int) -> bytes:
        return bytes(n >> shift & 0x7f for shift in (21, 14, 7, 0))

    sf.write(tmp_path / "a.mp3", 0.1 * np.sin(np.arange(44_100)), 44_100)
    head, size = b"\0image/png\0\3\0\x89PNG\r\n\x1a\n", 250 << 20
    bomb = tmp_path / "bomb.mp3"
    with bomb.open("wb") as file:
        file.write(b"ID3\4\0\0" + syncsafe(size + 10) + b"APIC" + syncsafe(size) + b"\0\0" + head)
        file.seek(size - len(head), os.SEEK_CUR)
        file.write((tmp_path / "a.mp3").read_bytes())
    with Guard(1) as guard:
        error = failure(lambda: guard.decode(bomb, 60.0))
        assert isinstance(error, AudioUndecodable)
        assert error.detail == "not decodable as audio (more than 300 MB of memory)"
        assert len(guard.decode(song, 10.0)) == 2 * RATE_HZ
    with Guard(1, Limits(wall_s=60.0, memory_bytes=2 << 30)) as guard:       # it is the limit that refused it
        assert guard.probe(bomb, 60.0).duration_s == pytest.approx(1, abs=0.1)


def test_headers_and_silences_that_claim_the_world(tmp_path: Path) -> None:
    many = sparse_wav(tmp_path / "many.wav", 384_000, 255, 2**32 - 1, bits=32, form=3)
    hours = tmp_path / "hours.flac"
    sf.write(hours, np.zeros(10 * 3_600 * 8_000, np.int16), 8_000)
    assert hours.stat().st_size < 2e6
    with Guard(1) as guard:
        start = time.monotonic()
        error = failure(lambda: guard.decode(many, 1200.0))
        assert isinstance(error, AudioUndecodable)
        assert "255 channels" in str(error)
        error = failure(lambda: guard.decode(hours, 1200.0))
        assert isinstance(error, AudioTooLong)
        assert error.detail == "longer than 1200 s"
        assert time.monotonic() - start < 10
        assert peak_bytes(guard) < 250e6


def peak_bytes(guard: Guard) -> int:
    """The most memory that a worker has had."""
    lines = (line for pid in guard.pids for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return max(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_no_room_for_samples_is_no_fault_of_the_file(song: Path) -> None:
    with Guard(1) as guard:
        guard.decode(song, 10.0)
        full, empty = (RATE_HZ, resource.RLIM_INFINITY), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(guard.pids[0], resource.RLIMIT_FSIZE, full)
        error = failure(lambda: guard.decode(song, 10.0))
        assert isinstance(error, AudioInterrupted)
        assert error.detail == "no room for its samples (File too large)"
        resource.prlimit(guard.pids[0], resource.RLIMIT_FSIZE, empty)
        assert len(guard.decode(song, 10.0)) == 2 * RATE_HZ


def test_a_second_try_gets_the_time_that_is_left(endless: Path, song: Path) -> None:
    with Guard(1, Limits(wall_s=2.0)) as guard:
        guard.decode(song, 10.0)
        first = guard.pids
        threading.Timer(1.0, os.kill, (first[0], signal.SIGKILL)).start()
        start = time.monotonic()
        assert isinstance(failure(lambda: guard.decode(endless, FOREVER_S)), AudioTimeout)
        assert time.monotonic() - start < 5


def test_threads_share_few_workers(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.wav" for n in range(24)]
    for n, file in enumerate(files):
        sf.write(file, np.full(RATE_HZ + n, (n + 1) / 32), RATE_HZ)
    with Guard(2) as guard:
        with ThreadPoolExecutor(8) as pool:
            sounds = list(pool.map(lambda file: guard.decode(file, 10.0), files))
        assert len(guard.pids) == 2
    for n, samples in enumerate(sounds):
        assert len(samples) == RATE_HZ + n
        assert (samples == np.float32((n + 1) / 32)).all()


def test_relative_paths_and_typed_answers(song: Path, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    with Guard(1) as guard:
        guard.probe(song, 10.0)
        monkeypatch.chdir(tmp_path)             # the worker stays where it is
        assert len(guard.decode(Path("song.wav"), 10.0)) == 2 * RATE_HZ
        error = failure(lambda: guard.decode(Path("absent.wav"), 10.0))
        assert isinstance(error, FileMissing)
        assert str(error) == "absent.wav: there is no such file"


def test_workers_are_replaced_before_they_are_worn_out_and_leave_nothing_open(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.zeros(160), RATE_HZ)
    with Guard(1) as guard:
        guard.probe(tmp_path / "a.wav", 10.0)
        first, = guard.pids
        opened = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(SONGS):
            guard.probe(tmp_path / "a.wav", 10.0)
        second, = guard.pids
        assert gone(first)
        assert second != first
        assert len(list(Path("/proc/self/fd").iterdir())) == opened
    assert gone(second)


CHILD = """
import os, sys, threading
from pathlib import Path
from simsong.audio.guard import Guard
guard = Guard(2)
"""


def run(code: str, *given: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *map(str, given)], capture_output=True, text=True,
                          check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_workers_end_with_a_parent_that_is_killed(endless: Path, song: Path) -> None:
    code = CHILD + (
        "guard.decode(Path(sys.argv[2]), 10.0)\n"                  # one that waits, one at work
        "ask = lambda path: guard.decode(Path(path), 1e6)\n"
        "threading.Thread(target=ask, args=[sys.argv[1]]).start()\n"
        "threading.Thread(target=ask, args=[sys.argv[1]]).start()\n"
        "while len(guard.pids) < 2: pass\n"
        "print(*guard.pids, flush=True)\nthreading.Event().wait()\n")
    parent = subprocess.Popen([sys.executable, "-c", code, endless, song], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert all(gone(pid, within_s=2.0) for pid in pids)


def test_a_forked_process_has_workers_of_its_own(song: Path) -> None:
    code = ("import os, sys; from pathlib import Path; from simsong.audio.decode import decode\n"
            "once = len(decode(Path(sys.argv[1])))\n"
            "if not (child := os.fork()): sys.exit(len(decode(Path(sys.argv[1]))) != once)\n"
            "_, status = os.waitpid(child, 0)\n"
            "sys.exit(status or len(decode(Path(sys.argv[1]))) != once)\n")
    done = run(code, song)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_modules_in_the_working_directory_are_not_imported(song: Path, tmp_path: Path) -> None:
    (tmp_path / "soxr.py").write_text("raise SystemExit('the wrong one')")
    program = tmp_path / "program"
    program.mkdir()
    (program / "main.py").write_text(CHILD + "print(len(guard.decode(Path(sys.argv[1]), 10.0)))")
    done = subprocess.run([sys.executable, program / "main.py", song], cwd=tmp_path, capture_output=True,
                          text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.stdout, done.stderr) == (f"{2 * RATE_HZ}\n", "")


def test_a_worker_that_does_not_start_is_no_fault_of_a_song(song: Path) -> None:
    code = CHILD + "sys.executable = '/bin/false'\nguard.decode(Path(sys.argv[1]), 10.0)"
    done = run(code, song)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "simsong.errors.SimSongError: the decoder does not start: `/bin/false -m simsong.audio.worker` ended "
        "with code 1")


def test_an_interrupted_question_gets_no_other_ones_answer(song: Path, endless: Path) -> None:
    """Ctrl-C while a file is decoded, and then another file is asked for."""
    with Guard(1) as guard:
        guard.decode(song, 10.0)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            guard.decode(endless, FOREVER_S)
        assert len(guard.decode(song, 10.0)) == 2 * RATE_HZ
