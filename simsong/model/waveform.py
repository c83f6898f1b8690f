"""Any network of transformers that takes samples, as a backbone: wav2vec 2.0, HuBERT, WavLM, …

Patchout leaves nothing out here: most of the work is in the convolutions over samples, before there are steps
to leave out. Shorter views (`Preset.view`) make training cheap instead.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin

from simsong.errors import ModelError
from simsong.model.backbone import Backbone, read_config, read_model
from simsong.model.logmel import RATE_HZ
from simsong.model.presets import Preset

WHAT = "a model of transformers that takes samples"
VARIANCE_FLOOR = 1e-7               # as in Wav2Vec2FeatureExtractor
# Looked at where a model hides steps of its input from itself, which is never done here.
UNUSED = frozenset({"masked_spec_embed"})


class Waveform(Backbone):
    """Args:
        model: takes (n, samples), and gives `last_hidden_state` (n, steps, dim).
        normalise: whether it wants a segment's samples at mean 0 and variance 1.
    """

    special = 0

    def __init__(self, segment_s: float, model: PreTrainedModel, normalise: bool) -> None:
        super().__init__()
        self.segment_s, self.model = segment_s, model
        self.front_end = Samples(normalise)
        self.dim: int = model.config.hidden_size
        self.feature_shape = (round(segment_s * RATE_HZ),)

    @classmethod
    def new(cls, preset: Preset, segment_s: float, pretrained: str | None) -> Waveform:
        if preset.centred:
            raise ModelError("training.centred is for presets over log-mel bands, which samples do not have")
        if pretrained is None:
            raise ModelError(f"preset {preset.name} starts from weights: set model.pretrained to a folder or "
                             "hub id of a model that takes samples, e.g. facebook/wav2vec2-base")
        kind, normalises = read_config(pretrained, WHAT).model_type, _normalises(pretrained)
        model = read_model(AutoModel, pretrained, WHAT, unused=UNUSED)
        try:
            with torch.no_grad():
                _, steps, dim = model(torch.zeros(1, RATE_HZ)).last_hidden_state.shape
        except Exception:                   # whatever a network of another kind has to say of samples
            steps = dim = 0
        if not steps or dim != getattr(model.config, "hidden_size", None):
            raise ModelError(f"{pretrained}: {kind!r} is not {WHAT}")
        return cls(segment_s, model, normalises)

    @classmethod
    def empty(cls, preset: Preset, segment_s: float, architecture: dict[str, Any]) -> Waveform:
        config = AutoConfig.for_model(**architecture["model"])
        model = AutoModel.from_config(config, trust_remote_code=False)
        return cls(segment_s, model, architecture["normalise"])

    def architecture(self) -> dict[str, Any]:
        model = json.loads(self.model.config.to_json_string(use_diff=False))
        for key in ("_name_or_path", "auto_map"):       # where it came from is not what it is
            model.pop(key, None)
        return {"normalise": self.front_end.normalise, "model": model}

    def patches(self, shape: tuple[int, ...]) -> int:
        return 0

    def forward(self, features: Tensor, at: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """`at` only says that views may be shorter: these models know positions from each other alone."""
        if features.ndim != 2 or (at is None and features.shape[1:] != self.feature_shape):
            raise ModelError(f"this encoder takes {self.feature_shape[0]} samples ({self.segment_s:g} s), "
                             f"not {tuple(features.shape[1:])}")
        if keep is not None:
            raise ModelError("this encoder leaves out no patches")
        return self.model(features).last_hidden_state

    def stages(self) -> list[list[nn.Parameter]]:
        layers = list(_layers(self.model))
        inside = {id(parameter) for layer in layers for parameter in layer.parameters()}
        below = [parameter for name, parameter in self.model.named_parameters()
                 if id(parameter) not in inside and not self._is_above(name)]
        return [below, *(list(layer.parameters()) for layer in layers)]

    def _is_above(self, name: str) -> bool:
        """Whether a parameter outside of the layers works on what they make."""
        last_norm = getattr(self.model.config, "do_stable_layer_norm", False)
        return name.startswith("adapter.") or (last_norm and name.startswith("encoder.layer_norm."))


class Samples(nn.Module):
    """The samples themselves, as `Wav2Vec2FeatureExtractor` gives them."""

    def __init__(self, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise

    @torch.no_grad()
    def forward(self, waveforms: Tensor) -> Tensor:
        """(n, samples) → (n, samples) float32, where asked for at mean 0 and variance 1."""
        waveforms = waveforms.float()
        if not self.normalise:
            return waveforms
        variance, mean = torch.var_mean(waveforms, 1, correction=0, keepdim=True)
        return (waveforms - mean) / (variance + VARIANCE_FLOOR).sqrt()


def _layers(model: nn.Module) -> nn.ModuleList:
    layers = getattr(getattr(model, "encoder", None), "layers", None)
    return layers if isinstance(layers, nn.ModuleList) else nn.ModuleList()


def _normalises(pretrained: str) -> bool:
    """What the model's own feature extractor does. Raises: ModelError for one of another rate."""
    try:
        settings, _ = FeatureExtractionMixin.get_feature_extractor_dict(pretrained)
    except (OSError, ValueError):
        settings = {}                               # then it is as most are
    if (rate_hz := settings.get("sampling_rate", RATE_HZ)) != RATE_HZ:
        raise ModelError(f"{pretrained}: takes {rate_hz} Hz, and segments are of {RATE_HZ} Hz")
    return bool(settings.get("do_normalize", True))
