"""Sounds kept for the stages to come: each read once by each, never more than may be, never a wrong one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from simsong.audio.samples import Samples
from simsong.audio.shared import SharedSounds

STAGES = ("trim", "segments")


def sound(seed: int, seconds: float = 1.0) -> Samples:
    return np.random.default_rng(seed).uniform(-1, 1, round(16_000 * seconds)).astype(np.float32)


def open_sounds(folder: Path) -> list[int]:
    """Descriptors of this process's files without a name in a folder."""
    descriptors = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue
        if target.startswith(f"{folder}/") and target.endswith("(deleted)"):
            descriptors.append(int(link.name))
    return descriptors


def test_each_reader_takes_it_once_and_then_it_is_gone(tmp_path: Path) -> None:
    sounds = SharedSounds()
    assert sounds.keep("a", sound(1), STAGES, 0, tmp_path)
    assert list(tmp_path.iterdir()) == [], "a kill would leave what has a name"
    for reader in STAGES:
        taken = sounds.take("a", reader)
        assert taken is not None
        np.testing.assert_array_equal(taken, sound(1))
        taken[0] = 7.0              # a copy of one's own
        assert sounds.take("a", reader) is None
    assert sounds.take("a", "features") is None and sounds.bytes == 0 and not open_sounds(tmp_path)


def test_another_file_or_another_content_is_another_sound(tmp_path: Path) -> None:
    sounds = SharedSounds()
    sounds.keep(("file", "digest"), sound(1), STAGES, 0, tmp_path)
    assert sounds.take(("file", "other"), "trim") is None
    assert sounds.take(("other", "digest"), "trim") is None


@pytest.mark.parametrize("damage", ["cut", "byte"])
def test_what_the_disk_has_spoiled_is_not_returned(tmp_path: Path, damage: str) -> None:
    sounds = SharedSounds()
    sounds.keep("a", sound(1), STAGES, 0, tmp_path)
    descriptor, = open_sounds(tmp_path)
    if damage == "cut":
        os.ftruncate(descriptor, 1000)
    else:
        os.pwrite(descriptor, b"\x55", 1001)
    assert sounds.take("a", "trim") is None and sounds.take("a", "segments") is None
    assert sounds.bytes == 0 and not open_sounds(tmp_path)


def test_a_sound_beyond_the_bound_is_not_kept_and_the_others_stay(tmp_path: Path) -> None:
    sounds = SharedSounds(most_bytes=3 * 64_000)
    assert [sounds.keep(n, sound(n), STAGES, 0, tmp_path) for n in range(5)] == [True] * 3 + [False] * 2
    assert sounds.bytes == 3 * 64_000 and len(open_sounds(tmp_path)) == 3
    for reader in STAGES:
        assert sounds.take(0, reader) is not None
    assert sounds.keep(5, sound(5), STAGES, 0, tmp_path), "there is room again"


def test_the_bound_holds_among_threads(tmp_path: Path) -> None:
    sounds = SharedSounds(most_bytes=10 * 64_000)
    begin = threading.Barrier(16)

    def keep(n: int) -> bool:
        begin.wait()
        return sounds.keep(n, sound(n), STAGES, 0, tmp_path)

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(keep, range(16))) == 10
    assert sounds.bytes == 10 * 64_000


def test_no_more_files_than_may_be_open(tmp_path: Path) -> None:
    code = ("import resource, sys; from pathlib import Path; import numpy as np\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
            "from simsong.audio.shared import SharedSounds\n"
            "sounds = SharedSounds()\n"
            "print(sum(sounds.keep(n, np.zeros(9, np.float32), ['trim'], 0, Path(sys.argv[1]))"
            " for n in range(99)))\n")
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == "16\n"


def test_a_full_disk_keeps_nothing(tmp_path: Path) -> None:
    sounds = SharedSounds()
    assert not sounds.keep("a", sound(1), STAGES, 0, tmp_path, least_free_bytes=1 << 60)
    assert not sounds.keep("a", sound(1), STAGES, 0, tmp_path / "is not there")
    assert sounds.bytes == 0 and sounds.take("a", "trim") is None and not open_sounds(tmp_path)


def test_a_reader_that_is_done_with_a_group_holds_nothing_of_it(tmp_path: Path) -> None:
    sounds = SharedSounds()
    for n, group in enumerate((0, 0, 1)):
        sounds.keep(n, sound(n), STAGES, group, tmp_path)
    sounds.take(0, "segments")
    sounds.done("trim", 0)          # one of them failed before it was heard
    assert sounds.take(0, "trim") is None and sounds.take(1, "trim") is None
    assert sounds.take(1, "segments") is not None and sounds.take(2, "trim") is not None
    assert sounds.bytes == 64_000


def test_nothing_is_left_at_the_end_of_a_run(tmp_path: Path) -> None:
    sounds = SharedSounds()
    sounds.keep("a", sound(1), STAGES, 0, tmp_path)
    sounds.clear()
    assert sounds.take("a", "trim") is None and sounds.bytes == 0 and not open_sounds(tmp_path)


def test_a_sound_that_is_kept_again_is_there_for_the_readers_of_both(tmp_path: Path) -> None:
    sounds = SharedSounds()
    sounds.keep("a", sound(1), ["features"], 0, tmp_path)
    sounds.keep("a", sound(1), STAGES, 0, tmp_path)
    assert sounds.bytes == 64_000
    assert all(sounds.take("a", reader) is not None for reader in ("trim", "segments", "features"))
    assert sounds.bytes == 0
