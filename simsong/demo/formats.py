"""Writes songs as the Million Song Dataset and Last.fm's write theirs: same groups, fields and types."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from simsong.demo.synth import RATE_HZ, Samples

METADATA_SONGS = np.dtype([
    ("analyzer_version", "S32"), ("artist_7digitalid", "<i4"), ("artist_familiarity", "<f8"),
    ("artist_hotttnesss", "<f8"), ("artist_id", "S32"), ("artist_latitude", "<f8"),
    ("artist_location", "S1024"),
    ("artist_longitude", "<f8"), ("artist_mbid", "S40"), ("artist_name", "S1024"), ("artist_playmeid", "<i4"),
    ("genre", "S1024"), ("idx_artist_terms", "<i4"), ("idx_similar_artists", "<i4"), ("release", "S1024"),
    ("release_7digitalid", "<i4"), ("song_hotttnesss", "<f8"), ("song_id", "S32"), ("title", "S1024"),
    ("track_7digitalid", "<i4")])
_ARRAYS = ("bars_confidence", "bars_start", "beats_confidence", "beats_start", "sections_confidence",
           "sections_start", "segments_confidence", "segments_loudness_max",
           "segments_loudness_max_time", "segments_loudness_start",
           "segments_pitches", "segments_start", "segments_timbre", "tatums_confidence", "tatums_start")
ANALYSIS_SONGS = np.dtype([
    ("analysis_sample_rate", "<i4"), ("audio_md5", "S32"), ("danceability", "<f8"), ("duration", "<f8"),
    ("end_of_fade_in", "<f8"), ("energy", "<f8"), *((f"idx_{name}", "<i4") for name in _ARRAYS),
    ("key", "<i4"),
    ("key_confidence", "<f8"), ("loudness", "<f8"), ("mode", "<i4"), ("mode_confidence", "<f8"),
    ("start_of_fade_out", "<f8"), ("tempo", "<f8"), ("time_signature", "<i4"),
    ("time_signature_confidence", "<f8"),
    ("track_id", "S32")])
MUSICBRAINZ_SONGS = np.dtype([("idx_artist_mbtags", "<i4"), ("year", "<i4")])
_UNKNOWN = ("artist_latitude", "artist_longitude", "song_hotttnesss")
_FILTER: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def sharded(folder: Path, track_id: str, suffix: str) -> Path:
    """folder/A/B/C/TRABC….suffix, as both datasets lie on disk."""
    return folder.joinpath(*track_id[2:5], track_id + suffix)


def write_lastfm(folder: Path, track_id: str, artist: str, title: str, timestamp: str,
                 similars: Sequence[tuple[str, float]], tags: Sequence[tuple[str, int]]) -> None:
    """One JSON file: scores descending, a full match as the integer 1; weights of tags as strings."""
    path = sharded(folder, track_id, ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({
        "artist": artist, "timestamp": timestamp,
        "similars": [[other, 1 if score >= 1 else score] for other, score in similars],
        "tags": [[name, str(weight)] for name, weight in tags],
        "track_id": track_id, "title": title}), "utf-8")


def write_msd(folder: Path, song: Mapping[str, Any], analysis: Mapping[str, Any]) -> None:
    """One HDF5 file.

    Args:
        song: fields of /metadata/songs by name; `terms` [(name, freq, weight)]; `similar_artists`; `year`.
        analysis: fields of /analysis/songs by name, and the arrays beside it (`segments_timbre` (n, 12), …).
    """
    path = sharded(folder, analysis["track_id"], ".h5")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as h5:
        h5.attrs["TITLE"] = np.bytes_("H5 Song File")
        metadata, group, brainz = (h5.create_group(name) for name in ("metadata", "analysis", "musicbrainz"))
        _table(metadata, METADATA_SONGS, song)
        terms = song["terms"]
        _array(metadata, "artist_terms", np.array([name.encode() for name, _, _ in terms], dtype="S256"))
        _array(metadata, "artist_terms_freq", np.array([freq for _, freq, _ in terms], dtype="<f8"))
        _array(metadata, "artist_terms_weight", np.array([weight for _, _, weight in terms], dtype="<f8"))
        similar = [artist_id.encode() for artist_id in song["similar_artists"]]
        _array(metadata, "similar_artists", np.array(similar, dtype="S20"))
        _table(group, ANALYSIS_SONGS, analysis)
        for name in _ARRAYS:
            _array(group, name, np.asarray(analysis[name], dtype="<f8"))
        _table(brainz, MUSICBRAINZ_SONGS, song)
        _array(brainz, "artist_mbtags", np.array([], dtype="S256"))
        _array(brainz, "artist_mbtags_count", np.array([], dtype="<i4"))


def _table(group: h5py.Group, dtype: np.dtype, values: Mapping[str, Any]) -> None:
    row = np.zeros(1, dtype=dtype)
    for name in dtype.names or ():
        value = values.get(name, np.nan if name in _UNKNOWN else None)
        if value is not None:
            row[name] = value.encode() if isinstance(value, str) else value
    group.create_dataset("songs", data=row, maxshape=(None,), chunks=(4,), **_FILTER)


def _array(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
    group.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]),
                         chunks=(256, *values.shape[1:]), **_FILTER)


def segment_features(samples: Samples, starts_s: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
    """What the Echo Nest's analyser gives for each segment, from one 4,096-sample frame at its start.

    Timbre: the first coefficient is the loudness (0..60 dB), the rest a cosine transform of 24 bands in dB.
    Pitches: energy of the twelve pitch classes, the strongest being 1.
    Returns: segments_timbre and segments_pitches, both (n, 12), and segments_loudness_max (n,).
    """
    size = 4096
    padded = np.concatenate([samples, np.zeros(size, dtype=np.float32)])
    at = np.minimum((starts_s * RATE_HZ).astype(int), len(samples) - 1)
    frames = padded[at[:, None] + np.arange(size)] * np.hanning(size).astype(np.float32)
    power = np.abs(np.fft.rfft(frames)) ** 2 / size
    hz = np.arange(power.shape[1]) * (RATE_HZ / size)
    band = np.clip((24 * np.log1p(hz / 300) / np.log1p(RATE_HZ / 2 / 300)).astype(int), 0, 23)
    loud_db = 10 * np.log10(power @ (band[:, None] == np.arange(24)) + 1e-9)
    level = 10 * np.log10(power.sum(axis=1) + 1e-9)
    timbre = np.asarray(dct(loud_db, axis=1, norm="ortho"))[:, :12] * 2
    timbre[:, 0] = np.clip(level + 50, 0, 60)
    classes = np.round(12 * np.log2(np.maximum(hz, 1) / 440) + 69).astype(int) % 12
    audible = ((hz > 60) & (hz < 4000))[:, None] & (classes[:, None] == np.arange(12))
    pitches = power @ audible
    return {"segments_timbre": timbre, "segments_loudness_max": level - 20,
            "segments_pitches": pitches / np.maximum(pitches.max(axis=1, keepdims=True), 1e-12)}
