"""What the API answers with, as OpenAPI describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Song(Schema):
    track_id: str = Field(examples=["FL345EE645DE538B5F"])
    artist: str | None = Field(examples=["Pornophonique"])
    title: str | None = Field(examples=["Space Invaders"])
    album: str | None = Field(None, examples=["8-Bit Lagerfeuer"])
    year: int | None = Field(None, examples=[2007])
    duration_s: float | None = Field(None, examples=[223.4])
    genres: list[str] = Field([], examples=[["Chiptune"]])
    has_audio: bool = Field(description="Whether it can be listened to here.")
    duplicate_of: str | None = Field(
        None, description="The id of the same recording that was catalogued first."
    )


class SongDetails(Song):
    tags: list[str] = []
    url: str | None = Field(None, description="Where its audio was found; null for a local file.")
    feedback: str | None = Field(None, description="more or less, as somebody said.")


class Page(Schema):
    total: int = Field(description="How many there are in all.", examples=[42])
    offset: int = Field(examples=[0])
    limit: int = Field(examples=[20])


class SongPage(Page):
    roughly: bool = Field(False, description="Nothing reads so; these are the nearest names.")
    items: list[Song]


class Hit(Song):
    rank: int = Field(examples=[1])
    score: float = Field(description="The cosine with what was asked, -1 to 1.", examples=[0.736])
    same_recording_as: str | None = Field(None, description="A song before it that is the same recording.")


class Similar(Schema):
    about: str = Field(
        description="What was asked, in words.", examples=["Pornophonique - Space Invaders (Kar)"]
    )
    model: str = Field(description="By whose embeddings.", examples=["final-75ae23469f77"])
    notes: list[str] = Field([], description="What a user should know of the answer.")
    items: list[Hit]


class Reason(Schema):
    aspect: str = Field(
        examples=["audio"], description="audio, lyrics, tags, genre, artist, album or listeners"
    )
    share: float | None = Field(None, examples=[0.6], description="Of what speaks for the two.")
    score: float | None = Field(None, examples=[0.84])
    closer_than: float | None = Field(
        None, examples=[0.97], description="The share of other songs that are less alike; 0.5 is chance."
    )
    detail: str = Field(examples=["chiptune"])


class Window(Schema):
    number: int = Field(examples=[2])
    start_s: float = Field(examples=[60.0])
    end_s: float = Field(examples=[90.0])


class WindowPair(Schema):
    a: Window
    b: Window
    score: float = Field(examples=[0.91])


class Why(Schema):
    a: Song
    b: Song
    reasons: list[Reason]
    windows: list[WindowPair] = Field(description="The windows that agree most, best first.")


class Path(Schema):
    about: str
    model: str
    notes: list[str] = []
    items: list[Hit] = Field(
        description="From the first song to the last; score is the cosine with the one before."
    )


class Artist(Schema):
    name: str = Field(examples=["Pornophonique"])
    songs: int = Field(examples=[3])


class ArtistPage(Page):
    items: list[Artist]


class SimilarArtist(Artist):
    rank: int
    score: float = Field(examples=[0.61])


class SimilarArtists(Schema):
    name: str
    items: list[SimilarArtist]


class Album(Schema):
    artist: str | None = Field(examples=["Pornophonique"])
    album: str = Field(examples=["8-Bit Lagerfeuer"])
    year: int | None = None
    songs: int = Field(examples=[9])


class AlbumPage(Page):
    items: list[Album]


class Names(Schema):
    name: str
    songs: int


class Facets(Schema):
    genres: list[Names]
    years: tuple[int, int] | None = Field(None, description="The first and the last year of release.")
    tags: list[Names]


class Cluster(Schema):
    cluster: int = Field(examples=[3])
    label: str = Field(examples=["Chiptune"])
    songs: int
    x: float
    y: float


class SongMap(Schema):
    """Columns of equal length; names are asked for by id."""

    method: str = Field(examples=["umap"])
    track_ids: list[str]
    x: list[float] = Field(description="-1 to 1")
    y: list[float] = Field(description="-1 to 1")
    cluster: list[int] = Field(description="-1 for a song of none.")
    clusters: list[Cluster]


class Published(Schema):
    model: str
    songs: int
    version: str = Field(description="Another one after each publish.")
    method: str = Field(description="By which of the evaluation's methods.", examples=["adapted"])
    sentence: str | None = Field(None, description="Why this model is the one that is published.")
    coverage: str | None = Field(None, description="While a run goes on: how many of how many songs.")


class Progress(Schema):
    running: bool
    writer: str | None = Field(None, description="Who writes to the store.")
    since: str | None = None
    songs: int = Field(0, description="In the catalogue.")
    stages: dict[str, Any] = Field({}, description="Songs done, failed and pending, a stage.")


class Status(Schema):
    simsong: str
    store: str = Field(description="The store's name, without its place.")
    published: Published | None
    problem: str | None = Field(None, description="Why nothing is published.")
    audio: bool
    upload: bool
    read_only: bool
    progress: Progress


class Health(Schema):
    status: str = Field(examples=["ok"])


class Facts(BaseModel):
    """Facts as the program's own commands print them with --json."""

    model_config = ConfigDict(extra="allow")


class Station(Schema):
    id: str = Field(examples=["evening-3f9a"])
    name: str = Field(examples=["Evening"])
    like: list[str]
    unlike: list[str] = []
    songs: int = Field(examples=[25])
    only_genre: list[str] = []
    years: str | None = None
    per_artist: int | None = None
    diversity: float = 0.0
    made_at: str


class StationItems(Schema):
    station: Station
    items: list[Hit]


class Stations(Schema):
    items: list[Station]


class NewStation(Schema):
    name: str = Field(min_length=1, max_length=200, examples=["Evening"])
    like: list[str] = Field(min_length=1, max_length=50, examples=[["FL345EE645DE538B5F"]])
    unlike: list[str] = Field([], max_length=50)
    songs: int = Field(25, ge=1, le=500)
    only_genre: list[str] = Field([], max_length=20)
    years: str | None = Field(None, max_length=20, examples=["1990-1999"])
    per_artist: int | None = Field(None, ge=1, le=500)
    diversity: float = Field(0.0, ge=0, le=1)


class NewPlaylist(Schema):
    songs: list[Annotated[str, Field(min_length=1, max_length=500)]] = Field(
        min_length=1, max_length=1000, examples=[["FL345EE645DE538B5F"]]
    )
    name: str = Field("SimSong", max_length=200)
    format: Literal["m3u8", "json", "jspf"] = "m3u8"


class NewFeedback(Schema):
    track_id: str = Field(min_length=1, max_length=500, examples=["FL345EE645DE538B5F"])
    verdict: str = Field(pattern="^(more|less|none)$", examples=["more"])


class Feedback(Schema):
    more: list[Song]
    less: list[Song]


class Token(Schema):
    token: str = Field(min_length=1, max_length=1000, examples=["the token"])
