"""The calls that players and their plugins make: AudioMuse-AI's, and OpenSubsonic's sonicSimilarity."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from simsong.answers.artists import similar_artists as near_artists
from simsong.answers.playlists import path
from simsong.errors import QueryError
from simsong.search.song_query import SongQuery
from simsong.serving.problems import ProblemError, not_found
from simsong.serving.routes.common import NOT_MODIFIED, TEXT, Songs, answer
from simsong.serving.routes.search import songs_for
from simsong.serving.snapshot import Snapshot

router = APIRouter(tags=["players"], responses=NOT_MODIFIED)
N = Annotated[int, Query(ge=1, le=500)]
Text = Annotated[str | None, Query(max_length=TEXT)]


@router.get("/api/similar_tracks", response_model=list[dict[str, Any]])
def similar_tracks(
    request: Request,
    songs: Songs,
    item_id: Text = None,
    title: Text = None,
    artist: Text = None,
    n: N = 10,
    eliminate_duplicates: bool = True,
) -> Response:
    """As AudioMuse-AI answers its plugins: for Navidrome, Jellyfin and LMS. Other parameters are ignored.

    `eliminate_duplicates`: of an artist one song at most."""
    row = _row_asked_for(songs, item_id, title, artist)
    query = SongQuery(like=(songs.id_of(row),), k=n, per_artist=1 if eliminate_duplicates else None)
    results = songs_for(songs, query)
    return answer(
        request, [{**_track(item), "distance": round(1 - item["score"], 6)} for item in results["items"]]
    )


@router.get("/api/similar_artists", response_model=list[dict[str, Any]])
def similar_artists(
    request: Request,
    songs: Songs,
    artist: Text = None,
    artist_id: Text = None,
    n: N = 10,
    include_component_matches: bool = False,
) -> Response:
    """As AudioMuse-AI answers its plugins; the artist by name, or by the id that the catalogue has."""
    if not (artist or artist_id):
        raise ProblemError(400, "query", "artist or artist_id is needed")
    for text in filter(None, (artist, artist_id)):
        try:
            near = near_artists(songs.library, text, n)
            break
        except QueryError:
            continue
    else:
        raise not_found("no artist has that name or id")
    artists = []
    for other in near:
        one: dict[str, Any] = {
            "artist": other.name,
            "artist_id": other.artist_id,
            "divergence": round(1 - other.score, 6),
        }
        if include_component_matches:
            one["component_matches"] = [
                {
                    "artist1_representative_songs": _typical(songs, text),
                    "artist2_representative_songs": _typical(songs, other.artist_id),
                }
            ]
        artists.append(one)
    return answer(request, artists)


@router.get("/api/find_path", response_model=dict[str, Any])
def find_path(
    request: Request, songs: Songs, start_song_id: Text = None, end_song_id: Text = None, max_steps: N = 25
) -> Response:
    """As AudioMuse-AI answers its plugins. Other parameters are ignored."""
    if not start_song_id or not end_song_id:
        raise ProblemError(400, "query", "start_song_id and end_song_id are needed")
    start, end = (songs.id_of(_row_asked_for(songs, one, None, None)) for one in (start_song_id, end_song_id))
    route = path(songs.library, start, end, min(max(max_steps, 2), 100))
    items = [_track(songs.song(row)) for row in route.rows if row is not None]
    return answer(
        request, {"path": items, "total_distance": round(sum(step or 0.0 for step in route.steps), 6)}
    )


def _typical(songs: Snapshot, artist_id: str) -> list[dict[str, Any]]:
    rows = songs.library.of_artist_id(artist_id)[:10].tolist()
    return [{"item_id": songs.id_of(row), "title": songs.song(row)["title"]} for row in rows]


def _row_asked_for(songs: Snapshot, item_id: str | None, title: str | None, artist: str | None) -> int:
    if item_id:
        if (row := songs.row_of(item_id)) is None:
            raise not_found("no song has that id")
        return row
    if not title:
        raise ProblemError(400, "query", "item_id, or title and artist, are needed")
    return songs.library.resolve(f"{artist} - {title}" if artist else title).index


def _track(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "item_id": item["track_id"],
        "title": item["title"] or "",
        "author": item["artist"] or "",
        "album": item["album"] or "",
    }
