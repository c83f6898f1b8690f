"""Where lyrics are asked for: any number of providers, one after the other."""

from __future__ import annotations

from typing import Protocol

from simsong.fetching import Site
from simsong.lyrics.clean import Lyrics
from simsong.records import Wanted


class LyricsProvider(Protocol):
    """A client of one site. Can be shared among threads; no secret of it is in any message."""

    @property
    def site(self) -> Site: ...

    def lyrics(self, wanted: Wanted) -> Lyrics:
        """The words of a song, cleaned, with the language and how well the hit matches; or that it has none
        (an instrumental).

        Raises: LyricsNotFound (nothing there reaches the threshold, or it has no words), LyricsJunk (what is
            there is no lyrics), FetchError (a request failed), Held (the site is not asked any more),
            ConfigError.
        """
        ...
