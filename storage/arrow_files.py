"""A store's files for pyarrow: read, and nothing else, wherever they lie."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import fs

from storage.backend import Backend, Local


def arrow_files(backend: Backend) -> fs.FileSystem:
    """Its paths are keys."""
    if isinstance(backend, Local):
        return fs.SubTreeFileSystem(backend.url, fs.LocalFileSystem())
    return fs.PyFileSystem(_Objects(backend))


class _Objects(fs.FileSystemHandler):
    """Of an object store, by key. What is no reading of a file raises NotImplementedError."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def get_type_name(self) -> str:
        return "simsong"

    def normalize_path(self, path: str) -> str:
        return path

    def open_input_file(self, path: str) -> Any:
        return pa.PythonFile(self._backend.get(path), mode="r")

    def open_input_stream(self, path: str) -> Any:
        return self.open_input_file(path)

    def get_file_info(self, paths: list[str]) -> Any:
        raise NotImplementedError

    def get_file_info_selector(self, selector: Any) -> Any:
        raise NotImplementedError

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = _refuse
    move = copy_file = open_output_stream = open_append_stream = _refuse
