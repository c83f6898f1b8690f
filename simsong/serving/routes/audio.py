"""Songs to listen to, and one of them in detail."""

from __future__ import annotations

import mimetypes
import os
import shutil
import tempfile
from pathlib import Path as File
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from simsong.answers.windows import sound_of
from simsong.files.places import local_path
from simsong.serving import schemas
from simsong.serving.problems import ProblemError, not_found, responses
from simsong.serving.routes.common import NOT_MODIFIED, Settings, Songs, TrackId, answer, row_of
from simsong.serving.snapshot import Snapshot
from storage.backend import Local
from storage.lookup import rows_of_song

router = APIRouter(tags=["songs"], responses=responses(416))
_TYPES = {
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".flac": "audio/flac",
    ".wav": "audio/wav",
    ".m4a": "audio/mp4",
    ".mp4": "audio/mp4",
    ".aac": "audio/aac",
    ".webm": "audio/webm",
    ".mka": "audio/x-matroska",
    ".aif": "audio/aiff",
    ".aiff": "audio/aiff",
}
_CODECS = {
    "mp3": "audio/mpeg",
    "vorbis": "audio/ogg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "aac": "audio/mp4",
    "pcm": "audio/wav",
}
# What a file of somebody's is, browsers are told by its type alone, and nothing in it may run.
HEADERS = {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, max-age=3600"}
AUDIO: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}},
        "description": "The audio.",
    },
    206: {
        "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}},
        "description": "The range that was asked for.",
    },
}


@router.api_route(
    "/api/songs/{track_id:path}/windows/{number}/audio",
    methods=["GET"],
    response_class=Response,
    responses=AUDIO,
)
def window_audio(
    songs: Songs, config: Settings, track_id: TrackId, number: Annotated[int, Path(ge=0, le=32_767)]
) -> Response:
    """A window of a song as it was heard: 16 kHz mono FLAC. Takes ranges."""
    _audible(config.serve.audio)
    if (flac := sound_of(songs.library, row_of(songs, track_id), number)) is None:
        raise not_found("that song has no such window")
    return _temporary(flac)


@router.api_route(
    "/api/songs/{track_id:path}/audio", methods=["GET"], response_class=Response, responses=AUDIO
)
def song_audio(songs: Songs, config: Settings, track_id: TrackId) -> Response:
    """The song as it was fetched, or as it lies in its folder. Takes ranges."""
    _audible(config.serve.audio)
    row = row_of(songs, track_id)
    shard = songs.library.shard_of(row)
    columns = ["file", "codec"]
    own = [] if shard is None else rows_of_song(songs.store, "audio", track_id, columns, shard).to_pylist()
    if not own:
        raise not_found("that song was not fetched")
    return _song_file(songs, own[0]["file"], own[0]["codec"] or "")


# After those whose paths begin as this one's does.
@router.get("/api/songs/{track_id:path}", response_model=schemas.SongDetails, responses=NOT_MODIFIED)
def song(request: Request, songs: Songs, track_id: TrackId) -> Response:
    """One song, with what is known of it."""
    row = row_of(songs, track_id)
    rows = rows_of_song(songs.store, "tracks", track_id, ["url"])
    url = rows["url"][0].as_py() if rows.num_rows else None
    web = url if url and url.startswith(("http://", "https://")) else None
    return answer(
        request,
        {
            **songs.song(row),
            "tags": songs.tags(row),
            "url": web,
            "feedback": request.app.state.saved.verdict(track_id),
        },
    )


def _audible(allowed: bool) -> None:
    if not allowed:
        raise ProblemError(403, "no-audio", "this server plays nothing (serve.audio)")


def _song_file(songs: Snapshot, file: str, codec: str) -> Response:
    """Args: file: a key of the store, or a file:// URL, as the table `audio` has it."""
    backend, lost = songs.store.backend, not_found("its audio is no longer there")
    local = local_path(file)
    if local is not None or isinstance(backend, Local):
        path = File(local) if local is not None else backend.path(file)  # type: ignore[union-attr]
        if not path.is_file():
            raise lost
        return FileResponse(path, media_type=_type(path.suffix, codec), headers=HEADERS)
    suffix = File(file).suffix
    try:
        with songs.store.local(file) as copy:
            own = _named(suffix)
            shutil.copyfile(copy, own)
    except FileNotFoundError:
        raise lost from None
    return FileResponse(
        own, media_type=_type(suffix, codec), headers=HEADERS, background=BackgroundTask(_gone, own)
    )


def _temporary(flac: bytes) -> Response:
    path = _named(".flac")
    path.write_bytes(flac)
    return FileResponse(
        path, media_type="audio/flac", headers=HEADERS, background=BackgroundTask(_gone, path)
    )


def _named(suffix: str) -> File:
    handle, name = tempfile.mkstemp(prefix="simsong-", suffix=suffix if suffix in _TYPES else "")
    os.close(handle)
    return File(name)


def _gone(path: File) -> None:
    path.unlink(missing_ok=True)


def _type(suffix: str, codec: str) -> str:
    if media_type := _TYPES.get(suffix.lower()):
        return media_type
    guessed = mimetypes.guess_type(f"x{suffix}")[0] or ""
    of_codec = next(
        (kind for name, kind in _CODECS.items() if codec.startswith(name)), "application/octet-stream"
    )
    return guessed if guessed.startswith("audio/") else of_codec
