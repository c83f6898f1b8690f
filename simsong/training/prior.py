"""What is known of songs before any is heard, and how alike that makes two of them: for Soft InfoNCE."""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags_array
from torch import Tensor

from simsong.config import PriorsSettings
from simsong.errors import ModelError

UNKNOWN = -1                        # the number of an artist or a genre that is not known


class Prior:
    """How alike songs are by their lyrics, artists, genres, tags and words, averaged with `weights` over
    those that are known of both. Where a song has none of them, nothing is known of its pairs.

    Args: of n songs each; None where it is known of no song. What has no weight is left aside.
        lyrics: (n, d) embeddings, NaN rows where a song has none; compared by cosine around their mean.
        artists, genres: (n,) int64, UNKNOWN where there is none; 1 where they are the same, else 0.
        tags, words: (n, labels) sparse weights, of words TF-IDF, empty rows where a song has none; compared
            by cosine.
    Raises: ModelError where nothing given has a weight, or what is given is not of the same n songs.
    """

    def __init__(self, lyrics: np.ndarray | None = None, artists: np.ndarray | None = None,
                 genres: np.ndarray | None = None, tags: csr_matrix | None = None,
                 words: csr_matrix | None = None, *, weights: PriorsSettings) -> None:
        kinds: dict[str, _Known] = {}
        if lyrics is not None and weights.lyrics:
            if lyrics.ndim != 2 or not lyrics.shape[1]:
                raise ModelError(f"lyric embeddings must be (songs, dim), not {lyrics.shape}")
            kinds["lyrics"] = _Known.of_dense(centred(lyrics))
        if artists is not None and weights.artist:
            kinds["artist"] = _Known.of_labels(artists)
        if genres is not None and weights.genre:
            kinds["genre"] = _Known.of_labels(genres)
        if tags is not None and weights.tags:
            kinds["tags"] = _Known.of_sparse(tags)
        if words is not None and weights.words:
            kinds["words"] = _Known.of_sparse(words)
        self._set(kinds, weights)

    def _set(self, by: dict[str, _Known], weights: PriorsSettings) -> None:
        self._by, self.weights = by, weights
        if not by:
            weighted = ", ".join(name for name, weight in weights if weight)
            raise ModelError(f"no song's {weighted} are known, which weigh the negatives; train \"ns\" alone"
                             if weighted else "no prior has a weight (training.priors); train \"ns\" alone")
        if len({len(one.songs) for one in by.values()}) > 1:
            sizes = ", ".join(f"{name} of {len(one.songs)}" for name, one in by.items())
            raise ModelError(f"priors must be of the same songs, not {sizes}")

    def __len__(self) -> int:
        """Of how many songs it is."""
        return len(next(iter(self._by.values())).songs)

    @property
    def known(self) -> np.ndarray:
        """(n,) bool: the songs of which something is known."""
        return np.any([one.songs for one in self._by.values()], axis=0)

    def coverage(self) -> dict[str, int]:
        """Of how many songs lyrics, artist, … are known."""
        return {name: int(one.songs.sum()) for name, one in self._by.items()}

    def matrix(self, songs: np.ndarray) -> Tensor:
        """(batch,) indices of songs → (batch, batch) float32 in [-1, 1], NaN where nothing is known of a
        pair."""
        total = np.zeros((len(songs), len(songs)), np.float32)
        weights = np.zeros_like(total)
        for name, one in self._by.items():
            there = one.songs[songs]
            weight = np.float32(getattr(self.weights, name)) * (there[:, None] & there)
            total += weight * one.cosines(songs)
            weights += weight
        with np.errstate(invalid="ignore"):                     # 0 / 0: not known
            return torch.from_numpy(total / weights)

    def shuffled(self, seed: int) -> Prior:
        """What is known of a song, all of it, dealt to another: the songs of which anything is known pass it
        on along one ring in random order. As much is known as before, with the same likenesses, and no song
        keeps its own where there are two."""
        ring = np.random.default_rng(seed).permutation(np.flatnonzero(self.known))
        dealt = np.arange(len(self))
        dealt[ring] = np.roll(ring, 1)
        return self._of({name: one.take(dealt) for name, one in self._by.items()}, self.weights)

    def digest(self) -> str:
        """Names everything that `matrix` depends on."""
        digest = hashlib.sha256(self.weights.model_dump_json().encode())
        for name, array in sorted(self._arrays().items()):
            digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Writes an .npz, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, weights=np.array(self.weights.model_dump_json()),
                     **self._arrays())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Prior:
        """Raises: ModelError where the file holds no prior, or a damaged one."""
        try:
            with np.load(path, allow_pickle=False) as file:
                saved = dict(file)
            weights = PriorsSettings.model_validate_json(str(saved.pop("weights")))
            names = {key.partition(".")[0] for key in saved}
            return cls._of({name: _Known.of_arrays(name, saved) for name, _ in weights if name in names},
                           weights)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(f"{path}: not a prior of ours ({str(error).partition(chr(10))[0]})") from None

    def _arrays(self) -> dict[str, np.ndarray]:
        return {f"{name}.{part}": array for name, one in self._by.items()
                for part, array in one.arrays().items()}

    @classmethod
    def _of(cls, by: dict[str, _Known], weights: PriorsSettings) -> Prior:
        prior = cls.__new__(cls)                                # what is in it is centred already
        prior._set(by, weights)
        return prior


def centred(lyrics: np.ndarray) -> np.ndarray:
    """(songs, dim) embeddings → (songs, dim) float32 directions from their mean; NaN rows stay NaN.

    Cosines of BERT embeddings lie in a narrow band; around their mean they spread.
    """
    finite = ~np.isnan(lyrics).any(1)
    out = np.full(lyrics.shape, np.nan, np.float32)
    if finite.any():
        rows = lyrics[finite].astype(np.float64)
        rows -= rows.mean(0)
        out[finite] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return out


@dataclass(frozen=True)
class _Known:
    """One thing known of songs: directions whose cosines tell how alike they are."""

    songs: np.ndarray                   # (n,) bool: of which it is known
    rows: np.ndarray | csr_matrix       # (n, d) float32, of length 1; 0 where it is not known

    @staticmethod
    def of_dense(rows: np.ndarray) -> _Known:
        """NaN where it is not known."""
        return _Known(~np.isnan(rows[:, 0]), np.nan_to_num(rows))

    @staticmethod
    def of_sparse(rows: csr_matrix) -> _Known:
        """Empty where it is not known."""
        rows = csr_matrix(rows, dtype=np.float64, copy=True)
        rows.sum_duplicates()
        rows.eliminate_zeros()
        lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(1)).ravel())
        scaled = diags_array(1 / np.where(lengths > 0, lengths, 1)) @ rows
        return _Known(lengths > 0, csr_matrix(scaled, dtype=np.float32))

    @staticmethod
    def of_labels(labels: np.ndarray) -> _Known:
        """(n,): one dimension a label, so that the cosine is 1 or 0."""
        rows = np.flatnonzero(labels != UNKNOWN)
        names, column = np.unique(labels[rows], return_inverse=True)
        ones = np.ones(len(rows), np.float32)
        return _Known.of_sparse(csr_matrix((ones, (rows, column)), shape=(len(labels), len(names))))

    @staticmethod
    def of_arrays(name: str, saved: dict[str, np.ndarray]) -> _Known:
        songs, rows = saved[f"{name}.songs"], saved[f"{name}.rows"]
        if rows.ndim == 1:
            inside = (rows, saved[f"{name}.columns"], saved[f"{name}.starts"])
            n, columns = saved[f"{name}.shape"].tolist()
            return _Known(songs, csr_matrix(inside, shape=(n, columns)))
        return _Known(songs, rows)

    def arrays(self) -> dict[str, np.ndarray]:
        if isinstance(self.rows, np.ndarray):
            return {"songs": self.songs, "rows": self.rows}
        return {"songs": self.songs, "rows": self.rows.data, "columns": self.rows.indices,
                "starts": self.rows.indptr, "shape": np.array(self.rows.shape)}

    def cosines(self, songs: np.ndarray) -> np.ndarray:
        """(batch,) → (batch, batch) float32; 0 where it is not known of both."""
        rows = self.rows[songs]
        cosines = rows @ rows.T
        return cosines if isinstance(cosines, np.ndarray) else cosines.toarray()

    def take(self, songs: np.ndarray) -> _Known:
        return replace(self, songs=self.songs[songs], rows=self.rows[songs])
