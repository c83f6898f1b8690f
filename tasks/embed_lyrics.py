"""Stage embed_lyrics: words → vectors."""

from __future__ import annotations

from collections.abc import Iterator

from simsong.config import LyricModelSettings
from simsong.lyrics.embed import LyricEncoder
from simsong.parallel import once
from simsong.parts.compute import Done, Work, compute_parts
from simsong.parts.song_audio import by_id
from simsong.parts.stages import RunContext
from simsong.records import Outcome
from storage.store import Store
from tasks.base import stage_task


@stage_task("embed_lyrics")
def embed_lyrics(done: Done, run: RunContext) -> Done:
    """Embed the lyrics of a shard's songs; instrumentals have none."""
    return compute_parts("embed_lyrics", done.shards, run, lambda store, shard: _work(store, shard, run))


def _work(store: Store, shard: int, run: RunContext) -> Work:
    def embedded(todo: list[str]) -> Iterator[Outcome]:
        texts = by_id(store, "lyrics", shard, ["track_id", "text"])
        encoder = _encoder(run.config.lyric_model)
        size = run.config.lyric_model.batch
        for at in range(0, len(todo), size):
            ids = todo[at:at + size]
            for track_id, vector in zip(ids, encoder.encode([texts[i]["text"] for i in ids]), strict=True):
                yield Outcome(track_id, "ok", rows={"lyric_embeddings": [{"embedding": vector}]})

    return embedded


@once(maxsize=1)
def _encoder(config: LyricModelSettings) -> LyricEncoder:
    return LyricEncoder(config)
