"""The embedding of a song from outside the catalogue."""

from __future__ import annotations

import numpy as np

from simsong.audio.samples import RATE_HZ, Samples
from simsong.audio.segments import cut, decode_segment, own_samples
from simsong.audio.trim import trim
from simsong.config import Config
from simsong.errors import ModelError
from simsong.parts.stages import MFCC, features_label
from simsong.pretrained import cache
from simsong.registry.models import is_of_features, load_adapted, load_encoder
from simsong.registry.published import Scale, joined
from storage.catalogue import Catalogue
from storage.exports import Published
from storage.store import Store
from storage.vectors import matrix


def embed_sound(store: Store, config: Config, published: Published, samples: Samples,
                subject: str) -> np.ndarray:
    """A song's published embedding (dim,) float32, as the stages give it.

    Args: samples: (n,) float32, 16 kHz mono, the whole song; subject: what errors name.
    Raises: ModelError; SongError where it is silent, or too short.
    """
    scales = {label: Scale.read(values) for label, values in published.scales.items()}
    vectors = {label: _embedded(store, config, label, samples, subject) for label in published.parts}
    if len(vectors) == 1 and not scales:
        return vectors[published.parts[0]]
    return joined({label: vector[None] for label, vector in vectors.items()}, scales)[0]


def _embedded(store: Store, config: Config, label: str, samples: Samples, subject: str) -> np.ndarray:
    """By one model."""
    network = features_label(config)
    if label == network or is_of_features(store, label):
        if network is None:
            raise ModelError(f"{label}: the pretrained network is not here; `simsong pretrained fetch`")
        from simsong.model.frozen import load
        from simsong.pretrained.features import alone, song_features

        _, features = song_features(load(config.pretrained.network), samples, config.pretrained.patches)
        return alone(network, features) if label == network else load_adapted(store, label).song(features)
    windows = _windows(samples, config, subject)
    if label == MFCC:
        from simsong.audio.mfcc import mfcc_statistics

        return np.mean([mfcc_statistics(window[:own]) for window, own in windows], axis=0)
    from simsong.model.embedding import embed_segments, song_embedding

    encoder = load_encoder(store, label)
    return song_embedding(embed_segments(encoder, [window for window, _ in windows]))


def _windows(samples: Samples, config: Config, subject: str) -> list[tuple[Samples, int]]:
    """A song's segments, and how many samples of each are its own; a clip that is shorter than one is
    repeated to fill it."""
    segment_s = config.segments.length_s
    body = trim(samples, config.trim, keep_s=segment_s, fade_in_end_s=None, fade_out_start_s=None)
    start_s, end_s = body.start_s, body.end_s
    if len(samples) / RATE_HZ < segment_s and config.segments.short == "skip":
        samples, start_s, end_s = np.resize(samples, round(segment_s * RATE_HZ)), 0.0, segment_s
    return [(decode_segment(window.audio), own_samples(window.start_s, window.end_s))
            for window in cut(samples, start_s, end_s, config.segments, subject=subject)]


def text_query(store: Store, config: Config, words: str) -> tuple[str, np.ndarray, list[str], np.ndarray]:
    """Words and songs in the space that a network's text side and audio side share.

    Returns: the label of the network; the words' embedding (dim,); ids and embeddings (songs, dim) of the
        catalogue's songs that it has heard. All L2-normalised.
    Raises: ModelError where the network has no text side, or has heard no song yet.
    """
    from simsong.model.frozen import ClapEncoder, load
    from simsong.pretrained import hub

    name = config.pretrained.network
    folder = None if name in ("auto", "none", *cache.NETWORKS) else hub.folder_of(name)
    if folder is None or hub.kind_of(folder, name) != "clap":
        fetch = f"`simsong pretrained fetch {name}`" if folder is None and "/" in name else \
            "pretrained.network names one, e.g. laion/larger_clap_music"
        here = "none is here" if name in ("auto", "none") else f"{name} is none that is here"
        raise ModelError(f"--text needs a network with a text side, CLAP, and {here}; {fetch}")
    label = features_label(config)
    rows = Catalogue(store).read("track_embeddings", partition=label, columns=["track_id", "embedding"])
    if not rows.num_rows:
        raise ModelError(f"{name} has heard no song of this store yet; `simsong run` has it do so")
    network = load(name)
    assert isinstance(network, ClapEncoder) and label is not None
    vectors = matrix(rows)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return label, network.text(words), rows["track_id"].to_pylist(), vectors
