"""What there is: songs, artists, albums, labels, the map."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from simsong.answers.artists import similar_artists as near_artists
from simsong.answers.windows import windows_of
from simsong.errors import QueryError
from simsong.search.resolve import plain_text
from simsong.serving import schemas
from simsong.serving.problems import not_found
from simsong.serving.routes.common import (
    NOT_MODIFIED,
    TEXT,
    K,
    Limit,
    Offset,
    Songs,
    TrackId,
    answer,
    page,
    row_of,
)

router = APIRouter(tags=["songs"], responses=NOT_MODIFIED)
Text = Annotated[
    str,
    Query(
        max_length=TEXT, description="Words, the last of which may be a beginning.", examples=["space inv"]
    ),
]


@router.get("/api/songs", response_model=schemas.SongPage)
def find_songs(
    request: Request, songs: Songs, q: Text = "", limit: Limit = 20, offset: Offset = 0
) -> Response:
    """Songs whose artist, title and album have these words; all songs without any. Asked at each key."""
    rows, total, roughly = songs.find(q, offset, limit)
    return page(request, [songs.song(row) for row in rows], total, offset, limit, roughly=roughly)


@router.get("/api/songs/{track_id:path}/windows", response_model=list[schemas.Window])
def song_windows(request: Request, songs: Songs, track_id: TrackId) -> Response:
    """What was heard of a song: its windows, in seconds of the untrimmed song."""
    own = windows_of(songs.library, row_of(songs, track_id))
    spans = zip(*(np.round(ends, 3).tolist() for ends in (own.starts_s, own.ends_s)), strict=True)
    return answer(request, [{"number": number, "start_s": start_s, "end_s": end_s}
                            for number, (start_s, end_s) in zip(own.numbers.tolist(), spans, strict=True)])


@router.get("/api/facets", response_model=schemas.Facets)
def facets(request: Request, songs: Songs) -> Response:
    """What songs can be filtered by."""
    return answer(request, songs.facets)


@router.get("/api/artists", response_model=schemas.ArtistPage)
def artists(request: Request, songs: Songs, q: Text = "", limit: Limit = 50, offset: Offset = 0) -> Response:
    """Artists by name."""
    matching = [
        {"name": name, "songs": count}
        for name, count in songs.artists
        if plain_text(q) in plain_text(name)
    ]
    return page(request, matching[offset : offset + limit], len(matching), offset, limit)


@router.get("/api/artists/similar", response_model=schemas.SimilarArtists)
def similar_artists(
    request: Request,
    songs: Songs,
    name: Annotated[str, Query(min_length=1, max_length=TEXT, examples=["Pornophonique"])],
    k: K = 10,
) -> Response:
    """Artists whose songs are, in the mean, most like an artist's; 50 at most."""
    try:
        near = near_artists(songs.library, name, k)
    except QueryError as error:
        raise not_found(str(error)) from None
    items = [
        {"rank": rank, "name": one.name, "songs": one.songs, "score": round(one.score, 6)}
        for rank, one in enumerate(near, 1)
    ]
    return answer(request, {"name": name, "items": items})


@router.get("/api/albums", response_model=schemas.AlbumPage)
def albums(request: Request, songs: Songs, q: Text = "", limit: Limit = 50, offset: Offset = 0) -> Response:
    """Albums by artist and name."""
    matching: list[dict[str, Any]] = [
        one
        for one in songs.albums
        if plain_text(q) in plain_text(f"{one['artist'] or ''} {one['album']}")
    ]
    return page(request, matching[offset : offset + limit], len(matching), offset, limit)


@router.get("/api/map", response_model=schemas.SongMap)
def song_map(request: Request, songs: Songs) -> Response:
    """Where each song stands on the map of the library."""
    if (layout := songs.map) is None:
        raise not_found("no map is published yet; `simsong publish` draws it")
    return answer(request, layout)
