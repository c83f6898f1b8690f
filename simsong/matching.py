"""Whether two names mean the same: titles and artists as catalogues and sites write them, in any script."""

from __future__ import annotations

import re
import unicodedata

from rapidfuzz import fuzz

# Letters that no decomposition turns into the one that people type instead.
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "œ": "oe", "ı": "i", "þ": "th"})
QUOTES = re.compile(r"['’‘`´ʼ]")
_STYLISED = ((re.compile(r"(?<=\w)!(?=\w)"), "i"), (re.compile(r"(?<!\d)\$(?!\d)"), "s"))   # P!nk, Ke$ha
_ASCII_PUNCTUATION = re.compile(r"[^a-z0-9]+")
_NO_SPACES = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")   # Thai, Lao, kana, Han
_INITIALS = re.compile(r"(?<!\w)\w(?: \w)+(?!\w)")      # "n w a"
_ROMANISED = frozenset({"CYRILLIC", "GREEK"})
_EAST = re.compile(r"[\u0370-\u03ff\u1f00-\u1fff\u0400-\u04ff]")    # Greek, Cyrillic
_LETTERS_EAST = "абвгдеёжзийклмнопрстуфхцчшщъыьэюяіїєґў" "αβγδεζηθικλμνξοπρστυφχψως"
_LETTERS_LATIN = ("a b v g d e e zh z i y k l m n o p r s t u f kh ts ch sh shch  y  e yu ya i yi ye g u "
                  "a v g d e z i th i k l m n x o p r s t y f ch ps o s")
_LATIN = str.maketrans(dict(zip(_LETTERS_EAST, _LETTERS_LATIN.split(" "), strict=True)))
_OPEN, _CLOSE = "(\\[{（［【「『〈《", ")\\]}）］】」』〉》"
BRACKETS = re.compile(rf"[{_OPEN}]([^{_OPEN}{_CLOSE}]*)[{_CLOSE}]")
_FEAT = r"(?:feat\.?|ft\.?|featuring)\s"
_FEAT_BRACKET = re.compile(rf"[{_OPEN}]\s*(?:{_FEAT}|with\s)[^{_CLOSE}]*[{_CLOSE}]", re.IGNORECASE)
_FEAT_TAIL = re.compile(rf"\s{_FEAT}.*?(?=\s[-–—|]\s|[{_OPEN}]|$)", re.IGNORECASE)
# What stands in brackets, or after a dash, without naming another recording.
_EDITION = re.compile(
    r"(?:(?:digital(?:ly)?|\d{4})\s+)*re-?master(?:ed)?(?:\s+(?:version|\d{2,4}))*|"
    r"(?:album|lp|single|explicit|clean|original|mono|stereo|main|full[- ]length)(?:\s+(?:album|lp|single))?"
    r"\s+(?:version|mix)|explicit|clean|mono|stereo|bonus track|(?:us|uk) version", re.IGNORECASE)


def normalise(text: str) -> str:
    """Lower-case words with single spaces between: no punctuation, no accents on Latin letters, "&" as "and".

    A name that is all punctuation ("!!!") keeps it, so that what was not empty never becomes empty.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = _without_latin_accents(folded).translate(_LETTERS)
    words = QUOTES.sub("", words.replace("&", " and "))
    for pattern, letter in _STYLISED:
        words = pattern.sub(letter, words)
    spaced = _ASCII_PUNCTUATION.sub(" ", words) if words.isascii() else "".join(
        c if _is_word(c) else " " for c in words)
    return " ".join(spaced.split()) or " ".join(folded.split())


def core(name: str) -> str:
    """A title or an artist without guests ("feat. …") and edition ("(Album Version)", "- Remastered 2009").
    Other brackets stay. The name itself where nothing else is in it."""
    text = _FEAT_TAIL.sub(" ", _FEAT_BRACKET.sub(" ", unicodedata.normalize("NFKC", name)))
    text = BRACKETS.sub(lambda match: " " if _EDITION.fullmatch(match[1].strip()) else match[0], text)
    head, dash, tail = text.rpartition(" - ")
    if dash and _EDITION.fullmatch(tail.strip()):
        text = head
    return " ".join(text.split()).strip(" -–—") or " ".join(name.split())


def same_key(name: str) -> str:
    """What two names must share to be the same: lower-case words without guests, edition and "the"."""
    words = normalise(core(name)).split()
    return " ".join([word for word in words if word != "the"] or words)


def similarity(a: str, b: str) -> float:
    """How alike two titles, or two artists, are: 0..100, the same both ways. 100 where only case, accents,
    punctuation, guests, editions, word order or "the" differ; far lower where one is a part of the other."""
    x, y = _in_one_script(same_key(a), same_key(b))
    if not x or not y:
        return 0.0
    joined = fuzz.ratio(x.replace(" ", ""), y.replace(" ", ""))
    return max(fuzz.ratio(x, y), fuzz.token_sort_ratio(x, y), joined)


def presence(name: str, text: str) -> float:
    """How much of a name stands in a longer text: 0..100, by the length of the words found (one typo in a
    word of five letters is forgiven); by characters in scripts that put no spaces."""
    needle, hay = _in_one_script(same_key(name), normalise(text))
    if not needle or not hay:
        return 0.0
    joined = needle.replace(" ", "")
    if _NO_SPACES.search(needle):
        return 100.0 if joined in hay.replace(" ", "") else fuzz.partial_ratio(joined, hay.replace(" ", ""))
    words = [*hay.split(), *(run[0].replace(" ", "") for run in _INITIALS.finditer(hay))]
    if joined in words or (" " in needle and f" {needle} " in f" {hay} "):
        return 100.0
    length = sum(len(word) for word in needle.split() if any(_same_word(word, other) for other in words))
    return 100.0 * length / len(joined)


def query(artist: str, title: str) -> str:
    """What one types into a search field: "artist - title", without guests and editions."""
    return " - ".join(part for part in (core(artist), core(title)) if part)


def scripts(text: str) -> set[str]:
    """The scripts of a text's letters that names can be compared in: "LATIN" (Cyrillic and Greek count as it,
    since they can be romanised), "CJK", "HANGUL", …"""
    names = {unicodedata.name(c, "?").split()[0] for c in text if c.isalpha()}
    return {"LATIN" if script in _ROMANISED else script for script in names}


def romanised(text: str) -> str:
    """Lower-case Cyrillic and Greek letters as people write them in Latin ones, roughly; a text without any
    as it is."""
    if not _EAST.search(text):
        return text
    bare = unicodedata.normalize("NFD", text.translate(_LATIN))
    return "".join(c for c in bare if unicodedata.category(c) != "Mn").translate(_LATIN)


def _in_one_script(a: str, b: str) -> tuple[str, str]:
    """Two normalised texts; in Latin letters both, where only one has Cyrillic or Greek ones."""
    if (a.isascii() and b.isascii()) or bool(_EAST.search(a)) == bool(_EAST.search(b)):
        return a, b
    return romanised(a), romanised(b)


def _same_word(a: str, b: str) -> bool:
    return a == b or (min(len(a), len(b)) >= 5 and not a.isdigit() and fuzz.ratio(a, b) >= 80)


def _is_word(c: str) -> bool:
    # Marks belong to the word in scripts that write vowels with them (Hindi, Thai), which \w does not know.
    return c.isalnum() or unicodedata.category(c).startswith("M")


def _without_latin_accents(text: str) -> str:
    """Drop the marks over Latin letters alone: in other scripts they tell letters apart (が, か)."""
    if text.isascii():
        return text
    characters: list[str] = []
    latin = False
    for c in unicodedata.normalize("NFD", text):
        if unicodedata.category(c) != "Mn":
            latin = unicodedata.name(c, "").startswith("LATIN")
        elif latin:
            continue
        characters.append(c)
    return unicodedata.normalize("NFC", "".join(characters))
