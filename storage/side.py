"""A second store beside a first that shares its files: what is not changed there costs no disk.

Files are hard-linked. That is safe since a store replaces its files and never writes into one: whatever
either store puts or deletes, the other keeps what it had.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from simsong.errors import StoreError
from storage.backend import Local
from storage.store import Store


def root_of(store: Store) -> Path:
    """The folder that a store lies in. Raises: StoreError for an object store, whose files have no links."""
    if not isinstance(store.backend, Local):
        raise StoreError(f"{store.backend.url}: a study needs a store on a disk of this machine, since it "
                         "links files; object stores have no links")
    return store.backend.root


def share(source: Path, target: Path, wanted: Callable[[str], bool]) -> None:
    """Put the files of one store whose keys are wanted into another, but for those that are there already.
    Copies them where the file system has no links."""
    for folder, _, files in os.walk(source):
        within = Path(folder).relative_to(source)
        for name in files:
            if not wanted((within / name).as_posix()) or (target / within / name).exists():
                continue
            (target / within).mkdir(parents=True, exist_ok=True)
            try:
                os.link(Path(folder, name), target / within / name)
            except OSError:
                shutil.copy2(Path(folder, name), target / within / name)


def remove(path: Path) -> None:
    """A file, a link or a folder with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
