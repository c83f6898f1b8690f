"""Whether an encoder gets better at finding similar songs, on songs that its steps never see."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from simsong.model.head import Learner
from simsong.training.data import TrainingFeatures

KS = (1, 10)
CHOOSES_BY = "recall@10"
LEAST_QUERIES = 20              # with fewer, the best of a few weights is chosen by noise
SEGMENTS = 2                    # of a song, at most: a validation is to be quick
BATCH, BLOCK = 16, 1024         # segments and queries at a time


@dataclass(frozen=True)
class Validation:
    """Songs that training does not see, and which of them are alike.

    Attributes:
        features: of their segments, and of other songs' or not.
        songs: (n,) indices into `features.track_ids`: the candidates; those with a relevant one are queries.
        relevant: for each of `songs` the rows of `songs` (not of `features`) that are similar to it; its own,
            if there, does not count.
        truth: the name of what says so, as in an evaluation.
    """

    features: TrainingFeatures
    songs: np.ndarray
    relevant: list[np.ndarray]
    truth: str
    _wanted: list[np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        wanted = [np.setdiff1d(rows, [row]) for row, rows in enumerate(self.relevant)]
        if len(wanted) != len(self.songs):
            raise ValueError(f"{len(wanted)} lists of relevant songs for {len(self.songs)} songs")
        object.__setattr__(self, "_wanted", wanted)

    @property
    def queries(self) -> np.ndarray:
        """Rows of `songs` that have a relevant one."""
        return np.flatnonzero([len(rows) for rows in self._wanted])

    @property
    def chooses(self) -> bool:
        """Whether there are enough queries to tell better weights from worse."""
        return len(self.queries) >= LEAST_QUERIES

    def recall(self, encoder: Learner) -> dict[str, float]:
        """recall@k for each of KS, 0 to 1: the share of a query's relevant songs among the k nearest others,
        by cosine; the mean over queries. {} where there are no queries."""
        queries = self.queries
        if not len(queries):
            return {}
        unit = self._embeddings(encoder)
        totals = dict.fromkeys(KS, 0.0)
        for start in range(0, len(queries), BLOCK):
            block = queries[start:start + BLOCK]
            cosines = unit[block] @ unit.T
            cosines[torch.arange(len(block)), torch.from_numpy(block)] = -torch.inf
            nearest = cosines.topk(min(max(KS), len(unit) - 1)).indices.cpu().numpy()
            for row, ranked in zip(block.tolist(), nearest, strict=True):
                hit = np.isin(ranked, self._wanted[row])
                for k in KS:
                    totals[k] += float(hit[:k].sum()) / len(self._wanted[row])
        return {f"recall@{k}": total / len(queries) for k, total in totals.items()}

    def digest(self) -> str:
        """Names all that `recall` depends on beside the encoder."""
        digest = hashlib.sha256(f"{self.truth} {self.features.key}\n".encode())
        for rows in (self.songs, *self._wanted):
            digest.update(np.asarray(rows, np.int64).tobytes() + b"\n")
        return digest.hexdigest()

    @torch.inference_mode()
    def _embeddings(self, encoder: Learner) -> Tensor:
        """(n, dim) of length 1: the mean of a song's segments' directions."""
        device = next(encoder.parameters()).device
        rows, of = self._segments()
        sums = torch.zeros(len(self.songs), encoder.dim, device=device)
        for start in range(0, len(rows), BATCH):
            some = slice(start, start + BATCH)
            features = torch.from_numpy(self.features.array[rows[some]].astype(np.float32)).to(device)
            directions = functional.normalize(encoder(features).float(), dim=1)
            sums.index_add_(0, torch.from_numpy(of[some]).to(device), directions)
        return functional.normalize(sums, dim=1)

    def _segments(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of `features.array` in order, and the row of `songs` that each is of: of a song with more than
        SEGMENTS, those a quarter from either end."""
        by_song = np.argsort(self.features.song, kind="stable")
        counts = np.bincount(self.features.song, minlength=len(self.features.track_ids))
        ends = np.cumsum(counts)
        rows: list[np.ndarray] = []
        for song in self.songs.tolist():
            own = by_song[ends[song] - counts[song]:ends[song]]
            places = (np.arange(SEGMENTS) + 0.5) / SEGMENTS * (len(own) - 1)
            rows.append(own if len(own) <= SEGMENTS else own[np.round(places).astype(int)])
        of = np.repeat(np.arange(len(self.songs)), [len(own) for own in rows])
        joined = np.concatenate(rows) if rows else np.empty(0, np.int64)
        order = np.argsort(joined, kind="stable")
        return joined[order], of[order]
