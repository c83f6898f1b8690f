"""Lyrics as text: what a page, tag or `.lrc` file adds is taken off, and what is no lyrics is told apart."""

from __future__ import annotations

import html
import re
import unicodedata
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Literal

from py3langid.langid import MODEL_FILE, LanguageIdentifier

MIN_WORDS = 10              # fewer say nothing about a song
MAX_CHARS = 30_000          # the longest raps have about 20,000; books, which Genius also holds, have more
MAX_COMPRESSION = 20.0      # of UTF-8 by zlib. Songs repeat themselves: 24 real ones reach 3.9, loops pass 30
MIN_LETTERS = 0.7           # of what is not white space
MIN_CONFIDENCE = 0.5        # of the language
LANGUAGES = ("ar", "bg", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr",
             "hu", "id", "it", "ja", "ko", "lt", "lv", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr",
             "sv", "th", "tr", "uk", "vi", "zh")


@dataclass(frozen=True)
class Lyrics:
    """A song's words, cleaned; an instrumental has none."""

    kind: Literal["text", "instrumental"]
    text: str | None
    url: str | None
    match_score: float | None   # 0..100; None for what came with the audio
    language: str | None        # ISO 639-1


# What Genius puts around the words when a page is scraped.
_CONTRIBUTORS = re.compile(r"\A\s*\d+ Contributors?(?:.{0,300}?\bLyrics(?=\S|\n|\Z)"
                           r"(?:[^\[\]]{1,1500}?…\s*Read More\b)?|[^\n]*(?=\n|\Z))", re.S)
_ALSO_LIKE = re.compile(r"(?:^|(?<=\S))You might also like(?=$|[\[(\"'“¿¡A-Z]|[^\x00-\x7f])", re.M)
_TICKETS = re.compile(r"See [^\n]{1,80}? LiveGet tickets as low as \$[\d.,]*\d")
_EMBED = re.compile(r"(?:\d+(?:[.,]\d+)?[KM]?|(?<=\S)|^)Embed(?:Share URLCopyEmbedCopy)?\s*\Z", re.M)

# LRC: [ar:…] metadata, [mm:ss.xx] before a line (several where it is sung again), <mm:ss.xx> before a word.
_STAMP = r"\[\d{1,3}:\d{1,2}(?:[.:]\d{1,3})?\]"
_STAMPED = re.compile(rf"^\s*((?:{_STAMP}\s*)+)(.*)$")
_WORD_STAMP = re.compile(r"<\d{1,3}:\d{1,2}(?:[.:]\d{1,3})?>")
_LRC_METADATA = re.compile(
    r"^[ \t]*\[(?:ar|al|ti|au|by|re|ve|la|tool|offset|length|lr|#)[ \t]*:[^\]\n]*\][ \t]*$", re.I | re.M)

# Section headers, in the languages that write them most.
_SECTION = (r"(?:pre-?|post-?)?(?:chorus|verse|refrain|bridge|intro|outro|hook|interlude|couplet|strophe|"
            r"pont|coro|estribillo|estrofa|verso|puente|ritornello|strofa|breakdown|instrumental|solo|skit)")
_BRACKETED_LINE = re.compile(r"^[ \t]*(?:\[[^\[\]\n]{0,200}\][ \t]*)+$", re.M)
_BRACKETED_SECTION = re.compile(rf"\[\s*{_SECTION}\b[^\[\]\n]{{0,200}}\]", re.I)
_BARE_SECTION = re.compile(rf"^[ \t]*(?:\(\s*{_SECTION}[^()\n]{{0,40}}\)\s*:?|"
                           rf"{_SECTION}[ \t]*(?:\d{{0,2}}[ \t]*:|\d{{1,2}}))[ \t]*$", re.I | re.M)
_ADDED = (_CONTRIBUTORS, _TICKETS, _ALSO_LIKE, _EMBED, _BRACKETED_LINE, _BRACKETED_SECTION, _BARE_SECTION)
_ONLY_INSTRUMENTAL = re.compile(r"(?:this (?:song|track) is )?(?:an? )?\W*(?:instrumental\w*\W*)*", re.I)

_BREAK_TAG = re.compile(r"<br\s*/?>|</(?:p|div|li|h\d)\s*>", re.I)
_TAG = re.compile(r"<!--.{0,1000}?-->|<(script|style)\b[^<>]{0,1000}>.{0,1000}?</\1\s*>"
                  r"|</?[a-z][^<>]{0,1000}>", re.I | re.S)
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_SPACES = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n{3,}")


def clean(text: str) -> str:
    """The words alone: stanzas of lines, one blank line between stanzas, NFC; empty where nothing is left.

    Takes off Genius' furniture, section headers, LRC stamps and metadata, HTML, control characters. Cleaning
    what is clean changes nothing.
    """
    for _ in range(4):                  # what is taken off can uncover more (an escaped tag); seldom twice
        cleaned = _clean_once(text)
        if cleaned == text:
            break
        text = cleaned
    return text


def _clean_once(text: str) -> str:
    text = _WORD_STAMP.sub("", _plain_characters(html.unescape(text)))
    text = _TAG.sub("", _BREAK_TAG.sub("\n", text))
    text = _without_stamps(_LRC_METADATA.sub("", text))
    for added in _ADDED:
        text = added.sub("", text)
    if text.count(" • ") > text.count("\n"):        # how some taggers write a new line
        text = text.replace(" • ", "\n")
    lines = (_SPACES.sub(" ", line).strip() for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()


def _plain_characters(text: str) -> str:
    """NFC with "\n" as the one line end; no control, unassigned or invisible characters."""
    text = unicodedata.normalize("NFC", _LINE_END.sub("\n", text))
    if text.isascii() and text.isprintable():
        return text
    keep = "\n\t\u200c\u200d"                       # the joiners are spelling in Persian and in Indic scripts
    return "".join(c for c in text if c in keep or not unicodedata.category(c).startswith("C"))


def _without_stamps(text: str) -> str:
    """LRC lines in the order in which they are sung, without their stamps; other text as it is."""
    sung: list[tuple[float, str]] = []
    at_s = 0.0                          # a line without a stamp stays with the one before
    for line in text.split("\n"):
        if match := _STAMPED.match(line):
            stamps = [_seconds(stamp) for stamp in re.findall(_STAMP, match[1])]
            sung += [(stamp, match[2]) for stamp in stamps]
            at_s = stamps[-1]
        else:
            sung.append((at_s, line))
    return "\n".join(line for _, line in sorted(sung, key=lambda item: item[0]))


def _seconds(stamp: str) -> float:
    minutes, seconds, *fraction = re.findall(r"\d+", stamp)
    return 60 * int(minutes) + int(seconds) + (float(f"0.{fraction[0]}") if fraction else 0)


def is_instrumental(text: str) -> bool:
    """Whether all that a page, tag or file says is that there are no words, e.g. "[Intro] [Instrumental]"."""
    return "instrumental" in text.lower() and _ONLY_INSTRUMENTAL.fullmatch(clean(text)) is not None


# A word, or a character of the scripts that write none apart.
_WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+")
_NUMBERED = re.compile(r"^\s*(?:#\s*)?\d{1,3}\s*[.):\-–]\s*\S")
_TIMED = re.compile(r"\S.*[(\[\s–-]\d{1,2}:\d{2}[)\]]?$")
_NOTICE = re.compile(r"lyrics (?:for this song )?(?:have yet to be|will be (?:available|added)|"
                     r"(?:are )?not available|coming soon|to be transcribed)|we do not have the lyrics|"
                     r"error 4\d\d|access denied|too many requests|enable (?:javascript|cookies)|"
                     r"all rights reserved", re.I)


def junk_reason(text: str, title: str = "", artist: str = "") -> str | None:
    """Why a cleaned text is no song's words, in a few words; None where it may be.

    With title and artist, the script is judged too: a Cyrillic song whose page has no Cyrillic letter holds a
    translation or another song. A Latin title says nothing, since songs are often listed in translation.
    """
    words, lines = _WORD.findall(text), [line for line in text.split("\n") if line.strip()]
    if _NOTICE.search(text) and len(words) < 80:
        return "a notice, not lyrics"
    if len(words) < MIN_WORDS:
        return f"too short ({len(words)} words)"
    if len(text) > MAX_CHARS:
        return f"too long for a song ({len(text)} characters)"
    visible = [c for c in text if not c.isspace()]
    if (letters := sum(unicodedata.category(c)[0] in "LM" for c in visible) / len(visible)) < MIN_LETTERS:
        return f"too few letters ({letters:.0%})"
    raw = text.encode("utf-8", "replace")
    if (ratio := len(raw) / len(zlib.compress(raw, 9))) > MAX_COMPRESSION:
        return f"repeats itself (compresses {ratio:.0f} times)"
    if _share(_NUMBERED, lines) >= 0.6 or _share(_TIMED, lines) >= 0.6:
        return "a track list"
    if len(re.findall(r"https?://|www\.", text)) >= max(2, len(lines) / 10):
        return "a page of links"
    wanted, scripts = _main_script(f"{title} {artist}"), _scripts(text)
    if wanted not in (None, "LATIN") and not scripts[wanted]:
        return f"wrong script ({scripts.most_common(1)[0][0].lower()} words for a title in {wanted.lower()})"
    return None


def _share(pattern: re.Pattern[str], lines: list[str]) -> float:
    """The share of lines that match, 0 where there are too few to tell."""
    return sum(pattern.search(line) is not None for line in lines) / len(lines) if len(lines) >= 4 else 0.0


def _scripts(text: str) -> Counter[str]:
    """Letters by script: the first word of their Unicode names, the scripts that Japanese mixes being one."""
    japanese = ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA")
    names = (unicodedata.name(c, "?").split()[0] for c in unicodedata.normalize("NFKC", text) if c.isalpha())
    return Counter("CJK" if name in japanese else name for name in names)


def _main_script(text: str) -> str | None:
    scripts = _scripts(text)
    return scripts.most_common(1)[0][0] if scripts else None


@cache
def _identifier() -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier


def language(text: str) -> str | None:
    """The language's ISO 639-1 code, of LANGUAGES; None where the text is too short or too mixed to tell."""
    if len(_WORD.findall(text)) < MIN_WORDS:
        return None
    code, confidence = _identifier().classify(" ".join(text.lower().split()))
    return code if confidence >= MIN_CONFIDENCE else None
