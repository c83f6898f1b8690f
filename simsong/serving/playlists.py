"""Songs as files that players read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

import orjson

from simsong.serving.snapshot import Snapshot

M3U8 = "audio/x-mpegurl"


def written(songs: Snapshot, rows: Sequence[int], name: str, form: str, base_url: str) -> tuple[bytes, str]:
    """A playlist's bytes and media type. Args: form: m3u8, json or jspf; base_url: of this server."""
    told = [songs.song(row) for row in rows]
    addresses = [f"{base_url}api/songs/{quote(song['track_id'], safe='')}/audio" for song in told]
    if form == "json":
        return orjson.dumps(
            {"total": len(told), "offset": 0, "limit": max(len(told), 1), "roughly": False, "items": told}
        ), "application/json"
    if form == "jspf":
        tracks = [
            {
                "location": [address],
                "title": song["title"],
                "creator": song["artist"],
                "album": song["album"],
                "duration": round(1000 * (song["duration_s"] or 0)),
                "identifier": [song["track_id"]],
            }
            for song, address in zip(told, addresses, strict=True)
        ]
        return orjson.dumps({"playlist": {"title": name, "track": tracks}}), "application/xspf+json"
    lines = ["#EXTM3U", f"#PLAYLIST:{line(name)}"]
    for song, address in zip(told, addresses, strict=True):
        seconds = round(song["duration_s"]) if song["duration_s"] else -1
        lines += [f"#EXTINF:{seconds},{line(song['artist'] or '')} - {line(song['title'] or '')}", address]
    return "\n".join([*lines, ""]).encode(), M3U8


def attachment(name: str, form: str) -> str:
    """The header that gives a file its name."""
    stem = re.sub(r"[^\w \-]", "", name).strip() or "playlist"
    ascii_stem = stem.encode("ascii", "ignore").decode().strip() or "playlist"
    return f"attachment; filename=\"{ascii_stem}.{form}\"; filename*=UTF-8''{quote(stem, safe='')}.{form}"


def line(text: str) -> str:
    """A title may hold line breaks, which would be entries of their own."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
