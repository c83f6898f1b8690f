"""Songs as files that players read, with addresses of this server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from simsong.files.playlists import Entry
from simsong.files.playlists import written as written_file

M3U8 = "audio/x-mpegurl"
_MEDIA_TYPES = {"m3u8": M3U8, "jspf": "application/xspf+json"}


def written(songs: Sequence[dict[str, Any]], name: str, form: str, base_url: str) -> tuple[bytes, str]:
    """A playlist's bytes and media type. Args: songs: as `schemas.Song`; form: m3u8, json or jspf; base_url:
    of this server."""
    if form == "json":
        return orjson.dumps(
            {
                "total": len(songs),
                "offset": 0,
                "limit": max(len(songs), 1),
                "roughly": False,
                "items": songs,
            }
        ), "application/json"
    entries = [
        Entry(
            f"{base_url}api/songs/{quote(song['track_id'], safe='')}/audio",
            song["artist"],
            song["title"],
            song["album"],
            song["duration_s"],
            song["track_id"],
        )
        for song in songs
    ]
    return written_file(entries, form, Path("/"), name).encode(), _MEDIA_TYPES[form]


def attachment(name: str, form: str) -> str:
    """The header that gives a file its name."""
    stem = re.sub(r"[^\w \-]", "", name).strip() or "playlist"
    ascii_stem = stem.encode("ascii", "ignore").decode().strip() or "playlist"
    return f"attachment; filename=\"{ascii_stem}.{form}\"; filename*=UTF-8''{quote(stem, safe='')}.{form}"
