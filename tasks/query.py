"""The embedding of a song from outside the catalogue. No Prefect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simsong.config import Config
from simsong.errors import ModelError
from storage.store import Store
from tasks.models import FITTED, load_adapted, load_encoder
from tasks.stages import features_label


def embed_windows(store: Store, config: Config, label: str, windows: Sequence[np.ndarray],
                  lengths: Sequence[int]) -> np.ndarray:
    """A song's embedding (dim,) float32 by a model of the store, as the stage `embed` gives it.

    Args:
        windows: waveforms (samples,) float32, 16 kHz mono, of the model's segments.
        lengths: of each, how many samples are the song's own, the rest being repetition.
    Raises: ModelError.
    """
    if label.partition("-")[0] in FITTED:
        from simsong.pretrained.features import song_features
        from simsong.pretrained.musicnn import load

        heard = features_label(config)
        if heard is None:
            raise ModelError(f"{label}: the pretrained network is not here; `simsong pretrained fetch`")
        whole = [window[:length] for window, length in zip(windows, lengths, strict=True)]
        features = song_features(load(heard.rpartition("-")[0]), whole, config.pretrained.patches)
        return load_adapted(store, label).song(np.concatenate(features))
    from simsong.model.embedding import embed_segments, song_embedding

    try:
        encoder = load_encoder(store, label)
    except FileNotFoundError as error:
        raise ModelError(f"{error}: the published model is not there; `simsong run` makes it again") from None
    return song_embedding(embed_segments(encoder, windows))
