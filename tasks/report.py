"""Stage report: figures, funnel, curves, map and neighbours → `reports/report.html`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pyarrow.compute as pc

from simsong import __version__
from simsong.evaluation.report import ReportData, examples, render
from storage.identity import digest
from storage.store import Store
from tasks.base import Plan, stage_task
from tasks.evaluate import EVALUATION, embeddings_of, evaluation_identity, songs_of
from tasks.funnel import funnel
from tasks.models import folder, promoted, published
from tasks.part import Done, commit, once_done
from tasks.stages import Run, is_whole

VERSION = 2
REPORT = "reports/report.html"
_PACKAGES = ("prefect", "torch", "transformers", "librosa", "yt-dlp")


def _plan(run: Run, **_: Any) -> Plan:
    identity = _identity(run.store, run)
    return Plan(identity, is_whole(run.store, "report", identity))


@stage_task("report", _plan, "report")
def report(run: Run, after: list[Done]) -> Done:
    """Write the page. `after`: export and evaluate."""
    start, store = time.monotonic(), run.store
    identity = _identity(store, run)
    if is_whole(store, "report", identity):
        return once_done(store, "report").reused()
    songs, label = songs_of(store), published(store, run.config)
    name = label.partition("-")[0] if label else "mfcc"
    vectors = embeddings_of(store, run.config, songs).get(name)
    neighbours = examples(vectors, songs) if vectors is not None else []
    shown = {row for n in neighbours for row in (n.query, *(found for found, _ in n.found))}
    sources = sorted(set(store.read("tracks", columns=["source"])["source"].to_pylist()))
    synthetic = run.config.fetch.search.startswith("http://127.0.0.1")
    page = render(ReportData(
        store=run.config.store.rstrip("/").rpartition("/")[2], made_at=datetime.now(UTC), synthetic=synthetic,
        description=_description(len(songs), sources, synthetic), versions=_versions(), funnel=_funnel(store),
        training=_cards(store, run), evaluation=store.get_json(EVALUATION), songs=songs, embedding=vectors,
        embedding_name=name, neighbours=neighbours,
        audio=_audio(store, {songs.track_ids[row] for row in shown})))
    store.put(REPORT, page.encode())
    commit(store, "report", identity, songs.track_ids, [REPORT])
    return once_done(store, "report").model_copy(update={"seconds": time.monotonic() - start})


def _identity(store: Store, run: Run) -> str:
    return digest("report", VERSION, evaluation_identity(store, run.config), published(store, run.config),
                  _funnel(store))


def _funnel(store: Store) -> dict[str, dict[str, Any]]:
    """Up to the embeddings: what comes after is about all songs at once, and this page is part of it."""
    return {stage: told for stage, told in funnel(store).items()
            if stage not in ("export", "evaluate", "report")}


def _description(songs: int, sources: list[str], synthetic: bool) -> str:
    what = f"{songs} songs from {', '.join(sources)}"
    if not synthetic:
        return what
    return f"{what}: composed by a generator, so the figures prove the plumbing and say nothing of real music"


def _versions() -> dict[str, str]:
    return {"simsong": __version__, **{name: version(name) for name in _PACKAGES}}


def _cards(store: Store, run: Run) -> list[dict[str, Any]]:
    cards = []
    for loss in run.config.training.losses:
        label = promoted(store, loss)
        card = store.get_json(f"{folder(label)}/training.json") if label else None
        if card:
            told = {name: value for name, value in card.items() if name not in ("curves", "key")}
            cards.append({**told, "curve": card["curves"]})
    return cards


def _audio(store: Store, ids: set[str]) -> dict[str, str]:
    """track_id → path beside the page, of songs whose audio is in the store."""
    rows = store.read("audio", columns=["track_id", "file"])
    rows = rows.filter(pc.field("track_id").isin(list(ids))).to_pylist()
    return {row["track_id"]: f"../{row['file']}" for row in rows if not row["file"].startswith("file:")}
