"""Like what, and why: similar songs, reasons, paths, playlists."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path as File
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from simsong.answers.playlists import path as even_path
from simsong.answers.similar import answer as find
from simsong.answers.similar import embed_file
from simsong.answers.why import why as likeness_of
from simsong.search.song_query import SongFilters, SongQuery, range_of, years_of
from simsong.serving import playlists, schemas
from simsong.serving.problems import ProblemError, responses
from simsong.serving.routes.common import MANY, NOT_MODIFIED, TEXT, K, Songs, TrackId, answer, raw, row_of
from simsong.serving.snapshot import Snapshot

router = APIRouter(tags=["similar"], responses=NOT_MODIFIED)
Id = Annotated[str, Query(min_length=1, max_length=200)]
Word = Annotated[str, Query(min_length=1, max_length=TEXT)]
UPLOADS = asyncio.Semaphore(2)  # heard at a time: each takes a core
WAITING = 8  # that may wait for it
_waiting = 0


def _words(about: str, **more: Any) -> Any:
    return Query(max_length=MANY, description=about, **more)


class Filters:
    """Which songs may be found."""

    def __init__(
        self,
        only_genre: Annotated[list[Word], _words("Only of any of these genres.")] = [],  # noqa: B006
        only_tag: Annotated[list[Word], _words("Only with any of these tags.")] = [],  # noqa: B006
        only_artist: Annotated[list[Word], _words("Only by any of these artists.")] = [],  # noqa: B006
        without_artist: Annotated[list[Word], _words("By none of these artists.")] = [],  # noqa: B006
        years: Annotated[
            str | None,
            Query(max_length=20, description="1994, 1990-1999, 1990- or -1999", examples=["1990-1999"]),
        ] = None,
        trait: Annotated[list[Word], _words("A trait in a range.", examples=[["tempo_bpm=90-110"]])] = [],  # noqa: B006
        per_artist: Annotated[
            int | None, Query(ge=1, le=500, description="At most so many of an artist.")
        ] = None,
        per_album: Annotated[
            int | None, Query(ge=1, le=500, description="At most so many of an album.")
        ] = None,
        distinct: Annotated[bool, Query(description="Each recording once.")] = True,
        diversity: Annotated[
            float, Query(ge=0, le=1, description="0: the nearest; towards 1: the less like each other.")
        ] = 0.0,
        exact: Annotated[
            bool, Query(description="Look at all songs, where an index of many finds very nearly the same.")
        ] = False,
    ) -> None:
        self.filters = SongFilters(
            genres=tuple(only_genre),
            tags=tuple(only_tag),
            artists=tuple(only_artist),
            without_artists=tuple(without_artist),
            years=years_of(years) if years is not None else (None, None),
            traits=tuple(range_of(one) for one in trait),
        )
        self.rest: dict[str, Any] = {
            "per_artist": per_artist,
            "per_album": per_album,
            "distinct": distinct,
            "diversity": diversity,
            "exact": exact,
        }


Filtered = Annotated[Filters, Depends()]


@router.get("/api/similar", response_model=schemas.Similar)
def similar(
    request: Request,
    songs: Songs,
    filters: Filtered,
    like: Annotated[
        list[Word],
        _words(
            'Songs: an id, "artist - title" (roughly), a title, or a span of one, `ID@1:10-1:40`.',
            examples=[["FL345EE645DE538B5F"]],
        ),
    ] = [],  # noqa: B006
    unlike: Annotated[list[Word], _words("Songs to be unlike.")] = [],  # noqa: B006
    artist: Annotated[list[Word], _words("Like an artist's songs.")] = [],  # noqa: B006
    genre: Annotated[list[Word], _words("Like a genre's songs.")] = [],  # noqa: B006
    lyrics: Annotated[
        str | None, Query(max_length=2000, description="Songs whose words say the like.")
    ] = None,
    text: Annotated[
        str | None,
        Query(
            max_length=TEXT, description="What it sounds like, in words; the pretrained network must be CLAP."
        ),
    ] = None,
    k: K = 10,
) -> Response:
    """The songs most like what is named; what is not liked is taken away from it."""
    query = SongQuery(
        like=tuple(like),
        unlike=tuple(unlike),
        artists=tuple(artist),
        genres=tuple(genre),
        lyrics=lyrics,
        text=text,
        k=k,
        filters=filters.filters,
        **filters.rest,
    )
    return answer(request, songs_for(songs, query))


@router.get("/api/songs/{track_id:path}/similar", response_model=schemas.Similar)
def similar_to_song(
    request: Request, songs: Songs, filters: Filtered, track_id: TrackId, k: K = 10
) -> Response:
    """The songs most like one of the catalogue."""
    row_of(songs, track_id)
    query = SongQuery(like=(track_id,), k=k, filters=filters.filters, **filters.rest)
    return answer(request, songs_for(songs, query))


@router.get("/api/why", response_model=schemas.Why)
def why(
    request: Request,
    songs: Songs,
    a: Word,
    b: Word,
    windows: Annotated[int, Query(ge=1, le=20, description="Pairs of windows.")] = 1,
) -> Response:
    """Why two songs are near: what they share, and the windows that agree most, to listen to just those."""
    likeness = likeness_of(songs.library, a, b, windows)
    return answer(request, {"a": songs.song(likeness.a), "b": songs.song(likeness.b), **likeness.as_dict()})


@router.get("/api/path", response_model=schemas.Path)
def song_path(
    request: Request,
    songs: Songs,
    start: Annotated[str, Query(alias="from", min_length=1, max_length=TEXT)],
    end: Annotated[str, Query(alias="to", min_length=1, max_length=TEXT)],
    songs_at_most: Annotated[int, Query(alias="songs", ge=2, le=60, description="Both ends counted.")] = 8,
) -> Response:
    """From one song to another in even steps. There always is a path."""
    row_of(songs, start)
    row_of(songs, end)
    route = even_path(songs.library, start, end, songs_at_most)
    steps = zip(route.rows, route.steps, strict=True)
    items = [
        _hit(songs, rank, row, 1.0 if step is None else 1 - step, None)
        for rank, (row, step) in enumerate(steps, 1)
        if row is not None
    ]
    return answer(
        request, {"about": route.title, "model": songs.model, "notes": list(route.notes), "items": items}
    )


_PLAYLIST: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "audio/x-mpegurl": {"schema": {"type": "string"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/SongPage"}},
            "application/xspf+json": {"schema": {"type": "object"}},
        },
        "description": "The playlist.",
    }
}


@router.get("/api/playlist", responses=_PLAYLIST, response_class=Response)
def playlist(
    request: Request,
    songs: Songs,
    song: Annotated[list[Id], Query(min_length=1, max_length=100, description="Ids, in their order.")],
    name: Annotated[str, Query(max_length=200)] = "SimSong",
    form: Annotated[Literal["m3u8", "json", "jspf"], Query(alias="format")] = "m3u8",
) -> Response:
    """Songs as a playlist: M3U8 with addresses of this server, JSON, or JSPF."""
    return _playlist(request, songs, song, name, form)


@router.post("/api/playlist", responses=_PLAYLIST, response_class=Response)
def long_playlist(request: Request, songs: Songs, wanted: schemas.NewPlaylist) -> Response:
    """The same, of more songs than an address holds. Nothing is kept."""
    return _playlist(request, songs, wanted.songs, wanted.name, wanted.format)


def _playlist(request: Request, songs: Snapshot, track_ids: list[str], name: str, form: str) -> Response:
    items = [songs.song(row_of(songs, track_id)) for track_id in track_ids]
    data, media_type = playlists.written(items, name, form, str(request.base_url))
    headers = {"Content-Disposition": playlists.attachment(name, form)} if form != "json" else {}
    return raw(request, data, media_type, headers)


@router.post(
    "/api/similar/file",
    response_model=schemas.Similar,
    responses=responses(408, 411, 413),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}}
            },
        }
    },
)
async def similar_to_file(request: Request, songs: Songs, filters: Filtered, k: K = 10) -> Response:
    """The songs most like an audio file, which is the body (`curl --data-binary @song.mp3 …`).

    It is heard in a process that can neither crash nor starve this one, and then forgotten."""
    global _waiting
    limits = request.app.state.config.serve
    if not limits.upload:
        raise ProblemError(403, "no-upload", "this server takes no files (serve.upload)")
    if _waiting >= WAITING:
        raise ProblemError(429, "busy", "too many files are being heard", {"Retry-After": "10"})
    _waiting += 1
    try:
        with tempfile.TemporaryDirectory(prefix="simsong-upload-") as folder:
            path = File(folder) / "upload"
            await _received(request, path, limits.upload_mb << 20, limits.upload_s)
            async with UPLOADS:
                body = await run_in_threadpool(_like_file, songs, path, k, filters)
    finally:
        _waiting -= 1
    return answer(request, body, {"Cache-Control": "no-store"})


async def _received(request: Request, path: File, most_bytes: int, most_s: float) -> None:
    """The body as a file. Raises: ProblemError for one that is too large, too slow, or empty."""
    too_large = ProblemError(413, "too-large", f"a file may have {most_bytes >> 20} MB (serve.upload_mb)")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most_bytes:
        raise too_large
    received = 0
    try:
        async with asyncio.timeout(most_s):
            with path.open("wb") as file:
                async for chunk in request.stream():
                    received += len(chunk)
                    if received > most_bytes:
                        raise too_large
                    file.write(chunk)
    except TimeoutError:
        raise ProblemError(
            408, "too-slow", f"the file did not come within {most_s:g} s (serve.upload_s)"
        ) from None
    except ClientDisconnect:
        raise ProblemError(400, "gone", "the file did not come whole") from None
    if not received:
        raise ProblemError(422, "empty", "the body is the file, and it is empty")


def _like_file(songs: Snapshot, path: File, k: int, filters: Filters) -> dict[str, Any]:
    vector, notes = embed_file(songs.library, path)
    query = SongQuery(vector=vector, k=k, filters=filters.filters, **filters.rest)
    results = songs_for(songs, query)
    return {
        **results,
        "about": "your file",
        "notes": [*(note.replace(f"{path}: ", "") for note in notes), *results["notes"]],
    }


def songs_for(songs: Snapshot, query: SongQuery) -> dict[str, Any]:
    """As `schemas.Similar`."""
    ranking = find(songs.library, query, files=False)
    return {
        "about": ranking.about,
        "model": ranking.model,
        "notes": list(ranking.notes),
        "items": [
            _hit(songs, rank, hit.row, hit.score, hit.same_as) for rank, hit in enumerate(ranking.hits, 1)
        ],
    }


def _hit(songs: Snapshot, rank: int, row: int, score: float, same_as: int | None) -> dict[str, Any]:
    return {
        "rank": rank,
        "score": round(float(score), 4),
        **songs.song(row),
        "same_recording_as": None if same_as is None else songs.id_of(same_as),
    }
