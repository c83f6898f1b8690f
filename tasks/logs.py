"""Logs of runs as lines of JSON (`run.log = "json"`), for whatever collects a machine's logs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

IDS = ("stage", "shard", "track_id", "reason")     # what a line is about, beside Prefect's ids
_OF_PREFECT = ("flow_name", "flow_run_name", "flow_run_id", "task_name", "task_run_name", "task_run_id")
_RUNS = ("prefect.flow_runs", "prefect.task_runs")


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname, "message": record.getMessage()}
        for name in (*_OF_PREFECT, *IDS):
            if (value := getattr(record, name, None)) is not None:
                line[name] = value
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _JsonHandler(logging.StreamHandler[Any]):
    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(JsonLines())


def settle_logs(kind: Literal["text", "json"]) -> None:
    """Of this process, from now on: JSON in place of what Prefect writes for people. Its server is told as
    before."""
    for name in _RUNS if kind == "json" else ():
        runs = logging.getLogger(name)
        if not any(isinstance(handler, _JsonHandler) for handler in runs.handlers):
            runs.addHandler(_JsonHandler())
            runs.setLevel(logging.INFO)
            runs.propagate = False
