"""Hand-made cases of choosing the right recording among search results, as a careful librarian would.

`data/recordings/dev.json` may be tuned on; `blind.json` may not: it has the same kinds of difficulty with
other songs. Both were written without sight of the scorer. The artists and most titles are real, the video
ids invented, the candidates shaped like yt-dlp's flat YouTube search (`YoutubeSearchIE`, `extract_flat`).

What counts as right:
- Wanted is the recording that the catalogue names. Unless its title says otherwise, that is the artist's own
  studio take, in the version (album, single, part, movement) that the catalogue's duration tells.
- Any unaltered copy of that recording is right, whoever put it up: topic channel, label, lyric video, a
  remaster, mono or stereo, a music video of the record's length. Where several are, `expected` has them all.
- Not right: other performances (live, demo, re-recorded, covers), other mixes (remix, edit, instrumental,
  stems), changed copies (slowed, sped up, boosted, looped, with dialogue), longer files that hold the song
  among others; nor a music video more than about 5 s off the record, unless nothing better is there.
- If only such things were found, nothing is right: `expected` is empty.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simsong.records import Wanted

FOLDER = Path(__file__).with_name("data") / "recordings"

# The main difficulty of a case. Each file has at least two cases of each.
KINDS: Mapping[str, str] = {
    "live": "concerts beside or instead of the studio take",
    "cover": "others sing it, often better known",
    "karaoke": "backing tracks in the style of the artist",
    "altered": "slowed, sped up, 8D, bass boosted, nightcore",
    "loop": "an hour of it, or a stream without an end",
    "album": "whole albums, compilations, medleys",
    "remix": "a remix better known than the original",
    "acoustic": "acoustic takes and demos by the artist",
    "edit": "single, album, twelve-inch: the duration tells",
    "remaster": "remasters, mono and stereo are right, re-recordings and sessions are not",
    "featuring": "guests named, missing or different",
    "same_title": "another song by the same name",
    "same_artist": "another song of the artist's",
    "soundtrack": "scenes, dialogue, cues",
    "script": "a title or an artist not in Latin letters",
    "translated": "catalogue and upload differ in language or script",
    "classical": "movements, catalogue numbers, performers",
    "punctuation": "an artist written with signs",
    "article": "'The' dropped, moved or all there is",
    "penalty_word": "the wanted name holds a word such as live, cover, karaoke",
    "wanted_version": "the wanted version is live, acoustic, a remix",
    "credit": "the artist stands elsewhere: two artists, a label, a compilation, within the title",
    "misspelt": "wrong letters, accents or hyphens in the catalogue",
    "duration": "the catalogue's duration is wrong",
    "no_duration": "the catalogue has no duration",
    "clean": "explicit against censored",
    "video": "a music video longer than its record",
    "reaction": "reactions, lessons, playthroughs",
    "part": "parts of one work under one name",
    "warts": "capitals, brackets and breaks in the catalogue",
}
KEYS = {"id", "url", "title", "channel", "uploader", "channel_is_verified", "duration", "view_count",
        "live_status", "description"}


@dataclass(frozen=True)
class Case:
    """A song to look for, what a search gave, and what a careful person would take."""

    name: str
    kind: str
    wanted: Wanted                                  # its track_id is the case's name
    candidates: tuple[Mapping[str, Any], ...]       # flat entries, best first by the search; seconds
    expected: frozenset[str]                        # ids, any of which is right; empty: no_match
    why: str

    def right(self, chosen: str | None) -> bool:
        """Whether choosing this id, or nothing, is right."""
        return chosen in self.expected if self.expected else chosen is None


def load(file: Literal["dev", "blind"]) -> tuple[Case, ...]:
    """The cases of a file, in its order."""
    return tuple(_case(row) for row in json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8")))


def _case(row: Mapping[str, Any]) -> Case:
    expected: str | list[str] | None = row["expected"]
    ids = [] if expected is None else [expected] if isinstance(expected, str) else expected
    return Case(row["name"], row["kind"], Wanted(row["name"], **row["wanted"]), tuple(row["candidates"]),
                frozenset(ids), row["why"])


def problems(cases: Sequence[Case]) -> list[str]:
    """What is wrong with the shape of a file's cases, one line each."""
    names = Counter(case.name for case in cases)
    ids = Counter(entry.get("id") for case in cases for entry in case.candidates)
    kinds = Counter(case.kind for case in cases)
    return [*(f"{name}: the name is used {n} times" for name, n in names.items() if n > 1),
            *(f"{video}: the id is used {n} times" for video, n in ids.items() if n > 1),
            *(f"{kind}: {kinds[kind]} cases, not 2" for kind in KINDS if kinds[kind] < 2),
            *(f"{kind}: not a known kind" for kind in kinds if kind not in KINDS),
            *(f"{case.name}: {line}" for case in cases for line in _case_problems(case))]


def _case_problems(case: Case) -> list[str]:
    wanted, lines = case.wanted, list[str]()
    if not (wanted.artist.strip() and wanted.title.strip() and case.why.strip()):
        lines.append("artist, title or why is empty")
    if wanted.duration_s is not None and wanted.duration_s <= 0:
        lines.append("the wanted duration is not positive")
    if not 5 <= len(case.candidates) <= 12:
        lines.append(f"{len(case.candidates)} candidates, not 5 to 12")
    if missing := case.expected - {entry.get("id") for entry in case.candidates}:
        lines.append(f"expected {sorted(missing)} not among the candidates")
    return lines + [f"{entry.get('id')}: {line}" for entry in case.candidates
                    for line in _entry_problems(entry)]


def _entry_problems(entry: Mapping[str, Any]) -> list[str]:
    if entry.keys() != KEYS:
        return [f"keys differ in {sorted(entry.keys() ^ KEYS)}"]
    streaming = entry["live_status"] == "is_live"
    checks = {
        "id is not 11 characters": len(entry["id"]) == 11,
        "url is not the id's": entry["url"] == f"https://www.youtube.com/watch?v={entry['id']}",
        "no title or channel": bool(entry["title"] and entry["channel"]),
        "uploader is not the channel": entry["uploader"] == entry["channel"],
        "channel_is_verified is neither true nor null": entry["channel_is_verified"] in (True, None),
        "live_status is unknown": entry["live_status"] in (None, "is_live", "was_live"),
        "duration is given for a stream, or missing": (entry["duration"] is None) == streaming,
        "view_count is given for a stream, or missing": (entry["view_count"] is None) == streaming,
        "duration is not positive": streaming or (entry["duration"] or 0) > 0,
        "description is empty, not null": entry["description"] != "",
    }
    return [line for line, fine in checks.items() if not fine]
