"""The command `sql`: a query over the store's views, as a table or as a file."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import secrets
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import click

from simsong.cli.options import common, configured, print_table, printable
from simsong.errors import ConfigError, QueryError
from storage.store import Store

SHOWN_ROWS = 10_000
GRACE_S = 2.0               # in which DuckDB is expected to hear that a query's time is up
HEADROOM = 2**30            # of memory beside what DuckDB counts


@click.command()
@click.argument("query")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json", "parquet"]), default="table",
              show_default=True)
@click.option("--output", type=click.Path(dir_okay=False), help="A file to write to (needed for parquet).")
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(min=0, min_open=True),
              help="Seconds a query may take.")
@click.option("--memory", help="How much it may take, e.g. 2GB (default: 80 % of the machine's).")
@common
def sql(query: str, form: str, output: str | None, timeout: float, memory: str | None,
        config_file: str | None, store: str | None) -> None:
    """Ask the store in DuckDB's SQL: one SELECT, where every table is a view.

    E.g. "SELECT reason, count(*) FROM outcomes GROUP BY 1".
    """
    from storage.views import connect

    if form == "parquet" and not output:
        raise ConfigError("--format parquet needs --output FILE")
    opened = Store.open(configured(config_file, store).store)
    with _ends_within(timeout + GRACE_S), connect(opened, timeout_s=timeout, memory=memory) as db:
        _limit_memory(db.memory_bytes)
        try:
            rows = db.execute(query)
            if output:
                _write_file(rows, form, Path(output))
                return
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")
            if form == "table":
                _show(rows)
            else:
                _write(rows, form, sys.stdout)
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


def _show(rows: Any) -> None:
    values: list[list[str]] = []
    for batch in rows.batches(SHOWN_ROWS + 1):
        values += [[_short(value) for value in row] for row in _rows_of(batch)]
        if len(values) > SHOWN_ROWS:
            break
    print_table(rows.columns, values[:SHOWN_ROWS])
    if len(values) > SHOWN_ROWS:
        click.echo(f"the first {SHOWN_ROWS:,} rows; --format csv, json or parquet has all")


def _write_file(rows: Any, form: str, output: Path) -> None:
    """The file is there once it is whole."""
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    try:
        if form == "parquet":
            _write_parquet(rows, temporary)
        else:
            with temporary.open("w", encoding="utf-8", newline="") as target:
                _write(rows, form, target)
        temporary.replace(output)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)


def _write(rows: Any, form: str, target: IO[str]) -> None:
    if form != "json":
        writer = csv.writer(target)
        writer.writerow(rows.columns)
        for batch in rows.batches():
            writer.writerows([_text(cell) for cell in row] for row in _rows_of(batch))
        return
    plain_ascii = (getattr(target, "encoding", None) or "").lower().replace("-", "") != "utf8"
    between = "[\n"
    for batch in rows.batches():
        for row in _rows_of(batch):
            value = {name: plain(cell) for name, cell in zip(rows.columns, row, strict=True)}
            target.write(between + json.dumps(value, ensure_ascii=plain_ascii, allow_nan=False))
            between = ",\n"
    target.write("[]\n" if between == "[\n" else "\n]\n")


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


def plain(value: Any) -> Any:
    """A value as JSON has it: what is no number is null, bytes are hexadecimal digits."""
    import pyarrow as pa

    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, pa.MonthDayNano):      # an interval, as ISO 8601 has it
        return f"P{value.months}M{value.days}DT{value.nanoseconds / 1e9:g}S"
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _text(value: Any) -> Any:
    """A value as a cell: numbers and text as they are, what is nested as JSON."""
    if isinstance(value, list | tuple | dict):
        value = plain(value)
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value.hex() if isinstance(value, bytes) else value


def _short(value: Any) -> str:
    text = f"<{len(value)} bytes>" if isinstance(value, bytes) else printable(_text(value))
    return text if len(text) <= 200 else text[:197] + "…"
