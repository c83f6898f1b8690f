"""Lyrics as vectors: a BERT read over the whole text, however long, and averaged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from simsong.config import LyricModelSettings
from simsong.errors import ModelError
from simsong.lyrics.models import model_folder, model_version
from simsong.progress import meter

PADDING = 1.1           # a batch's tokens at most, of those that are some text's own


class LyricEncoder:
    """A BERT (any encoder that transformers loads from safetensors) that embeds texts of any length.

    Raises: ModelError where the model is not there or cannot be loaded.
    """

    def __init__(self, config: LyricModelSettings) -> None:
        folder = model_folder(config.name)
        self.version = model_version(config)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            with _no_loading_bar():
                model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True,
                                                  dtype=torch.float32)
        except Exception as error:      # transformers, tokenizers and safetensors raise types of their own
            first = str(error).strip().split("\n")[0]
            raise ModelError(f"lyric_model.name: {config.name} cannot be loaded ({first})") from error
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.eval().to(self._device)
        self._batch = config.batch
        self._cutting = Lock()          # a tokenizer cannot be told where to cut while it cuts
        self.dim: int = model.config.hidden_size
        self.window: int = _window(folder, self._tokenizer.model_max_length, model.config)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts: (n, dim) float32, rows L2-normalised, the same in any batch (to 1e-5).

        A text is cut into windows of `self.window` tokens that do not overlap (special tokens added to each).
        Its vector is the mean of the last layer over all its tokens, special ones left out: each token of a
        long text weighs the same. Raises ModelError for a text without tokens.
        """
        texts = list(texts)
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        with self._cutting:
            cut = self._tokenizer(texts, truncation=True, max_length=self.window, stride=0, padding=False,
                                  return_overflowing_tokens=True, return_special_tokens_mask=True)
        owner = np.asarray(cut["overflow_to_sample_mapping"])
        # Sorted by length, so that little is padding; the order within one text depends on that text alone.
        order = sorted(range(len(owner)), key=lambda i: (len(cut["input_ids"][i]), owner[i], i))
        sums, tokens = np.zeros((len(texts), self.dim)), np.zeros(len(texts), np.int64)
        with meter("embed lyrics", len(order), "windows") as progress:
            for batch in batches([len(cut["input_ids"][i]) for i in order], self._batch):
                batch = [order[i] for i in batch]
                pooled, counts = self._pool({key: [cut[key][i] for i in batch] for key in cut
                                             if key != "overflow_to_sample_mapping"})
                np.add.at(sums, owner[batch], pooled)
                np.add.at(tokens, owner[batch], counts)
                progress.step(len(batch))
        if not tokens.all():
            raise ModelError(f"text {int(np.argmin(tokens))} has no tokens: nothing to embed")
        means = sums / tokens[:, None]
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    @torch.inference_mode()
    def _pool(self, windows: dict[str, list[list[int]]]) -> tuple[np.ndarray, np.ndarray]:
        """Windows → sums over their own tokens of the last layer (windows, dim) float64, and token counts."""
        padded = self._tokenizer.pad(windows, return_tensors="pt").to(self._device)
        own = padded["attention_mask"] * (1 - padded.pop("special_tokens_mask"))
        states = self._model(**padded).last_hidden_state                        # (windows, tokens, dim)
        sums = (states.double() * own.unsqueeze(-1)).sum(1)
        return sums.cpu().numpy(), own.sum(1).cpu().numpy()


def batches(lengths: Sequence[int], most: int) -> list[range]:
    """Runs of windows, of at most `most` and in order of length, of which padding makes at most PADDING."""
    out, first = list[range](), 0
    for at in range(1, len(lengths) + 1):
        size = at + 1 - first
        if at == len(lengths) or size > most or lengths[at] * size > sum(lengths[first:at + 1]) * PADDING:
            out.append(range(first, at))
            first = at
    return out


def _window(folder: Path, tokenizer_max: int, config: object) -> int:
    """The most tokens that the model was made for, special ones included: sentence-transformers notes what it
    was trained with, which can be less than it has positions for."""
    limits = [tokenizer_max, getattr(config, "max_position_embeddings", None)]
    trained = folder / "sentence_bert_config.json"
    if trained.exists():
        limits.append(json.loads(trained.read_text("utf-8")).get("max_seq_length"))
    return min(limit for limit in limits if limit)


@contextmanager
def _no_loading_bar() -> Iterator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
