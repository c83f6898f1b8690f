"""The eight styles, as data.

They differ in tempo, metre, swing, drums, harmony, articulation and density, and share instruments with each
other, as real genres do: what is played tells the style more surely than which sound plays it.

Patterns are strings, a character a sixteenth: `x` loud, `o` soft, `.` nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
}
CHORDS: dict[str, tuple[int, ...]] = {       # steps of the scale above the root
    "triad": (0, 2, 4), "seventh": (0, 2, 4, 6), "ninth": (0, 2, 6, 8), "power": (0, 4, 7), "open": (0, 4, 8),
    "sixth": (0, 2, 4, 5),
}


@dataclass(frozen=True)
class Style:
    name: str
    tempo: tuple[float, float]               # beats a minute
    steps: int                               # sixteenths a bar
    swing: tuple[float, float]               # delay of the off-beats, in sixteenths
    swing_step: int                          # 2: eighths swing, 1: sixteenths
    loose_s: float                           # standard deviation of the players' timing
    scales: tuple[str, ...]                  # from sad to glad
    chord: str
    progressions: tuple[tuple[int, ...], ...]
    comping: tuple[str, ...]                 # rhythms of the chords; "arp": one chord tone after the other
    comping_steps: float                     # length of a chord
    bass: str                                # a way of playing, see `compose.BASS`
    drums: tuple[dict[str, str], ...]        # main patterns
    light: dict[str, str]                    # of the bridge
    fill: str                                # the hit that leads into the next section; "" for none
    leads: tuple[str, ...]
    chords: tuple[str, ...]
    basses: tuple[str, ...]
    onsets: tuple[float, float]              # melody notes a bar
    syncopation: float                       # 0: on the beat, 1: anywhere
    leap: float                              # mean interval of the melody, in steps of the scale
    articulation: tuple[float, float]        # share of a note's time that sounds
    register: int                            # of the melody, MIDI
    mix: tuple[float, float, float, float]   # drums, bass, chords, lead
    pumping: float                           # how far the chords give way to the kick
    related: tuple[str, ...]
    terms: tuple[str, ...]


STYLES: dict[str, Style] = {style.name: style for style in (
    Style("folk", (96, 124), 12, (0.0, 0.1), 2, 0.010, ("dorian", "mixolydian", "major"), "triad",
          ((0, 3, 0, 4), (0, 4, 5, 3), (0, 5, 3, 4), (0, 2, 3, 0)), ("arp", "x...o.o...o.", "x...x.o...x."),
          3.0, "root_fifth",
          ({"brush": "o...x...x...", "kick": "o..........."},
           {"shaker": "x.o.x.o.x.o.", "kick": "x..........."},
           {"rim": "........o...", "shaker": "o...x...x..."}), {"shaker": "o...o...o..."}, "",
          ("voice", "flute", "guitar"), ("guitar", "piano", "strings"), ("bass_upright", "bass_guitar"),
          (3, 6), 0.15, 1.4, (0.75, 1.0), 67, (0.30, 0.5, 0.55, 0.75), 0.0, ("jazz", "ambient"),
          ("folk", "acoustic", "singer-songwriter", "americana")),
    Style("house", (118, 128), 16, (0.0, 0.15), 1, 0.002, ("minor", "dorian", "mixolydian"), "seventh",
          ((0, 5, 3, 4), (0, 3, 0, 6), (0, 6, 5, 6), (0, 2, 5, 3)),
          ("..x...x...x...x.", "..x..x....x..x..", "x..x..x..x..x.x."), 1.2,
          "octaves",
          ({"kick": "x...x...x...x...", "open": "..x...x...x...x.", "clap": "....x.......x..."},
           {"kick": "x...x...x...x...", "open": "..x...x...x...x.", "clap": "....x.......x...",
            "shaker": "ooxoooxoooxoooxo"},
           {"kick": "x...x...x...x..o", "hat": "x.x.x.x.x.x.x.x.", "open": "..x...x...x...x.",
            "rim": "...o..o....o..o."}),
          {"hat": "..x...x...x...x.", "clap": "....x.......x..."}, "clap",
          ("keys", "saw", "voice", "square"), ("keys", "organ", "saw", "piano"), ("bass_synth", "bass_sub"),
          (3, 7), 0.6, 1.6, (0.3, 0.6), 70, (0.8, 0.7, 0.5, 0.5), 0.65, ("trap", "ambient"),
          ("house", "electronic", "dance", "club")),
    Style("punk", (164, 192), 16, (0.0, 0.0), 1, 0.005, ("minor", "mixolydian", "major"), "power",
          ((0, 3, 4, 3), (0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 0, 4)),
          ("x.x.x.x.x.x.x.x.", "x.x.xxx.x.x.xxx.", "x...x.x.x...x.x."), 1.7,
          "eighths",
          ({"kick": "x.....x.x.....x.", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
           {"kick": "x...x...x...x...", "snare": "..x...x...x...x.", "hat": "x.x.x.x.x.x.x.x."},
           {"kick": "x...x.x.x...x.x.", "snare": "....x.......x...", "ride": "x...x...x...x..."}),
          {"tom": "x.x.x.x.x.x.x.x.", "kick": "x.......x......."}, "snare",
          ("voice", "drive", "square"), ("drive", "saw", "organ"), ("bass_guitar", "bass_synth"),
          (4, 8), 0.2, 1.3, (0.6, 0.95), 65, (0.85, 0.6, 0.7, 0.6), 0.0, ("reggae", "folk"),
          ("punk", "rock", "garage rock", "indie")),
    Style("jazz", (112, 156), 16, (0.55, 0.75), 2, 0.012, ("dorian", "mixolydian", "major"), "ninth",
          ((1, 4, 0, 5), (0, 5, 1, 4), (1, 4, 0, 0), (2, 5, 1, 4)),
          ("x.....o.........", "..x.......x.....", "x.....x.....o..."), 1.6,
          "walking",
          ({"ride": "x...x.ox...x.o..", "hat": "....x.......x..."},
           {"ride": "x...x.o.x...x.o.", "hat": "....x.......x...", "snare": "......o........o"},
           {"brush": "x...x.o.x...x.o.", "hat": "....x.......x...", "kick": "o.........o....."}),
          {"brush": "x...x...x...x...", "hat": "....x.......x..."}, "snare",
          ("brass", "flute", "keys", "guitar"), ("piano", "keys", "guitar"), ("bass_upright", "bass_guitar"),
          (5, 10), 0.7, 2.2, (0.5, 0.9), 68, (0.45, 0.65, 0.45, 0.7), 0.0, ("folk", "samba"),
          ("jazz", "swing", "instrumental", "bebop")),
    Style("ambient", (58, 76), 16, (0.0, 0.0), 1, 0.020, ("minor", "dorian", "lydian"), "open",
          ((0, 0, 3, 3), (0, 4, 3, 3), (0, 5, 0, 3), (0, 1, 0, 4)), ("x...............",), 17.0, "drone",
          ({"surdo": "o..............."}, {"shaker": "....o.......o...", "surdo": "o.........o....."},
           {"rim": "..........o....."}),
          {}, "",
          ("bell", "flute", "strings", "keys"), ("strings", "organ", "saw", "voice"),
          ("bass_sub", "bass_synth"),
          (1, 3), 0.4, 2.4, (0.9, 1.3), 72, (0.22, 0.5, 0.7, 0.5), 0.0, ("folk", "house"),
          ("ambient", "chillout", "downtempo", "electronic")),
    Style("reggae", (68, 84), 16, (0.1, 0.3), 1, 0.008, ("minor", "mixolydian", "major"), "triad",
          ((0, 3, 0, 3), (0, 4, 3, 3), (0, 5, 3, 4), (0, 1, 0, 1)),
          ("..x...x...x...x.", "..x...xo..x...xo", "..x...x...x..ox."), 0.8,
          "melodic",
          ({"kick": "........x.......", "rim": "........x.......", "hat": "x.o.x.o.x.o.x.o."},
           {"kick": "x...x...x...x...", "rim": "........x.......", "hat": "o.x.o.x.o.x.o.x."},
           {"kick": "x.......x.......", "snare": "........x.......", "hat": "x.oox.oox.oox.oo"}),
          {"rim": "........x.......", "shaker": "x.o.x.o.x.o.x.o."}, "tom",
          ("voice", "organ", "brass"), ("organ", "guitar", "piano", "keys"),
          ("bass_guitar", "bass_sub", "bass_synth"),
          (3, 6), 0.45, 1.5, (0.6, 0.95), 65, (0.6, 0.9, 0.5, 0.6), 0.0, ("samba", "trap", "punk"),
          ("reggae", "dub", "roots reggae", "ska")),
    Style("trap", (130, 154), 16, (0.0, 0.0), 1, 0.001, ("harmonic minor", "minor", "dorian"), "triad",
          ((0, 0, 5, 4), (0, 5, 3, 4), (0, 0, 3, 3), (0, 3, 0, 4)),
          ("x...............", "x.......x.......", "arp"), 7.5, "long",
          ({"boom": "x.........x.....", "clap": "........x.......", "hat": "x.x.x.x.x.x.xxxx"},
           {"boom": "x..x......x..x..", "snare": "........x.......", "hat": "xxx.x.x.xxx.xxx."},
           {"boom": "x.....x.........", "clap": "........x.......", "hat": "x.xxx.x.x.xxxxx.",
            "rim": "...o......o....."}),
          {"hat": "x...x...x...x...", "clap": "........x......."}, "hat",
          ("bell", "square", "voice", "flute"), ("strings", "keys", "piano", "saw"),
          ("bass_sub", "bass_synth"),
          (3, 8), 0.5, 1.2, (0.25, 0.55), 70, (0.75, 0.9, 0.4, 0.55), 0.15, ("house", "reggae"),
          ("hip-hop", "trap", "rap", "beats")),
    Style("samba", (96, 118), 16, (0.05, 0.22), 1, 0.007, ("dorian", "mixolydian", "major"), "sixth",
          ((0, 5, 1, 4), (0, 3, 1, 4), (1, 4, 0, 5), (0, 1, 4, 0)),
          ("x..x..x...x.x...", "..x..x..x..x..x.", "x..x.x..x..x.x.."), 1.4,
          "tumbao",
          ({"surdo": "o.......x.......", "shaker": "xooxxooxxooxxoox", "rim": "x..x..x...x.x..."},
           {"surdo": "....x.......x...", "conga": "..x...xx..x...xx", "tumba": "......o.......o.",
            "shaker": "xoxoxoxoxoxoxoxo"},
           {"kick": "x..xx..xx..xx..x", "shaker": "xoxoxoxoxoxoxoxo", "rim": "..x..x..x..x.x.."}),
          {"shaker": "xoxoxoxoxoxoxoxo", "conga": "..x...xx..x...xx"}, "conga",
          ("voice", "flute", "brass", "guitar"), ("guitar", "piano", "keys"), ("bass_upright", "bass_guitar"),
          (5, 9), 0.85, 1.5, (0.45, 0.8), 67, (0.6, 0.6, 0.55, 0.65), 0.0, ("jazz", "reggae"),
          ("samba", "bossa nova", "latin", "brazilian")),
)}
STYLE_NAMES = tuple(STYLES)
