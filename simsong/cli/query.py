"""The command `sql`: questions to the store's views, one or many, as a table or as a file."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import secrets
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from simsong.cli.options import common, configured
from simsong.errors import ConfigError, QueryError, SimSongError
from simsong.grid import expanded, grid, plain
from storage.store import Store

SHOWN_ROWS = 10_000
WIDTH = 120                 # of what is no terminal
GRACE_S = 2.0               # in which DuckDB is expected to hear that a query's time is up
HEADROOM = 2**30            # of memory beside what DuckDB counts
FORMATS = {"table": (), "csv": (".csv",), "json": (".json",), "jsonl": (".jsonl", ".ndjson"),
           "parquet": (".parquet", ".pq"), "arrow": (".arrow", ".feather", ".ipc")}
_PARAMETER = re.compile(r"\s*(\w+)=(.*)", re.DOTALL)


@click.command()
@click.argument("query", required=False)
@click.option("-p", "--param", "parameters", multiple=True, metavar="NAME=VALUE",
              help="What $NAME stands for, as text; a number is $NAME::INT.")
@click.option("--format", "form", type=click.Choice(list(FORMATS)),
              help="Default: by the suffix of --output, or a table.")
@click.option("--expanded", "upright", is_flag=True, help="A row's values below each other, for wide rows.")
@click.option("--output", type=click.Path(dir_okay=False), help="A file to write to (needed for parquet).")
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(min=0, min_open=True),
              help="Seconds a query may take.")
@click.option("--memory", help="How much it may take, e.g. 2GB (default: 80 % of the machine's).")
@click.option("--init", "as_script", is_flag=True,
              help="Print the views and macros as SQL, for `duckdb -init FILE` without SimSong.")
@common
def sql(query: str | None, parameters: tuple[str, ...], form: str | None, upright: bool, output: str | None,
        timeout: float, memory: str | None, as_script: bool, config_file: str | None,
        store: str | None) -> None:
    """Ask the store in DuckDB's SQL: one SELECT, where every table is a view.

    E.g. "FROM similar('TRAAAAW128F429D538', k := 5)" or "SELECT reason, count(*) FROM failures() GROUP BY 1".
    docs/COOKBOOK.md has more. Without QUERY it is read from a pipe, or a prompt asks for one after the other.
    """
    from storage.views import connect

    form = form or _form_of(output)
    values = _parameters(parameters)
    opened = Store.open(configured(config_file, store).store)
    if as_script:
        _print_script(opened, query, output)
        return
    if query is None and not sys.stdin.isatty():
        query = sys.stdin.read()
    if form in ("parquet", "arrow") and not output and (form == "parquet" or sys.stdout.isatty()):
        raise ConfigError(f"--format {form} needs --output FILE")
    if query is None and output:
        raise ConfigError("--output needs a QUERY")
    with connect(opened, timeout_s=timeout, memory=memory) as db:
        _limit_memory(db.memory_bytes)

        def answer(statement: str, upright: bool = upright) -> None:
            with _ends_within(timeout + GRACE_S), _memory_told():
                rows = db.execute(statement, values or None)
                if output:
                    _write_file(rows, form, Path(output))
                elif form == "table":
                    _show(rows, upright)
                elif form == "arrow":
                    _write_arrow(rows, sys.stdout.buffer)
                else:
                    _write(rows, form, sys.stdout)

        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        if query is not None:
            answer(query)
            return
        from simsong.cli.prompt import ask_for_statements

        names = db.names()
        ask_for_statements(_telling(answer), names)


def _telling(answer: Callable[[str, bool], None]) -> Callable[[str, bool], None]:
    """At a prompt an error is told, and the next question asked."""
    def answer_or_error(statement: str, upright: bool) -> None:
        try:
            answer(statement, upright)
        except SimSongError as error:
            click.echo(str(error), err=True)
    return answer_or_error


def _form_of(output: str | None) -> str:
    suffix = Path(output).suffix.lower() if output else None
    forms = [form for form, suffixes in FORMATS.items() if suffix in suffixes]
    return forms[0] if forms else "csv" if output else "table"


def _parameters(words: Sequence[str]) -> dict[str, str]:
    out: dict[str, str] = {}
    for word in words:
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise ConfigError(f"-p {word}: is not NAME=VALUE")
        if out.setdefault(match[1], match[2]) != match[2]:
            raise ConfigError(f"-p {match[1]}: is given twice")
    return out


def _print_script(store: Store, query: str | None, output: str | None) -> None:
    from storage.script import script

    if query is not None:
        raise ConfigError("--init takes no QUERY")
    text = script(store)
    if output:
        write_whole(Path(output), lambda path: path.write_text(text, encoding="utf-8"))
    else:
        click.echo(text)


@contextmanager
def _memory_told() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise QueryError("sql needs more memory than it may take") from None


@contextmanager
def _ends_within(seconds: float) -> Iterator[None]:
    """End this process after that time: one call of a function on one huge value is not interrupted."""
    def end() -> None:
        print(f"simsong: sql took longer than {seconds - GRACE_S:g} s", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _limit_memory(limit: int) -> None:
    """Have the system refuse this process more than that: DuckDB counts its blocks, not every value."""
    if sys.platform != "linux":
        return
    import resource

    status = Path("/proc/self/status").read_text()
    used = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = used + limit + HEADROOM
    resource.setrlimit(resource.RLIMIT_DATA,
                       (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _show(rows: Any, upright: bool) -> None:
    values: list[tuple[Any, ...]] = []
    for batch in rows.batches(SHOWN_ROWS + 1):
        values += _rows_of(batch)
        if len(values) > SHOWN_ROWS:
            break
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else \
        int(os.environ.get("COLUMNS", "")) if os.environ.get("COLUMNS", "").isdecimal() else WIDTH
    click.echo((expanded if upright else grid)(rows.columns, values[:SHOWN_ROWS], width))
    if len(values) > SHOWN_ROWS:
        click.echo(f"the first {SHOWN_ROWS:,} rows; --format csv, json or parquet has all")


def _write_file(rows: Any, form: str, output: Path) -> None:
    def write(path: Path) -> None:
        if form == "parquet":
            _write_parquet(rows, path)
        elif form == "arrow":
            with path.open("wb") as target:
                _write_arrow(rows, target, stream=False)
        else:
            with path.open("w", encoding="utf-8", newline="") as target:
                _write(rows, form, target)

    write_whole(output, write)


def write_whole(output: Path, write: Callable[[Path], object]) -> None:
    """The file is there once it is whole."""
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    try:
        write(temporary)
        temporary.replace(output)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)


def _write(rows: Any, form: str, target: IO[str]) -> None:
    if form not in ("json", "jsonl"):
        writer = csv.writer(target)
        writer.writerow(rows.columns)
        for batch in rows.batches():
            writer.writerows([_text(cell) for cell in row] for row in _rows_of(batch))
        return
    plain_ascii = (getattr(target, "encoding", None) or "").lower().replace("-", "") != "utf8"

    def lines() -> Iterator[str]:
        for batch in rows.batches():
            for row in _rows_of(batch):
                value: Mapping[str, Any] = {name: plain(cell)
                                            for name, cell in zip(rows.columns, row, strict=True)}
                yield json.dumps(value, ensure_ascii=plain_ascii, allow_nan=False)

    if form == "jsonl":
        target.writelines(f"{line}\n" for line in lines())
        return
    between = "[\n"
    for line in lines():
        target.write(between + line)
        between = ",\n"
    target.write("[]\n" if between == "[\n" else "\n]\n")


def _write_arrow(rows: Any, target: IO[bytes], stream: bool = True) -> None:
    """As a stream, to be read from a pipe, or as a file (Feather)."""
    import pyarrow as pa

    writer = None
    try:
        for batch in rows.batches(65_536):
            if writer is None:
                writer = (pa.ipc.new_stream if stream else pa.ipc.new_file)(target, batch.schema)
            writer.write_batch(batch)
    finally:
        if writer is not None:
            writer.close()


def _write_parquet(rows: Any, path: Path) -> None:
    import pyarrow.parquet as pq

    writer = None
    try:
        for batch in rows.batches(65_536):
            storable = _storable(batch)
            writer = writer or pq.ParquetWriter(path, storable.schema)
            writer.write_batch(storable)
    finally:
        if writer is not None:
            writer.close()


def _storable(batch: Any) -> Any:
    """A batch whose columns that Parquet has no type for (intervals, unions) are text."""
    import pyarrow as pa

    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if _unstorable(column.type):
            column = pa.array([None if v is None else str(plain(v)) for v in column.to_pylist()], pa.string())
        columns.append((name, column))
    return pa.RecordBatch.from_arrays([column for _, column in columns], names=[name for name, _ in columns])


def _unstorable(kind: Any) -> bool:
    import pyarrow as pa

    return (pa.types.is_interval(kind) or pa.types.is_union(kind)
            or any(_unstorable(kind.field(at).type) for at in range(kind.num_fields)))


def _rows_of(batch: Any) -> Iterator[tuple[Any, ...]]:
    return zip(*(_values(column) for column in batch.columns), strict=True)


def _values(column: Any) -> list[Any]:
    """As Python has them; timestamps finer than microseconds, which it has not, as text."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.string())
    try:
        return column.to_pylist()
    except (ValueError, OverflowError):         # dates and times beyond Python's
        return column.cast(pa.string()).to_pylist()


def _text(value: Any) -> Any:
    """A value as a cell: numbers and text as they are, what is nested as JSON."""
    if isinstance(value, list | tuple | dict):
        value = plain(value)
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value.hex() if isinstance(value, bytes) else value
