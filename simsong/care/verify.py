"""Whether a store holds what was written, and what its configuration asks for."""

from __future__ import annotations

import json
import os
import re
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simsong.config import Config
from simsong.errors import PartDamaged
from simsong.parallel import ordered_map
from simsong.parts.stages import MFCC, STAGES, part_identity, stage_of
from simsong.progress import meter, track
from simsong.registry.models import UNTRAINED, files_of_models, promoted
from storage.catalogue import Catalogue
from storage.identity import digest
from storage.parquet import Footer
from storage.store import Store

_SAVED_EVERY = 100          # parts
_OUTCOMES = re.compile(r"tables/outcomes/stage=(?P<partition>[^/]+)/(?P<shard>\d+)\.parquet")

Fault = Literal["damaged", "stale", "missing"]


@dataclass(frozen=True)
class Finding:
    key: str
    fault: Fault        # stale: whole, but made from something else than what is there now
    detail: str


class Checked:
    """How far a verification has come, in a file of this user's cache: another process goes on from there.

    Attributes:
        after: the last of the parts, in their order, that has been checked; "" for none.
        findings: about the parts up to there.
        files: that parts up to there name, with their sizes and digests.
        whole: all is checked.
    """

    def __init__(self, store: Store) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        self._file = cache / "simsong" / "verify" / f"{digest(store.backend.url)}.json"
        self.after, self.whole = "", False
        self.findings: list[Finding] = []
        self.files: dict[str, list[Any]] = {}

    def load(self) -> None:
        """What a verification that did not come to its end has left; nothing where there is no such."""
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            facts = json.loads(self._file.read_text("utf-8"))
            findings = [Finding(**finding) for finding in facts["findings"]]
            self.after, self.files, self.findings = str(facts["after"]), dict(facts["files"]), findings

    def save(self) -> None:
        """Where the cache cannot be written, the next verification begins anew."""
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            new = self._file.with_suffix(f".{os.getpid()}")
            new.write_text(json.dumps({"after": self.after, "files": self.files,
                                       "findings": [vars(finding) for finding in self.findings]}), "utf-8")
            new.replace(self._file)

    def end(self) -> None:
        self.whole = True
        with suppress(OSError):
            self._file.unlink(missing_ok=True)


def verify(store: Store, config: Config, checked: Checked | None = None,
           most_s: float | None = None) -> Iterator[Finding]:
    """Check every part's bytes against its seal and its identity, every other file against its digest.

    Args:
        checked: goes on from there, and keeps it.
        most_s: then it ends, with `checked` not whole.
    """
    start, checked = time.monotonic(), checked or Checked(store)
    yield from checked.findings
    parts = store.backend.list("tables")
    left = parts[bisect_right(parts, checked.after):]
    checking = _Checking(store, config)
    with meter("verify", len(parts), "parts") as progress:
        progress.step(len(parts) - len(left))
        for number, part in enumerate(ordered_map(checking.part, left, config.run.workers), 1):
            checked.findings += part.findings
            checked.files |= part.files
            checked.after = part.key
            progress.step()
            yield from part.findings
            over = most_s is not None and time.monotonic() - start >= most_s
            if over or number % _SAVED_EVERY == 0:
                checked.save()
            if over and number < len(left):
                return
    named = {**files_of_models(store), **checked.files}     # files beside the tables
    for key, (_, written) in track(sorted(named.items()), "verify", unit="files"):
        size = store.size(key)
        if size is None:
            yield Finding(key, "missing", "it is not there")
        elif store.sha256(key) != written:
            yield Finding(key, "damaged", "its bytes are not those that were written")
    checked.end()


@dataclass(frozen=True)
class _Part:
    """What was found of one."""

    key: str
    findings: list[Finding]
    files: dict[str, list[Any]]


class _Checking:
    """Parts one by one, in any order."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store, self._config = store, config
        # Of a model that another has followed, the embeddings may be stale.
        self._labels = (MFCC, *(promoted(store, name) for name in (UNTRAINED, *config.training.losses)))

    def part(self, key: str) -> _Part:
        try:
            footer = self._store.check(key)
        except PartDamaged as error:
            return _Part(key, [Finding(key, "damaged", error.detail)], {})
        findings = [*self._outputs(footer.facts.get("outputs", {})), *self._stale(key, footer)]
        return _Part(key, findings, footer.facts.get("files", {}))

    def _outputs(self, outputs: Mapping[str, str]) -> Iterator[Finding]:
        """Of the parts that these outcomes name."""
        for key, seal in outputs.items():
            try:
                there = self._store.seal(key)
                if there not in (None, seal):
                    self._store.check(key)      # the seal itself may be what is damaged
            except PartDamaged:
                continue            # which is told of the part itself
            if there is None:
                yield Finding(key, "missing", "the part that its outcomes speak of is not there")
            elif there != seal:
                yield Finding(key, "stale",
                              "a run ended between it and its outcomes; the next run sees to it")

    def _stale(self, key: str, footer: Footer) -> Iterator[Finding]:
        named = _OUTCOMES.fullmatch(key)
        stage = STAGES.get(stage_of(named["partition"])) if named else None
        if named is None or stage is None:
            return
        label, shard = named["partition"].partition("-")[2] or None, int(named["shard"])
        if stage.name == "embed" and label not in self._labels:
            return
        if shard not in Catalogue(self._store).parts("outcomes", named["partition"]):
            return                  # of songs that left: it waits for them
        try:
            if footer.identity != part_identity(self._store, self._config, stage, shard, label):
                yield Finding(key, "stale",
                              "its inputs or configuration have changed; the next run computes it")
        except PartDamaged:
            pass                    # an input is damaged, and is told


def remove(store: Store, findings: list[Finding]) -> int:
    """Remove what is damaged, so that the next run computes it. Tables of fetching stages stay, and their
    outcomes are opened: the next run keeps what can be read of them. Returns how many files there were."""
    keys = {finding.key for finding in findings if finding.fault == "damaged"}
    observed = {table: stage.name for stage in STAGES.values() if stage.observes for table in stage.writes}
    for key in sorted(keys):
        table = key.split("/")[1]
        if table in observed:
            _open(store, observed[table], int(Path(key).stem))
        else:
            store.delete(key)
    return len(keys)


def _open(store: Store, partition: str, shard: int) -> None:
    """Have the next run look at a part again, as it does anyway where the outcomes are gone or damaged."""
    try:
        rows = store.read("outcomes", shard, partition=partition)
        footers = store.footers("outcomes", shard, partition)
    except PartDamaged:
        return
    for footer in footers:
        store.write("outcomes", [rows], footer.identity, shard=shard, partition=partition,
                    facts={**footer.facts, "open": footer.facts["open"] + 1})
