"""The views and macros of `storage.views` as a file for DuckDB by itself: `duckdb -init simsong.sql`.

It reads the store's Parquet by paths, as they are whenever it is read; which stages and models there are,
which is published, and how wide its vectors are, is what was so when the file was written.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb

from simsong.errors import StoreError
from storage.backend import Local
from storage.relations import Relation, facts_of, render, sql_type
from storage.store import Store

_SCHEMES = ("s3", "gs", "gcs")


def script(store: Store) -> str:
    """Raises: StoreError for an object store that DuckDB's httpfs does not read, and where what is published
    is damaged."""
    facts, local = facts_of(store), isinstance(store.backend, Local)
    if not local and urlsplit(store.backend.url).scheme not in _SCHEMES:
        raise StoreError(f"{store.backend.url}: DuckDB by itself reads stores on disks, s3:// and gs://; "
                         "`simsong sql` reads this one")
    files = [{"name": relation.name, "paths": _paths(store, relation), "partition": relation.partition,
              "columns": [{"name": one.name, "type": sql_type(one.type)} for one in relation.schema]}
             for relation in facts.relations]
    head = render("files.sql", url=store.backend.url, files=files, totals=facts.totals.to_pylist(),
                  remote=None if local else _settings(), extension=None if local else _extension())
    return "\n".join([head, render("views.sql", **facts.context), render("macros.sql", **facts.context)])


def _paths(store: Store, relation: Relation) -> list[dict[str, Any]]:
    """Of each partition, its value and its files: a query with a filter on it opens none of the others.

    A glob stands for the files, so that later parts are read too. None where there are no files, which DuckDB
    does not take for an empty table.

    A backslash is a separator in DuckDB's globs whatever the system, so a store that has one in its path is
    read file by file."""
    url = store.backend.url.rstrip("/")
    of_value: dict[str | None, list[str]] = {}
    for key, value in relation.files(store):
        of_value.setdefault(value, []).append(f"{url}/{key}")
    if "\\" in url:
        if of_value and set("*?[") & set(url):
            raise StoreError(f"{url}: DuckDB by itself reads no path with a backslash and one of * ? [")
    elif relation.table is None:
        of_value = {value: [_literally(path) for path in paths] for value, paths in of_value.items()}
    else:
        of_value = {value: [f"{_literally(paths[0].rpartition('/')[0])}/[0-9]*.parquet"]
                    for value, paths in of_value.items()}
    return [{"value": value, "of": paths} for value, paths in of_value.items()]


def _literally(path: str) -> str:
    """As a glob that matches that path alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)


def _settings() -> dict[str, Any]:
    """Where the environment has the store's objects be, without keys."""
    settings: dict[str, Any] = {}
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        settings["s3_region"] = region
    endpoint = next((os.environ[name] for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
                     if os.environ.get(name)), None)
    if endpoint:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        settings |= {"s3_endpoint": parts.netloc + parts.path.rstrip("/"), "s3_url_style": "path",
                     "s3_use_ssl": str(parts.scheme != "http").lower()}
    return settings


def _extension() -> str | None:
    """httpfs as the wheel `duckdb-extension-httpfs` has it, for this version of DuckDB."""
    spec = importlib.util.find_spec("duckdb_extension_httpfs")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        files = sorted(Path(folder).glob(f"extensions/v{duckdb.__version__}/**/httpfs.duckdb_extension"))
        if files:
            return str(files[0])
    return None
