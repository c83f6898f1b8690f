"""Who is by one artist, and what is one recording, over the whole catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simsong.artists import artist_labels
from simsong.catalogue.duplicates import duplicates, duplicates_inputs
from simsong.parallel import once
from storage.backend import open_backend
from storage.identity import digest
from storage.store import Store

VERSION = 1


@dataclass(frozen=True)
class Recordings:
    """Attributes:
        artists: track_id → what names its artist, an artist_id where there is one (see `artist_labels`); the
            track itself where nobody knows the artist.
        of_id: artist_id → what names that artist.
        first: track_id → the first track of its recording, for the others of it; the first bears no mark.
    """

    artists: Mapping[str, str]
    of_id: Mapping[str, str]
    first: Mapping[str, str]

    @staticmethod
    def of(store: Store) -> Recordings:
        """Marks by sound are of what is embedded by now. Raises: PartDamaged."""
        return _recordings(store.backend.url, digest(recordings_inputs(store)))

    def artist(self, track_id: str) -> str | None:
        """None where nobody knows the artist."""
        artist = self.artists.get(track_id)
        return artist if artist != track_id else None

    def recording(self, track_id: str) -> str:
        return self.first.get(track_id, track_id)

    def stand_ins(self, track_ids: Iterable[str]) -> dict[str, str]:
        """Recording → the one of these tracks that stands for it: its first, or the smallest id."""
        out: dict[str, str] = {}
        for track_id in track_ids:
            recording = self.recording(track_id)
            other = out.get(recording)
            if other is None or track_id == recording or (other != recording and track_id < other):
                out[recording] = track_id
        return out

    def tracks_of(self, track_ids: Iterable[str]) -> dict[str, str]:
        """All tracks of the recordings that these are of, one a recording → which of these it is."""
        out = {self.recording(track_id): track_id for track_id in track_ids}
        return {**{track_id: out[first] for track_id, first in self.first.items() if first in out}, **out}

    def artists_of(self, track_ids: Iterable[str]) -> set[str]:
        """Of these tracks and of all others of their recordings."""
        recordings = {self.recording(track_id) for track_id in track_ids}
        return {artist for track_id, artist in self.artists.items()
                if self.recording(track_id) in recordings}

    def of_artists(self, artists: set[str]) -> set[str]:
        """The recordings of which any track is by one of these artists."""
        return {self.recording(track_id) for track_id, artist in self.artists.items() if artist in artists}


def recordings_inputs(store: Store) -> list[Any]:
    """Digests of all that `Recordings` depend on, from footers."""
    of_tracks = ("track_id", "artist", "artist_id", "duplicate_of", "shard")
    return [VERSION, [[footer.columns.get(name) for name in of_tracks] for footer in store.footers("tracks")],
            duplicates_inputs(store)]


@once(maxsize=2)
def _recordings(url: str, _of: str) -> Recordings:
    """Kept while the store has the same: the tasks of a run ask for it in turn."""
    store = Store(open_backend(url))
    ids, artist_ids, labels = _labelled(store)
    of_id = {artist_id: label for track_id, artist_id, label in zip(ids, artist_ids, labels, strict=True)
             if artist_id and label != track_id}
    marks = duplicates(store)
    first = dict(zip(marks["track_id"].to_pylist(), marks["duplicate_of"].to_pylist(), strict=True))
    return Recordings(dict(zip(ids, labels, strict=True)), of_id, first)


def artists_of_catalogue(store: Store) -> dict[str, str]:
    """As `Recordings.artists`, without looking at recordings."""
    ids, _, labels = _labelled(store)
    return dict(zip(ids, labels, strict=True))


def _labelled(store: Store) -> tuple[list[str], list[str | None], list[str]]:
    """Of each track, as they were catalogued: its id, its artist_id, what names its artist."""
    rows = store.read("tracks", columns=["track_id", "artist_id", "artist", "shard"]).sort_by(
        [("shard", "ascending"), ("track_id", "ascending")]).to_pydict()
    labels = artist_labels(rows["artist"], rows["artist_id"], rows["track_id"])
    return rows["track_id"], rows["artist_id"], labels
