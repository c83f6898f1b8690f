"""Signs, in an upload's title, that it is another version of a song: live, karaoke, sped up, …

The words are those that uploaders use, in a dozen languages; they are looked for in normalised text.
"""

from __future__ import annotations

import re

from simsong.matching import BRACKETS, core, normalise, similarity


def _signs(words: str, anywhere: str = "") -> re.Pattern[str]:
    """Whole words; and signs in scripts without spaces, which may stand anywhere."""
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)" + f"|{anywhere}" * bool(anywhere))


# A mix, an edit or a version of these names is the record's own.
_OWN_NAMES = """radio single album original stereo mono main lp video short long length full complete extended
    maxi inch 12 7 studio official hd hq new remaster remastered clean censored explicit dirty uncut us uk
    lyric audio"""
_SAID_ALREADY = "live karaoke acoustic instrumental cover demo piano remix slowed"     # "Karaoke Version"
_OWN = "".join(f"(?<!{name} )" for name in f"{_OWN_NAMES} {_SAID_ALREADY}".split())
VERSIONS: dict[str, re.Pattern[str]] = {
    "live": _signs(
        r"live|en vivo|ao vivo|en directo|dal vivo|en public|en concert|concerts?|unplugged|sessions?|"
        r"performances?|audition|festival|tour|multicam|fancam|soundcheck|setlist|"
        r"концерт\w*|вживую|лайв", "ライブ|ライヴ|라이브|콘서트|직캠|现场|現場|演唱会|演唱會"),
    "cover": _signs(
        r"covers?|covered|coverversion|tribute|in the style of|made (?:famous|popular)|originally performed|"
        r"remake|sung by|play ?along|play ?through|кавер|διασκευή",
        "歌ってみた|弾いてみた|叩いてみた|カバー|カヴァー|翻唱|커버"),
    "karaoke": _signs(r"karaoke|backing tracks?|sing ?along|minus one|караоке|минус\w*|καραόκε",
                      "カラオケ|노래방|伴奏"),
    "instrumental": _signs(r"instrumentals?|a ?cap+ell?as?|no (?:vocals?|guitar|drums|bass)|vocals? only|"
                           r"isolated|drumless|stems?", "インスト|纯音乐|純音樂"),
    "remix": _signs(r"remix(?:ed|es)?|rmx|mash ?ups?|bootleg|rework|refix|dub|vip|" + _OWN + r"mix|"
                    r"[^\W\d]{2,} " + _OWN + r"edit|ремикс", "リミックス|리믹스"),
    "other speed": _signs(r"sped|speed ?up|slowed|slow version|reverb|night ?core|daycore|chipmunks?|pitched|"
                    r"chopped and screwed"),
    "effects": _signs(r"(?:8|9|16|32|64|100)d|bass boost(?:ed)?|(?:432|528) ?hz|reversed?|backwards?|lo ?fi|"
                     r"8 ?bit|midi|chiptune|muffled|underwater|ai|but (?:its?|the|you(?:re)?|im|every)"),
    "loop": _signs(r"\d+ ?(?:h|hrs?|hours?)|(?:one|ten) hours?|loop(?:ed)?|non ?stop", "時間|시간"),
    "collection": _signs(r"full (?:album|lp|ep|cd|concert)|compilation|playlist|medley|mega ?mix|mixtape|"
                         r"greatest hits|best of|completo|dj (?:mix|set)|discography|весь альбом|"
                         r"ολόκληρος δίσκος", "노래모음"),
    "arrangement": _signs(r"acoustic|acustic[oa]|acoustique|piano|klavier|orchestral?|symphonic|strings?|"
                          r"violin|guitar|cello|harmonica|ukulele|music box|lullaby|stripped|campfire",
                          "ピアノ|弾き語り|피아노|钢琴|鋼琴"),
    "re-recording": _signs(r"re ?record(?:ed|ing)|reprise|[^\W\d]{2,} " + _OWN + "version"),
    "demo": _signs(r"demo|voice memo|outtakes?|alternat(?:e|ive) (?:take|mix)|early take|rough mix|"
                   r"rehearsal"),
    "about it": _signs(
        r"teaser|trailer|preview|snippet|reacts?|reacting|reactions?|first time hearing|reviews?|explained|"
        r"tutorial|lesson|how to|chords|tabs?|sheet music|making of|behind the scenes|interview|documentary|"
        r"parody|misheard|amv|choreography|scenes?|dialogue|playing|разбор|аккорды", "楽譜|악보"),
}
# Where songs are heard live; they also tell which time it was.
STAGES = _signs(r"kexp|npr|bbc|tiny desk|proms|top of the pops|letterman|jools|glastonbury|wembley|coachella|"
                r"lollapalooza|awards|grammys")
# Of another length by intent: where the length is the one that is wanted, they are wanted too.
LENGTHS = _signs(r"extended|edit|(?:7|12) ?(?:inch|mix|version)|maxi|(?:long|short|full length) version|"
                 r"radio (?:mix|version)")
CENSORED = _signs(r"clean|censored|edited|bleeped")
OF_CHANNELS = ("cover", "karaoke", "instrumental", "other speed", "effects")

# Words that say nothing about which recording it is.
_FILLER = """official officiel oficial video videoclip music musik audio lyric lyrics letra paroles hd hq 4k
    8k uhd mv clip visualizer visualiser song by remaster remastered version album single original soundtrack
    ost track full new explicit dirty uncut stereo mono prod feat ft with and the a an in on at of from de la
    le el y i upgrade upgraded high quality records release theme"""
FILLER = frozenset(_FILLER.split())
_DATE = re.compile(r"(?<!\d)(?:\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d{2})|"
                   r"(?:19|20)\d\d([./-])\d{1,2}\2\d{1,2})(?!\d)")


def versions_in(text: str) -> set[str]:
    """Names of the versions that a normalised text speaks of."""
    return {name for name, signs in VERSIONS.items() if signs.search(text)
            or (name == "live" and STAGES.search(text))}


def dated(title: str) -> bool:
    """Whether a day stands in a title ("9.3.16"), as over recordings of concerts."""
    return _DATE.search(title) is not None


def other_words(text: str) -> list[str]:
    """The words of a normalised text that neither name a version nor say nothing."""
    for signs in (*VERSIONS.values(), LENGTHS, CENSORED):
        text = signs.sub(" ", text)
    return [word for word in text.split() if word not in FILLER]


class WantedTitle:
    """A wanted title taken apart: its `plain` name, without a repeated artist and without the brackets, or
    the part after a dash, that name versions; those versions; and the `details` of them (a place, a remixer).
    What stands in the title's own words ("Live Forever") is no version."""

    def __init__(self, title: str, artist: str) -> None:
        head, dash, tail = title.partition(" - ")
        self.whole = tail if dash and tail.strip() and similarity(head, artist) >= 90 else title
        self.versions: set[str] = set()
        self.details: list[str] = []
        self.length = False
        self.censored = any(CENSORED.search(normalise(text)) for text in BRACKETS.findall(self.whole))
        self.dated = dated(title)
        plain = BRACKETS.sub(lambda match: " " if self._names_version(match[1]) else match[0],
                             core(self.whole))
        head, dash, tail = plain.rpartition(" - ")
        if dash and self._names_version(tail):
            plain = head
        if normalise(plain).strip():
            self.plain = plain.strip()
        else:
            self.plain, self.versions, self.details, self.length = self.whole, set(), [], False

    def _names_version(self, text: str) -> bool:
        words = normalise(text)
        named, length = versions_in(words), LENGTHS.search(words) is not None
        if named or length:
            self.versions |= named
            self.length |= length
            self.details += other_words(words)
        return bool(named or length)
