"""A report such as a run on a real catalogue gives, with every section filled; and a reader of its page."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import numpy as np

from simsong.config import EvaluationSettings
from simsong.evaluation.evaluate import evaluate
from simsong.evaluation.ground_truth import EvaluationSongs, from_same_artist, from_same_genre, from_similars
from simsong.evaluation.report import Clip, ReportData, examples

GENRES = ["rock", "jazz", "hip hop", "techno", "folk", "metal", "soul", "ambient", "reggae", "classical",
          "polka"]
METHODS = ("mfcc", "untrained", "ns", "wns", "wns_shuffled")
VOID = {"meta", "br", "img", "path", "input"}


class Page(HTMLParser):
    """Well-formedness, the tags, attributes and visible words of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words, self._open = "", list[str]()
        self.feed(html)
        self.close()
        assert not self._open, self._open
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self._open and self._open[-1] == tag, (tag, self._open[-3:], self.getpos())
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "title", "script"):
            self.words += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def made_up(n: int = 400, seed: int = 0) -> ReportData:
    """Songs of eleven genres, found the better the less noise a method adds."""
    rng = np.random.default_rng(seed)
    artists = np.arange(n) // 4
    genre = artists % len(GENRES)
    songs = EvaluationSongs([f"TR{i:05d}" for i in range(n)], [f"AR{a}" for a in artists],
                            [f"The {GENRES[g].title()} Band No. {a}" for a,
                             g in zip(artists, genre, strict=True)],
                            [f"Song {i} about {'rain and ' * (i % 4)}trains" for i in range(n)],
                            [GENRES[g] if i % 17 else None for i, g in enumerate(genre)])
    signal = 1.6 * rng.standard_normal((len(GENRES), 24))[genre] + 0.8 * rng.standard_normal((n, 24))[artists]
    noise = rng.standard_normal((7, n, 24))
    lyrics = signal + 3 * noise[3]
    lyrics[::3] = np.nan
    vectors = {"mfcc": signal + 4 * noise[0], "lyrics": lyrics, "untrained": signal + 5 * noise[4],
               "ns": signal + 1.9 * noise[1], "wns": signal + 1.4 * noise[2],
               "wns_shuffled": signal + 1.95 * noise[5], "my-net": signal + 2.4 * noise[6]}
    alike = [rng.permutation(np.flatnonzero(genre == g))[:12].tolist() for g in genre]
    pairs = [(i, j) for i in range(n) for j in alike[i] if i != j]
    sources, targets = ([f"TR{pair[end]:05d}" for pair in pairs] for end in (0, 1))
    truth = from_similars(songs.track_ids, sources, targets, np.ones(len(pairs)), 0.1)
    truths = [truth, from_same_artist(songs), from_same_genre(songs)]
    found = evaluate(vectors, songs, truths, artists % 10 < 3,
                     EvaluationSettings.model_validate({"bootstrap": 300}))
    found["meaning"] = meaning_of(["mfcc", "untrained", "ns", "wns"])
    clip = Clip("audio/mpeg", b"\xff\xf3" + bytes(20))
    return ReportData(
        "s3://music/simsong-store", datetime(2026, 3, 14, 15, 9, tzinfo=UTC),
        "520 songs of the Million Song Dataset, with similars by Last.fm.", False,
        {"SimSong": "0.1.0", "PyTorch": "2.13.0", "model": "wns/3"}, FUNNEL,
        [card_of(loss, rng) for loss in ("ns", "wns", "wns_shuffled")], found,
        [study_of("seeds", ["as it is"]), study_of("segments.trim", ["none", "structure"])], songs,
        vectors["wns"][:, :2], "wns", examples(vectors["wns"], songs),
        dict.fromkeys(songs.track_ids[:200], clip))


FUNNEL = {
    "ingest": {"ok": 520, "failed": {"malformed": 3, "untrusted": 9}},
    "fetch_audio": {"ok": 441, "pending": {"rate_limited": 19},
                    "failed": {"no_match": 38, "removed": 14, "geo_blocked": 6, "age_restricted": 2}},
    "segments": {"ok": 402, "failed": {"too_short": 31, "silent": 4, "undecodable": 4}},
    "fetch_lyrics": {"ok": 290, "failed": {"no_lyrics": 201, "junk_lyrics": 29}, "pending": {}},
    "lyric_embeddings": {"ok": 267}, "track_embeddings": {"ok": 400, "failed": {"one_segment": 2}},
}


def card_of(loss: str, rng: np.random.Generator) -> dict[str, Any]:
    """As beside a model: 600 steps, five validations, the fourth the best."""
    rate, floor = {"ns": (160, 1.35), "wns": (150, 1.25)}.get(loss, (155, 1.33))
    curves = [{"step": s, "loss": float(4.14 * np.exp(-s / rate) + floor + rng.normal(0, 0.12)),
               "learning_rate": float(1e-3 * (1 + np.cos(np.pi * s / 600)) / 2),
               "views_per_s": 21 + float(rng.normal()), "alignment": 0.3 + 0.9 * float(np.exp(-s / 200)),
               "uniformity": -3 + float(np.exp(-s / 100)),
               **({} if loss == "ns" else {"sd_log_w": 0.52 + float(rng.normal(0, 0.03))})}
              for s in range(0, 600, 3)]
    curves.append({**curves[-1], "step": 599})
    validation = [{"step": 120 * (i + 1), "recall@10": value, "recall@1": value / 5}
                  for i, value in enumerate((0.11, 0.16, 0.19, floor / 6, 0.2))]
    return {
        "key": "a" * 64, "loss": loss, "warnings": [],
        "data": {"songs": 402, "segments": 3216, "songs_used": 400, "segments_used": 3214, "batch": 32},
        "training": {"steps": 600, "batch": 32, "temperature": 0.1, "augment": "light", "seed": 0,
                     "priors": {"lyrics": 1.0, "artist": 0.0}},
        "model": {"preset": "tiny", "pretrained": None}, "preset": {"width": 192, "layers": 4},
        "segment_s": 30.0, "parameters": 1_834_752, "weights": "b" * 64,
        "steps": 600, "epochs": [{"epoch": 1}], "seeds": {"training": 0, "split": 7},
        "weighting": None if loss == "ns" else {"sd_log_w": 0.52},
        "validated": {"truth": "similars", "queries": 61, "best": validation[3], "kept_step": 480},
        "versions": {"torch": "2.13.0", "transformers": "5.0.0"}, "curves": curves, "validation": validation,
        "cost": {"seconds": 1812.4, "threads": 2, "views_per_s": 21.2}}


def meaning_of(methods: list[str]) -> dict[str, Any]:
    """The later the method, the better; silhouettes from negative on; nothing but genres for the first."""
    out: dict[str, Any] = {}
    for i, method in enumerate(methods):
        value = {"value": 0.31 + 0.125 * i, "low": 0.27 + 0.125 * i, "high": 0.35 + 0.125 * i}
        out[method] = {"genre_probe": {**value, "songs": 376, "genres": 11, "majority": 0.0975},
                       "genre_knn": {**value, "artist_filter": {k: v - 0.2 for k, v in value.items()}}}
        if i:
            out[method] |= {"clustering": {"nmi": 0.2 * i, "ami": 0.15 * i, "silhouette": -0.1 + 0.1 * i},
                            "same_song": {**value, "segments": 3214, "songs": 400, "unseen": True,
                                          "chance": 0.0022}}
    return out


def study_of(name: str, labels: list[str], *, seeds: int = 5, queries: int = 120,
             ahead: tuple[float, float, float] = (0.021, 0.008, 0.034),
             of_shuffled: tuple[float, float, float] | None = (0.018, 0.006, 0.031)) -> dict[str, Any]:
    """Variants of which each next one is a little worse; `ahead` is WNS − NS, `of_shuffled` WNS − control."""
    recall = {"mfcc": 0.075, "untrained": 0.03, "ns": 0.227, "wns": 0.248, "wns_shuffled": 0.23}
    variants, differences = [], []
    for i, label in enumerate(labels):
        methods = {m: {metric: {"value": v * scale, "low": v * scale - 0.02, "high": v * scale + 0.02}
                       for metric, scale in (("recall@10", 1 - 0.1 * i), ("recall@1", 0.2))}
                   for m, v in recall.items()}
        variants.append({"label": label, "settings": {"segments.trim": label}, "seconds": 5400.0,
                         "methods": methods})
        told = [("wns", "ns", ahead), ("wns", "wns_shuffled", of_shuffled),
                ("ns", "mfcc", (0.15, 0.13, 0.17)), ("mfcc", "untrained", (0.045, 0.03, 0.06))]
        differences += [difference(f"{label}/{a}", f"{label}/{b}", cell) for a, b, cell in told if cell]
        if i:
            differences.append(difference(f"{label}/wns", f"{labels[0]}/wns", (-0.02, -0.04, 0.001)))
    return {"name": name, "over": {} if len(labels) == 1 else {name: labels}, "seeds": list(range(seeds)),
            "metric": "recall@10", "variants": variants, "differences": differences,
            "sd_log_w": {f"{label}/wns": 0.52 for label in labels},
            "protocol": {"ground_truth": "similars", "pool": "everything", "artist_filter": False,
                         "queries": queries, "query_artists": 30, "left_out": 0, "seeds": seeds,
                         "interval": "95 %, percentile bootstrap over the queries' artists and the seeds"}}


def difference(a: str, b: str, cell: tuple[float, float, float]) -> dict[str, Any]:
    value, low, high = cell
    by_seed = [value + (high - low) * i / 8 for i in (-2, -1, 0, 1, 2)]
    return {"a": a, "b": b,
            "metrics": {"recall@10": {"value": value, "low": low, "high": high, "by_seed": by_seed}}}


def without(report: ReportData, *names: str) -> ReportData:
    """The same where these were never made."""
    empty = {"funnel": {}, "training": (), "evaluation": None, "studies": (), "songs": None,
             "places": None, "neighbours": (), "clips": {}, "versions": {}}
    return replace(report, **{name: empty[name] for name in names})
