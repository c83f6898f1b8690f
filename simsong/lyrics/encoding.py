"""Text whose encoding nobody wrote down."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator

from charset_normalizer import from_bytes

from simsong.lyrics.clean import language

_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_STAMPS = re.compile(rb"\[[^\]\n]{0,40}\]|<\d\d:[^>\n]{0,12}>")
_JAPANESE, _LATIN = ("cp932", "euc_jp"), ("cp1252", "cp1250", "iso8859_2", "cp1254", "cp1257")
_OTHERS = ("cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic", "cp1253", "cp1255", "cp1256", "cp874",
           "gb18030", "big5", "cp949")
_WEST = "áàâãäåæçéèêëíìîïñóòôõöøúùûüýÿœßðþ"
_LETTERS = {                            # beyond ASCII; of other languages, those of Western Europe
    "pl": "ąćęłńóśźż", "cs": "áčďéěíňóřšťúůýž", "sk": "áäčďéíĺľňóôŕšťúýž", "hu": "áéíóöőúüű",
    "ro": "ăâîșțşţ", "hr": "čćđšž", "sl": "čćđšž", "bs": "čćđšž", "tr": "çğıöşüâîû", "az": "əçğıöşü",
    "lt": "ąčęėįšųūž", "lv": "āčēģīķļņšūž", "et": "äöõüšž", "es": "áéíñóúü", "pt": "áàâãçéêíóôõúü",
    "de": "äöüßé", "sv": "åäöéà", "fi": "äöåšž", "fr": "àâæçèéêëîïôœùûüÿ"}
_SIGNS = frozenset("«»“”„‘’‚…–—•·¿¡°´ªº€£♪♫\xa0")
_MIXED = re.compile(r"[A-Za-z][^\x00-\x7f]|[^\x00-\x7f][A-Za-z]")        # two scripts in a word
_MIXED_CASE = re.compile(r"[^\W\d_a-zA-Z][^\W\d_]*")


def decode(data: bytes) -> str:
    """By its byte order mark, else UTF-8, UTF-16 by its zeros, else the encoding in which it reads as words
    of a language.

    Raises: UnicodeError where there is none: words that are not sure are no lyrics.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):    # no mark, but zeros
        if (half := data[first:1000:2]) and half.count(0) > len(half) / 2:
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    for encoding, text in _readings(data):
        if _reads(encoding, text):
            return data.decode(encoding)
    raise UnicodeError("its encoding is not known")


def _readings(data: bytes) -> Iterator[tuple[str, str]]:
    """Encodings that it may be in, the likelier first, with the text then."""
    # Only lines that differ between encodings tell which it is: stamps and English would drown them.
    telling = b"\n".join(line for line in _STAMPS.sub(b"", data).splitlines() if not line.isascii())
    others = [guess.encoding for guess in from_bytes(telling, cp_isolation=list(_OTHERS), threshold=0.4)]
    for encoding in (*_JAPANESE, *others, *_LATIN):
        try:
            yield encoding, _STAMPS.sub(b"", data).decode(encoding)
        except UnicodeDecodeError:
            continue


def _reads(encoding: str, text: str) -> bool:
    """Whether all that is not ASCII in it are letters of one script, and such as its language has."""
    strange = [c for c in text if not c.isascii() and c not in _SIGNS]
    letters = {c for c in strange if unicodedata.category(c)[0] in "LM"}
    if encoding not in _LATIN and _MIXED.search("".join(c for c in text if c not in _SIGNS)):
        return False
    if encoding in _JAPANESE:
        kana = sum("\u3041" <= c <= "\u30fc" for c in strange)
        return kana > 0.2 * len(strange)
    scripts = {unicodedata.name(c, "?").split()[0] for c in letters}
    if encoding in ("gb18030", "big5", "cp949"):
        return len(scripts & {"CJK", "HANGUL"}) == 1 and scripts <= {"CJK", "HANGUL"}
    if any(word[1:] != word[1:].lower() and word != word.upper() for word in _MIXED_CASE.findall(text)):
        return False
    if encoding not in _LATIN:
        return len(scripts) == 1 and "LATIN" not in scripts
    alphabet = _LETTERS.get(language(text) or "", _WEST)
    return len(letters) == len(set(strange)) and {c.lower() for c in letters} <= set(alphabet)
