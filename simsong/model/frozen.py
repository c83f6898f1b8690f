"""Networks of the hub that hear music, as `FrozenEncoder`s: AST and CLAP, by transformers' own code."""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor
from transformers import ASTModel, AutoFeatureExtractor, AutoTokenizer, ClapModel

from simsong.audio.samples import RATE_HZ
from simsong.errors import ModelError
from simsong.model.backbone import read_model, refusals
from simsong.pretrained import cache, hub, musicnn
from simsong.pretrained.features import FrozenEncoder, spread

BATCH = 4                           # patches at a time
AST_WINDOW, AST_HOP = 400, 160      # samples; fixed in ASTFeatureExtractor


class HubEncoder:
    """What both have in common: patches, resampled, through the network's own feature extractor.

    Args: name: what errors call it; extractor: transformers'; samples: of a patch, at the extractor's rate.
    """

    def __init__(self, name: str, model: Any, extractor: Any, samples: int, dim: int) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.name, self.model, self.extractor, self.dim = name, model.eval().to(device), extractor, dim
        self.rate_hz, self.samples = int(extractor.sampling_rate), samples
        self.patch = -(-samples * RATE_HZ // self.rate_hz)

    @torch.inference_mode()
    def features(self, sound: np.ndarray, patches: int) -> np.ndarray:
        starts = spread(len(sound), patches, self.patch)
        patch_sounds = [self._resampled(sound[start:start + self.patch]) for start in starts]
        parts = []
        for first in range(0, len(patch_sounds), BATCH):
            with refusals(self.name, "a network that hears music"):
                inputs = self.extractor(patch_sounds[first:first + BATCH], sampling_rate=self.rate_hz,
                                        return_tensors="pt")
                parts.append(self._outputs(inputs.to(self.model.device)).float().cpu().numpy())
        return np.concatenate(parts)

    def _resampled(self, patch: np.ndarray) -> np.ndarray:
        if self.rate_hz != RATE_HZ:
            patch = soxr.resample(patch, RATE_HZ, self.rate_hz)
        return np.resize(patch, self.samples)

    def _outputs(self, inputs: Any) -> Tensor:
        """The extractor's outputs → (p, dim)."""
        raise NotImplementedError


class ASTEncoder(HubEncoder):
    """Features: the class and distillation tokens' mean, then the patches'."""

    def __init__(self, folder: str) -> None:
        what = "an AST"
        with refusals(folder, what):
            extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
            samples = (extractor.max_length - 1) * AST_HOP + AST_WINDOW       # fill its frames, without zeros
        model = read_model(ASTModel, folder, what)
        super().__init__(folder, model, extractor, samples, 2 * model.config.hidden_size)

    def _outputs(self, inputs: Any) -> Tensor:
        outputs = self.model(input_values=inputs["input_values"])
        return torch.cat([outputs.pooler_output, outputs.last_hidden_state[:, 2:].mean(1)], 1)


class ClapEncoder(HubEncoder):
    """Features: the audio embedding in the space that text shares, L2-normalised."""

    def __init__(self, folder: str) -> None:
        what = "CLAP"
        with refusals(folder, what):
            extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
            samples = int(extractor.nb_max_samples)
            self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = read_model(ClapModel, folder, what)
        super().__init__(folder, model, extractor, samples, model.config.projection_dim)

    def _outputs(self, inputs: Any) -> Tensor:
        # A patch is as long as the extractor wants it: none is longer, of which some checkpoints would hear
        # stretches drawn at random beside the whole. The extractor says so of one in each batch anyway.
        return self.model.get_audio_features(input_features=inputs["input_features"],
                                             is_longer=torch.zeros_like(inputs["is_longer"])).pooler_output

    @torch.inference_mode()
    def text(self, words: str) -> np.ndarray:
        """(dim,) float32, L2-normalised: where the songs lie that the words describe."""
        with refusals(self.name, "CLAP's text side"):
            most = self.model.config.text_config.max_position_embeddings - 2
            tokens = self.tokenizer([words], truncation=True, max_length=most, return_tensors="pt")
            inputs = {name: tokens[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
            return self.model.get_text_features(**inputs).pooler_output[0].float().cpu().numpy()


ENCODERS = {"audio-spectrogram-transformer": ASTEncoder, "clap": ClapEncoder}


def load(network: str) -> FrozenEncoder:
    """A configured network: `auto`, a name of `cache.NETWORKS`, a folder or a hub id. Code that comes with
    one is never run, and pickles are never read.

    Raises: ModelError where it is not here, is damaged, or no network that hears music.
    """
    if network in ("auto", *cache.NETWORKS):
        return musicnn.load("msd-musicnn" if network == "auto" else network)
    if (folder := hub.folder_of(network)) is None:
        raise ModelError(f"{network} is not here; `simsong pretrained fetch {network}`")
    return ENCODERS[hub.kind_of(folder, network)](str(folder))
