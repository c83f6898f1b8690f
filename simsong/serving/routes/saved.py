"""Stations and feedback."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from simsong.answers.stations import query_of, station
from simsong.answers.stations import stations as all_stations
from simsong.search.song_query import SongQuery
from simsong.serving import playlists, schemas
from simsong.serving.problems import ProblemError, not_found
from simsong.serving.routes.common import NOT_MODIFIED, K, Songs, answer, raw, row_of, writable
from simsong.serving.routes.search import songs_for
from simsong.serving.snapshot import Snapshot

router = APIRouter(tags=["saved"])
StationId = Annotated[str, Path(min_length=1, max_length=60, examples=["evening-3f9a1c20"])]


@router.get("/api/stations", response_model=schemas.Stations, responses=NOT_MODIFIED)
def stations(request: Request) -> Response:
    """Saved stations: songs to be like and unlike, and rules. What they play follows what is published."""
    return answer(request, {"items": all_stations(request.app.state.store)})


@router.post(
    "/api/stations", response_model=schemas.Station, status_code=201, dependencies=[Depends(writable)]
)
def save_station(request: Request, songs: Songs, new: schemas.NewStation) -> Response:
    """Save a station."""
    fields = new.model_dump()
    for one in (*new.like, *new.unlike):
        songs.library.song(one)
    songs_for(songs, query_of(songs.library, fields))  # what cannot be asked is not saved
    saved = request.app.state.saved.add_station(fields)
    if saved is None:
        raise ProblemError(409, "too-many", "there are as many stations as may be")
    response = answer(request, saved, {"Location": f"/api/stations/{saved['id']}"})
    response.status_code = 201
    return response


@router.get("/api/stations/{station_id}", response_model=schemas.StationItems, responses=NOT_MODIFIED)
def station_songs(request: Request, songs: Songs, station_id: StationId) -> Response:
    """A station, and what it plays now."""
    saved = _station(request, station_id)
    return answer(request, {"station": saved, "items": _items(songs, saved)})


@router.get(
    "/api/stations/{station_id}/m3u8",
    response_class=Response,
    responses={
        **NOT_MODIFIED,
        200: {"content": {playlists.M3U8: {"schema": {"type": "string"}}}, "description": "The songs."},
    },
)
def station_playlist(request: Request, songs: Songs, station_id: StationId) -> Response:
    """What a station plays now, for a player."""
    saved = _station(request, station_id)
    data, media_type = playlists.written(_items(songs, saved), saved["name"], "m3u8", str(request.base_url))
    return raw(
        request, data, media_type, {"Content-Disposition": playlists.attachment(saved["name"], "m3u8")}
    )


@router.delete(
    "/api/stations/{station_id}", status_code=204, response_class=Response, dependencies=[Depends(writable)]
)
def remove_station(request: Request, station_id: StationId) -> Response:
    """Remove a station."""
    if not request.app.state.saved.remove_station(station_id):
        raise not_found("there is no such station")
    return Response(status_code=204)


@router.get("/api/feedback", response_model=schemas.Feedback, responses=NOT_MODIFIED)
def feedback(request: Request, songs: Songs) -> Response:
    """The songs that somebody wants more of, and less of."""
    return answer(
        request,
        {
            verdict: [
                songs.song(row_of(songs, track_id)) for track_id in _judged(request, songs, verdict)
            ]
            for verdict in ("more", "less")
        },
    )


@router.put("/api/feedback", status_code=204, response_class=Response, dependencies=[Depends(writable)])
def judge(request: Request, songs: Songs, feedback: schemas.NewFeedback) -> Response:
    """More or less of a song; none takes it back."""
    row_of(songs, feedback.track_id)
    if not request.app.state.saved.judge(feedback.track_id, feedback.verdict):
        raise ProblemError(409, "too-many", "there is as much feedback as may be")
    return Response(status_code=204)


@router.get("/api/recommended", response_model=schemas.Similar, responses=NOT_MODIFIED)
def recommended(
    request: Request, songs: Songs, k: K = 25, per_artist: Annotated[int | None, Query(ge=1, le=500)] = 3
) -> Response:
    """Songs like those that somebody wants more of, and unlike those that they want less of."""
    more, less = (_judged(request, songs, verdict) for verdict in ("more", "less"))
    if not more:
        raise ProblemError(409, "no-feedback", "say first of a song that you want more like it")
    query = SongQuery(like=tuple(more[-200:]), unlike=tuple(less[-200:]), k=k, per_artist=per_artist)
    return answer(
        request, {**songs_for(songs, query), "about": f"{len(more)} songs that you liked"}
    )


def _judged(request: Request, songs: Snapshot, verdict: str) -> list[str]:
    feedback = request.app.state.saved.feedback()
    return [one for one, own in feedback.items() if own == verdict and songs.row_of(one) is not None]


def _station(request: Request, station_id: str) -> dict[str, Any]:
    if (saved := station(request.app.state.store, station_id)) is None:
        raise not_found("there is no such station")
    return saved


def _items(songs: Snapshot, saved: dict[str, Any]) -> list[dict[str, Any]]:
    return songs_for(songs, query_of(songs.library, saved))["items"]
