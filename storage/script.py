"""The views and macros of `storage.views` as a file for DuckDB by itself: `duckdb -init simsong.sql`.

It reads the store's Parquet by paths, as they are whenever it is read; which model is published, and how wide
its vectors are, is what was so when the file was written.
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


def _paths(store: Store, relation: Relation) -> list[str]:
    """A glob for a table's files, so that later parts are read too. None where there are no files, which
    DuckDB does not take for an empty table.

    A backslash is a separator in DuckDB's globs whatever the system, so a store that has one in its path is
    read file by file."""
    keys = [key for key, _ in relation.files(store)]
    url = store.backend.url.rstrip("/")
    if not keys:
        return []
    if "\\" in url:
        if set("*?[") & set(url):
            raise StoreError(f"{url}: DuckDB by itself reads no path with a backslash and one of * ? [")
        return [f"{url}/{key}" for key in keys]
    if relation.table is None:
        return [_literally(f"{url}/{key}") for key in keys]
    folder = f"/{relation.partition}=*" if relation.partition else ""
    return [f"{_literally(url)}/tables/{relation.name}{folder}/[0-9]*.parquet"]


def _literally(path: str) -> str:
    """As a glob that matches that path alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)


def _settings() -> dict[str, Any]:
    """Where the environment has the store's objects be, without keys."""
    found: dict[str, Any] = {}
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        found["s3_region"] = region
    endpoint = next((os.environ[name] for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
                     if os.environ.get(name)), None)
    if endpoint:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        found |= {"s3_endpoint": parts.netloc + parts.path.rstrip("/"), "s3_url_style": "path",
                  "s3_use_ssl": str(parts.scheme != "http").lower()}
    return found


def _extension() -> str | None:
    """httpfs as the wheel `duckdb-extension-httpfs` has it, for this version of DuckDB."""
    spec = importlib.util.find_spec("duckdb_extension_httpfs")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found = sorted(Path(folder).glob(f"extensions/v{duckdb.__version__}/**/httpfs.duckdb_extension"))
        if found:
            return str(found[0])
    return None
