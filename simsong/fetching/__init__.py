"""Asking sites for many songs: a few at a time, at a pace, with retries, and not while they do not answer."""

from simsong.fetching.breaker import Breaker, Postponed
from simsong.fetching.run import fetch_all, with_retries
from simsong.fetching.site import Held, Site

__all__ = ["Breaker", "Held", "Postponed", "Site", "fetch_all", "with_retries"]
