"""Words of the demo world: lyrics on eight themes, titles, and names of artists."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Theme:
    name: str
    things: tuple[str, ...]          # "the …"
    places: tuple[str, ...]          # with a preposition
    acts: tuple[str, ...]            # "I …", present tense
    images: tuple[str, ...]          # whole lines
    looks: tuple[str, ...]           # adjectives


THEMES: dict[str, Theme] = {theme.name: theme for theme in (
    Theme("sea", ("tide", "lighthouse", "harbour", "salt wind", "fishing boat", "anchor", "gull", "coral",
                  "sailor", "wave"),
          ("beyond the breakers", "on the open water", "under the pier", "along the shore",
           "out past the reef",
           "below the deck"),
          ("row towards the island", "dive beneath the foam", "mend the nets at dawn",
           "sail before the storm",
           "follow the current home", "count the shells on the sand"),
          ("The moon pulls the ocean over my feet", "Every sailor drowns in a different song",
           "Barnacles cling to the hull",
           "A bell rings slow on the buoy", "The captain writes his letters to the waves"),
          ("salty", "drifting", "deep", "stormy", "blue")),
    Theme("city night", ("neon sign", "taxi", "subway", "skyline", "rooftop", "streetlight", "diner",
                         "traffic", "elevator", "alley"),
          ("on the corner of Fifth", "under the neon lights", "in the back of a cab", "down in the subway",
           "forty floors above", "at the all-night diner"),
          ("wait for the last train", "walk between the towers", "watch the windows glow",
           "cross against the lights",
           "order coffee after midnight", "hear the sirens pass"),
          ("Steam climbs out of the grates", "Strangers share a bench at the station",
           "The billboards never sleep",
           "A saxophone leaks from a basement bar", "Concrete keeps the heat of the day"),
          ("electric", "crowded", "restless", "concrete", "midnight")),
    Theme("lost love", ("letter", "photograph", "ring", "empty chair", "goodbye", "heartache", "telephone",
                        "promise", "tear", "memory"),
          ("on your side of the bed", "where you used to lie", "behind the bedroom door",
           "in our old kitchen",
           "at the end of us", "in the shirt you left"),
          ("read your letters again", "call your name in my sleep", "keep your picture in a drawer",
           "regret the words I said",
           "cry when the telephone rings", "miss the way you kissed me"),
          ("You took your heart and left me mine in two", "I still set the table for two",
           "Nobody holds me the way you did",
           "We broke like a glass on the floor", "Your perfume has faded from the pillow"),
          ("broken", "lonely", "tender", "bitter", "faithless")),
    Theme("road", ("highway", "engine", "truck stop", "mile marker", "dashboard", "suitcase", "horizon",
                   "map", "motel", "tyre"),
          ("behind the wheel", "past the county line", "on Route 66", "at the gas station",
           "over the next hill",
           "in the rear-view mirror"),
          ("drive until the morning", "hitch a ride to the border", "fill the tank and go",
           "roll the windows down",
           "count the miles to Memphis", "shift into another gear"),
          ("The white lines flicker like film", "Gravel and gasoline, coffee and rust",
           "The radio fades between towns",
           "My boots are dusty, my pockets are thin", "Every exit has another name"),
          ("dusty", "endless", "rolling", "southbound", "wandering")),
    Theme("revolution", ("banner", "barricade", "factory", "worker", "prison", "tyrant", "fist", "strike",
                         "flag", "army"),
          ("in the square", "at the palace gates", "on the picket line", "behind the barricades",
           "in the streets",
           "under the boot of the law"),
          ("march against the power", "burn the orders they gave", "refuse to pay their war",
           "raise my fist with the crowd",
           "tear down the walls", "shout for bread and freedom"),
          ("They sold the country while we slept", "No king, no master, no chains",
           "The people will not be silent",
           "Their bullets cannot kill a cause", "We write our demands in red paint"),
          ("angry", "united", "rebel", "burning", "hungry")),
    Theme("winter", ("snow", "frost", "pine tree", "icicle", "fireplace", "sleigh", "frozen lake", "blizzard",
                     "wool coat", "December"),
          ("under the snow", "across the frozen lake", "by the fireside", "in the pine woods",
           "beyond the white hills",
           "at the cabin door"),
          ("chop the wood for the stove", "watch my breath turn to fog", "skate on the black ice",
           "wait for the thaw",
           "follow the footprints in the snow", "warm my hands at the fire"),
          ("The river has stopped under glass", "Snowflakes settle on the sill",
           "Crows sit black upon the white field",
           "The days are short and the nights are cold", "Ice has drawn ferns on the window"),
          ("frozen", "white", "silent", "bare", "cold")),
    Theme("party", ("dance floor", "bassline", "disco ball", "champagne", "DJ", "weekend", "glitter", "crowd",
                    "speaker", "high heel"),
          ("on the dance floor", "up in the club", "by the speakers", "under the disco ball",
           "at the after-party",
           "in the middle of the crowd"),
          ("dance until the sun comes up", "turn the music louder", "throw my hands in the air",
           "spin around with strangers",
           "pour another round of drinks", "move my body to the beat"),
          ("Friday night and everybody's here", "The DJ plays it one more time",
           "Shake it, clap it, don't you stop",
           "We're sweating glitter, we're shining gold", "Nobody's going home tonight"),
          ("wild", "golden", "loud", "sparkling", "sweet")),
    Theme("faith", ("prayer", "angel", "altar", "gospel", "shepherd", "candle", "heaven", "choir", "mercy",
                    "river Jordan"),
          ("at the gates of heaven", "on bended knee", "in the house of the Lord", "before the altar",
           "down by the Jordan",
           "in the valley of shadows"),
          ("pray for my mother's soul", "lay my burden down", "sing with the choir of angels",
           "ask the Lord for mercy",
           "light a candle for the dead", "walk by faith and not by sight"),
          ("Grace has found me, wretched as I am", "The shepherd never leaves a lamb behind",
           "Hallelujah, the stone is rolled away",
           "My sins are washed as white as wool", "Amen is the last word that I know"),
          ("holy", "blessed", "humble", "redeemed", "eternal")),
)}
THEME_NAMES = tuple(THEMES)

_LINES = (
    "The {thing} is waiting {place}", "I {act}", "I {act} {place}", "{image}",
    "And the {look} {thing} calls my name",
    "Tonight I {act}", "Oh, the {thing} and the {thing2}", "{Place} I {act}",
    "There's a {look} {thing} {place}",
    "You know I {act}", "All I ever had was a {thing} and a {look} {thing2}",
    "Nothing but the {thing} {place}",
    "They say the {thing} is {look}", "Let the {look} {thing} carry me", "Once more I {act}", "{image}",
)
_TITLES = ("{Look} {Thing}", "The {Thing}", "{Thing} and {Thing2}", "My {Look} {Thing}", "Another {Thing}",
           "{Thing} Song",
           "{Look}, {Look2}", "Every {Thing}", "No {Thing}", "One {Look} {Thing}", "{Thing} Blues",
           "Goodnight {Thing}")


def _line(theme: Theme, rng: np.random.Generator) -> str:
    thing, thing2 = rng.choice(theme.things, 2, replace=False)
    place = str(rng.choice(theme.places))
    text = str(rng.choice(_LINES)).format(
        thing=thing, thing2=thing2, place=place, Place=place[0].upper() + place[1:],
        act=rng.choice(theme.acts),
        image=rng.choice(theme.images), look=rng.choice(theme.looks))
    return re.sub(r"\ba (?=[aeio])", "an ", text)


def lyrics(theme: str, rng: np.random.Generator) -> str:
    """20 to 40 lines under headers as on Genius: verses, a chorus that comes back, perhaps a bridge."""
    def lines(n: int) -> list[str]:
        different: dict[str, None] = {}
        while len(different) < n:
            different[_line(THEMES[theme], rng)] = None
        return list(different)

    verses, chorus = int(rng.integers(2, 4)), lines(4)
    parts: list[str] = []
    for verse in range(verses):
        parts += [f"[Verse {verse + 1}]", *lines(int(rng.integers(6, 8))), "", "[Chorus]", *chorus, ""]
    if rng.random() < 0.5:
        parts += ["[Bridge]", *lines(3), "", "[Chorus]", *chorus, ""]
    return "\n".join(parts).strip()


def title(theme: str, rng: np.random.Generator) -> str:
    t = THEMES[theme]
    things, looks = rng.choice(t.things, 2, replace=False), rng.choice(t.looks, 2, replace=False)
    def cap(words: str) -> str:
        return " ".join(word[0].upper() + word[1:] for word in words.split())
    return str(rng.choice(_TITLES)).format(Thing=cap(str(things[0])), Thing2=cap(str(things[1])),
                                           Look=cap(str(looks[0])),
                                           Look2=looks[1])


_FIRST = ("Velvet", "Copper", "Paper", "Marble", "Hollow", "Crimson", "Lunar", "Wooden", "Silver", "Feral",
          "Amber", "Plastic")
_SECOND = ("Foxes", "Orchard", "Parade", "Kites", "Lanterns", "Machines", "Sparrows", "Cathedral", "Tigers",
           "Gardeners",
           "Avenue", "Echoes")
_GIVEN = ("Zoë", "Marisol", "Björn", "Ada", "Tomás", "Ingrid", "Wendell", "Noor", "Łucja", "Desmond", "Odile",
          "Kwame")
_FAMILY = ("Quill", "Hallås", "Okafor", "Brandt", "Vásquez", "Thorne", "Lindqvist", "Moreau", "O'Dell",
           "Castellan", "Rao",
           "Winter")


def artist_names(n: int, rng: np.random.Generator) -> list[str]:
    """n different names, bands and people, some with letters and signs that want escaping."""
    names: dict[str, None] = {}
    while len(names) < n:
        first, second = str(rng.choice(_FIRST)), str(rng.choice(_SECOND))
        forename, family = str(rng.choice(_GIVEN)), str(rng.choice(_FAMILY))
        names[str(rng.choice((f"{first} {second}", f"The {first} {second}", f"{forename} {family}",
                              f"{forename} {family}",
                              f"{forename} & the {second}", f"{first} {family}")))] = None
    return list(names)
