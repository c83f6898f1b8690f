"""Stage report: figures, studies, funnel, curves, map, neighbours to listen to → `reports/report.html`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.care.account import account
from simsong.care.funnel import funnel
from simsong.config import Config
from simsong.datasets.evaluation import Embeddings, evaluation_identity, methods, songs_of
from simsong.evaluation.ground_truth import EvaluationSongs
from simsong.evaluation.ranking import prepare
from simsong.evaluation.report import ReportData, encode_clips, examples, render
from simsong.parts.compute import Done, compute_once
from simsong.parts.stages import FUNNEL, RunContext
from simsong.registry.models import CARD, promoted
from simsong.registry.published import (
    MFCC_METHOD,
    choice_sentence,
    label_of_method,
    measured_by,
    published,
)
from simsong.registry.trained_on import folder
from simsong.version import __version__
from storage.identity import digest
from storage.reports import EVALUATION, REPORT, STUDIES
from storage.store import Store
from storage.vectors import positions
from tasks.base import stage_task

VERSION = 5
_SOURCES = {"msd": "the Million Song Dataset", "folder": "a folder of music", "table": "a table"}
_PACKAGES = ("prefect", "torch", "transformers", "librosa", "yt-dlp")


@stage_task("report")
def report(run: RunContext, after: list[Done]) -> Done:
    """Write the page. `after`: export, map and evaluate."""
    return compute_once("report", run.store, _identity(run.store, run), lambda: _write(run.store, run))


def _write(store: Store, run: RunContext) -> tuple[int, list[str]]:
    songs = songs_of(store)
    name, vectors = _published(store, run, songs)
    neighbours = examples(vectors, songs, name=name) if vectors is not None else []
    shown = Counter(songs.track_ids[row] for n in neighbours
                    for row in (n.query, *(hit for hit, _ in n.hits)))
    sources = sorted(set(store.read("tracks", columns=["source"])["source"].to_pylist()))
    synthetic = run.config.fetch.search.startswith("http://127.0.0.1")
    about = [_description(len(songs), sources, synthetic), _chosen(store, run.config), f"{account(store)}."]
    page = render(ReportData(
        store=run.config.store.rstrip("/").rpartition("/")[2], made_at=datetime.now(UTC), synthetic=synthetic,
        description=" ".join(filter(None, about)),
        versions=_versions(), funnel=_funnel(store),
        training=_cards(store, run), evaluation=store.get_json(EVALUATION), studies=_studies(store),
        songs=songs, places=_places(store, songs), embedding_name=name, neighbours=neighbours,
        clips=encode_clips(_middles(store, shown), shown)))
    store.put(REPORT, page.encode())
    return len(songs), [REPORT]


def _chosen(store: Store, config: Config) -> str:
    """What was chosen, and, where another model is published than the one that the figures are of, which."""
    sentences = [sentence] if (sentence := choice_sentence(store, config)) else []
    labels = published(store, config)
    if labels != (measured := tuple(measured_by(store, labels))):
        sentences.append(f"What is published has heard all songs ({', '.join(labels)}); figures are of what "
                         f"has not heard the artists held out ({', '.join(measured)}).")
    return " ".join(sentences)


def _published(store: Store, run: RunContext, songs: EvaluationSongs) -> tuple[str, np.ndarray | None]:
    """The name of what is published, as it is measured, and the songs' vectors (songs, dim)."""
    labels, config = published(store, run.config), run.config
    names = [name for name in methods(store, config) if label_of_method(store, config, name) in labels]
    embeddings = Embeddings(store, config, songs)
    parts = {name: cast("np.ndarray", embeddings[name]) for name in names if name in embeddings}
    if len(parts) < 2:
        name = next(iter(parts), MFCC_METHOD)
        return name, cast("np.ndarray | None", embeddings.get(name))
    return "+".join(parts), np.concatenate([prepare(name, own) for name, own in parts.items()], axis=1)


def _places(store: Store, songs: EvaluationSongs) -> np.ndarray | None:
    """(songs, 2) on the map, NaN of those that are not on it; None where none was published."""
    rows = store.read("map", columns=["track_id", "x", "y"])
    if not rows.num_rows:
        return None
    at = positions(pa.array(songs.track_ids, pa.string()), rows["track_id"])
    places = np.stack([rows[name].to_numpy() for name in ("x", "y")], axis=1).astype(np.float64)
    return np.where(at[:, None] >= 0, places[at], np.nan)


def _identity(store: Store, run: RunContext) -> str:
    return digest("report", VERSION, evaluation_identity(store, run.config), published(store, run.config),
                  _chosen(store, run.config), _funnel(store), _studies(store),
                  [[footer.columns[name] for name in ("track_id", "x", "y")]
                   for footer in store.footers("map")])


def _funnel(store: Store) -> dict[str, dict[str, Any]]:
    """Of the stages before `export`: some of those after it run beside the report."""
    before = FUNNEL[:FUNNEL.index("export")]
    return {stage: counts for stage, counts in funnel(store).items() if stage in before}


def _description(songs: int, sources: list[str], synthetic: bool) -> str:
    if synthetic:
        return f"{songs:,} songs, composed by a generator."
    return f"{songs:,} songs of {' and '.join(_SOURCES.get(name, name) for name in sources)}."


def _versions() -> dict[str, str]:
    return {"simsong": __version__, **{name: version(name) for name in _PACKAGES}}


def _cards(store: Store, run: RunContext) -> list[dict[str, Any]]:
    """Of the promoted models, as they lie beside them."""
    labels = (promoted(store, loss) for loss in run.config.training.losses)
    cards = (store.get_json(f"{folder(label)}/{CARD}") for label in labels if label)
    return [card for card in cards if card]


def _studies(store: Store) -> list[dict[str, Any]]:
    keys = [key for key in store.backend.list(STUDIES) if key.endswith(".json")]
    return [study for key in keys if (study := store.get_json(key))]


def _middles(store: Store, shown: Counter[str]) -> Iterator[tuple[str, bytes]]:
    """(track_id, the middle segment's FLAC) of those songs that have any."""
    ids = pa.array(list(shown), pa.string())
    tracks = store.read("tracks", columns=["track_id", "shard"])
    shards = set(tracks.filter(pc.field("track_id").isin(ids))["shard"].to_pylist())
    for shard in sorted(shards & set(store.shards("segments"))):
        for track_id, rows in store.by_song("segments", shard, columns=["track_id", "audio"]):
            if track_id in shown:
                yield track_id, rows["audio"][len(rows) // 2].as_py()
