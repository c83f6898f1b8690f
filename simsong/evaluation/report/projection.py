"""The 2-D map: PCA, then t-SNE, with a fixed seed."""

from __future__ import annotations

import numpy as np


def project(unit: np.ndarray, seed: int = 0) -> np.ndarray:
    """(n, 2) of unit vectors (n, d), n at least 2; neighbours stay neighbours, distances between groups mean
    little."""
    from sklearn.decomposition import PCA  # 1 s to import, and only the report needs it
    from sklearn.manifold import TSNE

    n, d = unit.shape
    flat = PCA(min(50, n, d), random_state=seed).fit_transform(unit.astype(np.float64))
    if n < 10:
        return np.pad(flat, ((0, 0), (0, 2)))[:, :2]
    return TSNE(2, perplexity=min(30.0, (n - 1) / 3), init="random" if flat.shape[1] < 2 else "pca",
                random_state=seed).fit_transform(flat)
