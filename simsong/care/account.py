"""Where every song of the catalogue is: found = embedded + failed by reason + pending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simsong.errors import PartDamaged, SongsLost
from simsong.parts.stages import MFCC, STAGES, TIMBRE, outcome_partition, stage_of
from storage.catalogue import Catalogue
from storage.store import Store

# What a song comes through until it is embedded: every model embeds those that one does.
CHAIN = ("fetch_audio", "trim", "segments", outcome_partition("embed", MFCC))
_SHOWN = 5


@dataclass
class Account:
    """Of songs. Pending ones are by the reason, or by the stage that has yet to look at them."""

    found: int = 0
    embedded: int = 0
    failed: Counter[str] = field(default_factory=Counter[str])
    pending: Counter[str] = field(default_factory=Counter[str])
    lost: list[str] = field(default_factory=list[str])      # ids, with the stage that should have them

    @property
    def holds(self) -> bool:
        return not self.lost and \
            self.found == self.embedded + self.failed.total() + self.pending.total()

    def as_json(self) -> dict[str, Any]:
        return {"found": self.found, "embedded": self.embedded, "failed": dict(self.failed),
                "pending": dict(self.pending), "lost": self.lost}

    def check(self) -> None:
        """Raises: SongsLost."""
        if not self.holds:
            raise SongsLost(len(self.lost), self.lost[:_SHOWN])

    def __str__(self) -> str:
        parts = [f"{self.embedded:,} embedded"]
        for name, counts in (("failed", self.failed), ("pending", self.pending)):
            of = f" ({_reasons(counts)})" if counts else ""
            parts.append(f"{counts.total():,} {name}{of}")
        lost = f" + {len(self.lost):,} LOST" if self.lost else ""
        return f"{self.found:,} songs found = {' + '.join(parts)}{lost}"


def account(store: Store) -> Account:
    """Of the catalogue's songs, a shard at a time. A part that a later stage has yet to make, or to make
    again, leaves its songs pending; one that it has made since holds each song that came to it."""
    out, catalogue, placed = Account(), Catalogue(store), _by_timbre(store)
    for shard in catalogue.shards:
        songs = set(catalogue.ids(shard).to_pylist())
        out.found += len(songs)
        if placed is not None:
            out.embedded += len(songs & placed)
            out.failed["no timbre"] += len(songs - placed)
            continue
        for stage in CHAIN:
            songs = _through(store, stage, shard, songs, out)
        out.embedded += len(songs)
    out.failed = +out.failed
    return out


def _by_timbre(store: Store) -> set[str] | None:
    """The songs that MSD's timbre places, in a store that has no audio; None in others."""
    if store.shards("outcomes", CHAIN[0]) or not store.shards("track_embeddings", TIMBRE):
        return None
    return set(store.read("track_embeddings", partition=TIMBRE, columns=["track_id"])["track_id"].to_pylist())


def _through(store: Store, stage: str, shard: int, songs: set[str], out: Account) -> set[str]:
    """Those of the songs that came through a stage; the others are set down."""
    name = stage_of(stage)
    try:
        rows = store.read("outcomes", shard, partition=stage,
                          columns=["track_id", "status", "reason"]).to_pylist() if songs else []
        old = _is_older(store, stage, shard)
    except PartDamaged:
        rows, old = [], True
    outcomes: Mapping[str, tuple[str, str]] = {row["track_id"]: (row["status"], row["reason"] or name)
                                               for row in rows}
    through = set[str]()
    for track_id in songs:
        status, reason = outcomes.get(track_id, ("pending" if old else "lost", f"not yet {name}"))
        if status == "ok":
            through.add(track_id)
        elif status == "lost":
            out.lost.append(f"{track_id} at {name}")
        else:
            (out.failed if status == "failed" else out.pending)[reason] += 1
    return through


def _is_older(store: Store, stage: str, shard: int) -> bool:
    """Whether a stage has yet to look at what there is now for it; also where that is not written down."""
    footers = store.footers("outcomes", shard, stage)
    made_from = footers[0].facts.get("made_from") if footers else None
    if made_from is None:
        return True
    reads = STAGES[stage_of(stage)].reads
    return any(store.rows_digest(table, shard, columns) != made_from["inputs"].get(table)
               for table, columns in reads.items())


def _reasons(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
