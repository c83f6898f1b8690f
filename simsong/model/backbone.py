"""What an encoder is built around: a pretrained or new network that makes tokens of a segment.

Another network is one file beside `ast.py` and `waveform.py`, a line in `encoder.BACKBONES` and a preset.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

from simsong.errors import ModelError
from simsong.model.presets import Preset


class Backbone(nn.Module, ABC):
    """Segments → features (without weights, kept on disk for training) → tokens.

    Its network stays in evaluation mode while an encoder trains: dropout and masks would be drawn as a batch
    goes through, and then a batch in chunks would not be the whole batch. What a training view lacks is drawn
    beforehand instead (`draw_patchout`).

    Attributes:
        dim: of a token.
        special: how many of the first tokens stand for the whole view, and for no patch of it.
        feature_shape: of a segment; its first axis is time.
        front_end: makes features of waveforms (see `Encoder.features`); has no weights, and may be sent to
            the processes that prepare data.
    """

    dim: int
    special: int
    feature_shape: tuple[int, ...]
    front_end: nn.Module

    @classmethod
    @abstractmethod
    def new(cls, preset: Preset, segment_s: float, pretrained: str | None) -> Backbone:
        """From scratch (torch's seed), or with the weights of a folder or hub id. Raises: ModelError."""

    @classmethod
    @abstractmethod
    def empty(cls, preset: Preset, segment_s: float, architecture: dict[str, Any]) -> Backbone:
        """One into which saved weights are to be loaded: needs neither the net nor other files."""

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """What `empty` needs beside preset and segment_s; goes through JSON."""

    @abstractmethod
    def forward(self, features: Tensor, at: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """(n, *feature_shape) → (n, special + patches, dim); each view by itself.

        Args:
            at: (n,) int64; where given, features are shorter along time, and start so many strides into their
                segments.
            keep: (n, kept) int64; where given, only these patches are looked at.
        """

    @abstractmethod
    def patches(self, shape: tuple[int, ...]) -> int:
        """How many patches a view's features (of that shape) have that patchout may leave out; 0: none."""

    @abstractmethod
    def stages(self) -> list[list[nn.Parameter]]:
        """The network's parameters from below: the embeddings', then each layer's. What is above the highest
        layer is left out."""


@contextmanager
def refusals(pretrained: str, what: str) -> Iterator[None]:
    """Whatever transformers says of a folder or hub id that it does not load becomes one line."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:          # of files, safetensors, tokenizers, huggingface_hub's own validation
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{pretrained}: not to be loaded as {what} ({said})") from None


def read_config(pretrained: str, what: str) -> Any:
    """transformers' configuration of a folder or hub id. Code that comes with a model is never run."""
    with refusals(pretrained, what):
        return AutoConfig.from_pretrained(pretrained, trust_remote_code=False)


def read_model(kind: Any, pretrained: str, what: str, *, unused: frozenset[str] = frozenset()) -> Any:
    """The network, in single precision. Pickles are never read.

    Args:
        kind: transformers' class of it, e.g. AutoModel.
        unused: weights that may be missing.
    Raises: ModelError where it does not load, or weights are missing that would be left at random.
    """
    with refusals(pretrained, what), _quietly():
        model, loading = kind.from_pretrained(pretrained, use_safetensors=True, trust_remote_code=False,
                                              dtype="float32", output_loading_info=True)
    if missing := sorted(set(loading["missing_keys"]) - unused):
        raise ModelError(f"{pretrained}: not to be loaded as {what} (it lacks {len(missing)} weights, e.g. "
                         f"{missing[0]})")
    return model


@contextmanager
def _quietly() -> Iterator[None]:
    """Without bars, and without a table of what a checkpoint holds beside what is asked for; what it lacks is
    an error here."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
