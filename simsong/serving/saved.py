"""What people leave here: stations, and songs that they want more or less of.

Objects of their own below `serving/` in the store, beside what its stages write: whoever refreshes the store
holds its lease meanwhile, and people must not wait for that.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from datetime import UTC, datetime
from typing import Any

from simsong.answers.stations import STATIONS, read_saved, station
from simsong.search.resolve import plain_text
from storage.backend import Backend
from storage.identity import digest
from storage.store import Store

FEEDBACK = "serving/feedback"
MOST_STATIONS, MOST_FEEDBACK = 1000, 100_000


class Saved:
    """Kept in memory too, as this server last wrote or read it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._backend: Backend = store.backend
        self._lock = threading.Lock()
        self._feedback: dict[str, str] | None = None

    # Stations

    def add_station(self, fields: dict[str, Any]) -> dict[str, Any] | None:
        """The station, with an id of its own; None where there are too many."""
        if len(self._backend.list(STATIONS)) >= MOST_STATIONS:
            return None
        stem = re.sub(r"[^a-z0-9]+", "-", plain_text(fields["name"]))[:40].strip("-") or "station"
        added = {
            "id": f"{stem}-{secrets.token_hex(4)}",
            **fields,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._write(f"{STATIONS}/{added['id']}.json", added)
        return added

    def remove_station(self, station_id: str) -> bool:
        if station(self._store, station_id) is None:
            return False
        self._backend.delete(f"{STATIONS}/{station_id}.json")
        return True

    # Feedback

    def feedback(self) -> dict[str, str]:
        """track_id → more or less."""
        with self._lock:
            if self._feedback is None:
                entries = (read_saved(self._backend, key) for key in self._backend.list(FEEDBACK))
                self._feedback = {one["track_id"]: one["verdict"] for one in entries if one}
            return dict(self._feedback)

    def verdict(self, track_id: str) -> str | None:
        return self.feedback().get(track_id)

    def judge(self, track_id: str, verdict: str) -> bool:
        """Args: verdict: more, less, or none, which takes back. False where there is too much of it."""
        feedback, key = self.feedback(), f"{FEEDBACK}/{digest(track_id)}.json"
        if verdict == "none":
            self._backend.delete(key)
        elif track_id not in feedback and len(feedback) >= MOST_FEEDBACK:
            return False
        else:
            self._write(
                key,
                {
                    "track_id": track_id,
                    "verdict": verdict,
                    "at": datetime.now(UTC).isoformat(timespec="seconds"),
                },
            )
        with self._lock:
            if self._feedback is not None:
                self._feedback.pop(track_id, None)
                if verdict != "none":
                    self._feedback[track_id] = verdict
        return True

    def _write(self, key: str, value: dict[str, Any]) -> None:
        self._backend.put_atomic(key, json.dumps(value).encode())
