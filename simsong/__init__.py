"""SimSong: from a list of songs to a similar-song engine."""

__version__ = "0.1.0"
