"""What can go wrong, as types: one per answer a user can give.

A `SongError` becomes a row with a reason; the rest end a run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

Kind = Literal["permanent", "transient"]

# The closed vocabulary of outcomes. A transient reason is tried again at the next refresh (with a cap), a
# permanent one only on `simsong retry`.
REASONS: dict[str, Kind] = {
    # the catalogue
    "malformed": "permanent",        # a record of a source that cannot be read
    "no_title": "permanent",         # nothing to search by
    "untrusted": "permanent",        # listed as a wrong match by the catalogue itself
    # fetching audio
    "no_match": "permanent",         # candidates, but none good enough
    "removed": "permanent",
    "private": "permanent",
    "drm": "permanent",
    "geo_blocked": "permanent",
    "age_restricted": "permanent",
    "unavailable": "permanent",      # the site refuses it for a reason of its own
    "missing_file": "permanent",
    # fetching lyrics
    "no_lyrics": "permanent",
    "junk_lyrics": "permanent",      # a page was found, but it holds no lyrics
    "no_provider": "permanent",      # no lyrics beside the file, and nobody to ask (no token)
    # audio
    "undecodable": "permanent",
    "too_long": "permanent",
    "too_short": "permanent",
    "silent": "permanent",
    "one_segment": "permanent",      # training needs two segments of a song
    # anything that may be better tomorrow
    "timeout": "transient",
    "interrupted": "transient",      # the decoder was killed from outside, as where memory is short
    "rate_limited": "transient",
    "blocked": "transient",          # "confirm you are not a bot": concerns the source, not the song
    "server_error": "transient",
    "connection": "transient",
    "truncated": "transient",        # fewer bytes than promised
    "disk_full": "transient",
    "refetch": "transient",          # fetched, and to be fetched again on purpose
}
REFETCH = "refetch"


class SimSongError(Exception):
    """Any error with one clear line for the user. Subclasses pass their arguments on, so that they pickle."""


class ConfigError(SimSongError):
    """The configuration, an option or an environment variable is wrong; `str` says where and what to do."""


class CatalogueError(SimSongError):
    """A source cannot be read at all, or a catalogue is empty."""


class CatalogueShrunk(CatalogueError):
    """So many songs would leave a catalogue that something is likely to be wrong with its sources."""

    def __init__(self, lost: int, songs: int, ids: Sequence[str]) -> None:
        super().__init__(lost, songs, ids)
        self.lost, self.had, self.ids = lost, songs, ids

    def __str__(self) -> str:
        more = ", …" if self.lost > len(self.ids) else ""
        return (f"refused: {self.lost:,} of the catalogue's {self.had:,} songs are no longer in its sources "
                f"({', '.join(self.ids)}{more}); is a disk unmounted, a file emptied, a limit set? "
                "run, refresh, ingest or retry with --yes goes on without them")


class StageTimeout(SimSongError):
    """A task of a stage took longer than `run.timeouts` lets it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return (f"a task took longer than run.timeouts lets it ({self.detail}); nothing finished is lost: "
                "the same command again goes on from here")


class StoreError(SimSongError):
    """The store cannot be used as asked."""


class PartDamaged(StoreError):
    """A part's bytes are not those that were written."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(key, detail)
        self.key, self.detail = key, detail

    def __str__(self) -> str:
        return f"{self.key}: damaged ({self.detail}); `simsong verify --mend` computes it again"


class QueryError(StoreError):
    """A query over a store is refused, wrong, or took too long or too much memory."""


class AudioGone(StoreError):
    """Songs are to be computed again, as a setting has changed, but their audio was pruned or deleted."""

    def __init__(self, stage: str, songs: int, first: str) -> None:
        super().__init__(stage, songs, first)
        self.stage, self.songs, self.first = stage, songs, first

    def __str__(self) -> str:
        what = "its audio is" if self.songs == 1 else f"the audio of {self.songs} songs is"
        how = "bring the file back" if self.first.startswith("file:") else \
            "`simsong refresh --refetch --stage fetch_audio` gets it again"
        return (f"{self.stage} is to be done again, but {what} gone ({self.first}); {how}, or undo the "
                "change of settings; nothing was changed")


class LeaseHeld(StoreError):
    """Somebody else writes to the store, or may: `left_s` is after how many seconds without a sign of that
    writer another attempt takes over; None where it is known to live."""

    def __init__(self, store: str, holder: str, since: str = "", left_s: float | None = None) -> None:
        super().__init__(store, holder, since, left_s)
        self.store, self.holder, self.since, self.left_s = store, holder, since, left_s

    def __str__(self) -> str:
        since = f" since {self.since}" if self.since else ""
        line = f"{self.store}: {self.holder} is writing to it{since}; wait for it with --wait, or end it"
        if self.left_s is None:
            return line
        return f"{line}; if it is dead, an attempt in {math.ceil(self.left_s)} s takes over"


class LeaseLost(StoreError):
    """Somebody else took the store over, since this writer had not been heard of for too long."""


class ModelError(SimSongError):
    """A model cannot be loaded or does not fit its data."""


class PrefectError(SimSongError):
    """Prefect's server cannot be used; `str` says which, why, and how to go on without it."""


class BackupError(StoreError):
    """An archive of a store cannot be written, or is not one, or is damaged."""


class DeployError(SimSongError):
    """Deployments cannot be put on a server as asked."""


class MachineError(SimSongError):
    """The operating system refuses: a full disk, a file or folder that may not be read or written."""


class StudyError(SimSongError):
    """One training of a study failed; `str` says which, and why."""


class SongsLost(StoreError):
    """Songs of the catalogue have no outcome at a stage that has done its part: a fault of the store or of
    this program."""

    def __init__(self, songs: int, first: Sequence[str]) -> None:
        super().__init__(songs, first)
        self.songs, self.first = songs, first

    def __str__(self) -> str:
        return (f"{self.songs:,} songs of the catalogue are neither embedded nor failed nor pending "
                f"({', '.join(self.first)}); `simsong verify --mend` looks for damage")


class NothingDone(SimSongError):
    """A run in which every song failed: `str` says why and what to do."""


class SongError(SimSongError):
    """One song fails; the rest go on. Becomes an outcome with `reason` (of REASONS) and `detail`."""

    reason: ClassVar[str] = "undecodable"

    def __init__(self, subject: str, detail: str) -> None:
        super().__init__(subject, detail)
        self.subject, self.detail = subject, detail

    def __str__(self) -> str:
        return f"{self.subject}: {self.detail}"


class AudioUndecodable(SongError):
    reason = "undecodable"


class AudioTooLong(SongError):
    reason = "too_long"


class AudioTooShort(SongError):
    reason = "too_short"


class AudioSilent(SongError):
    reason = "silent"


class AudioTimeout(SongError):
    reason = "timeout"


class AudioInterrupted(SongError):
    reason = "interrupted"


class FileMissing(SongError):
    reason = "missing_file"


class LyricsNotFound(SongError):
    reason = "no_lyrics"


class LyricsJunk(SongError):
    reason = "junk_lyrics"


class FetchError(SongError):
    """A request for audio or lyrics failed. Its reason varies, so it is given; `stop` marks what concerns the
    source as a whole (blocked, rate limited): the caller stops asking, to spare each song's attempts."""

    def __init__(self, subject: str, detail: str, reason: str, stop: bool = False) -> None:
        Exception.__init__(self, subject, detail, reason, stop)
        self.subject, self.detail, self.stop = subject, detail, stop
        self.reason = reason  # pyright: ignore[reportAttributeAccessIssue]


class TaskError(SimSongError):
    """What a task raised is of a kind that no other process can be sent; this says it."""
