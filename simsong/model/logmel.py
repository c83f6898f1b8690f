"""AST's log-mel front end, batched, for a waveform of any length.

The same figures as transformers' `ASTFeatureExtractor` (Kaldi's fbank: 25 ms Hann window, pre-emphasis 0.97,
512-point power spectrum, mel filters from 20 Hz to 8 kHz), which pads or cuts every waveform to 10.24 s. This
one does not.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

RATE_HZ = 16_000
WINDOW, N_FFT = 400, 512                    # samples
BLOCK = 256                                 # frames at a time, which stay in a processor's cache
GROUPS = 4                                  # of neighbouring mel bands
PREEMPHASIS = 0.97
POWER_FLOOR = 1.192092955078125e-07         # float32's epsilon, as in Kaldi
MEAN, STD = -4.2677393, 4.5689974           # of log-mel over AudioSet (AST)
UNITS_PER_DB = math.log(10) / 10 / (2 * STD)    # what 1 dB is in normalised features


class LogMel(nn.Module):
    """Waveforms to normalised log-mel features.

    Args:
        n_mels: mel bands between 20 Hz and 8 kHz.
        hop_ms: from frame to frame; AST has 10.
    """

    def __init__(self, n_mels: int = 128, hop_ms: int = 10) -> None:
        super().__init__()
        self.n_mels, self.hop = n_mels, hop_ms * RATE_HZ // 1000
        window = np.hanning(WINDOW)
        with warnings.catch_warnings():     # of 128 bands the narrowest are empty, in AST's own too
            warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
            bank = mel_filter_bank(N_FFT // 2 + 1, n_mels, 20, RATE_HZ / 2, RATE_HZ, mel_scale="kaldi",
                                   triangularize_in_mel_space=True)
        self.window: Tensor
        self.bank: Tensor
        self.register_buffer("window", torch.from_numpy(window), persistent=False)
        self.register_buffer("bank", torch.from_numpy(bank.astype(np.float32)), persistent=False)
        # A band hears few of the spectrum's lines: with those of a few bands at a time, most of the products
        # with zeros are left out.
        self.groups: list[tuple[slice, slice]] = []             # lines, bands
        for bands in np.array_split(np.arange(n_mels), GROUPS):
            lines = np.flatnonzero(bank[:, bands].any(1))
            self.groups.append((slice(lines[0], lines[-1] + 1), slice(bands[0], bands[-1] + 1)))

    def frames(self, samples: int) -> int:
        """Frames of a waveform of so many samples: 2,998 for 30 s at 10 ms. Only whole windows count."""
        return 1 + (samples - WINDOW) // self.hop

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """(batch, samples) at 16 kHz, full scale 1 → (batch, frames, n_mels), float32."""
        # In double precision, since beside a loud tone single precision is off by more than 1e-4 at the
        # floor; and on a processor in blocks, which makes up for it.
        x = waveform.double()
        emphasised = torch.cat([x[:, :1], x[:, 1:] - PREEMPHASIS * x[:, :-1]], 1)
        out = x.new_empty((len(x), self.frames(x.shape[1]), self.n_mels), dtype=torch.float32)
        block = BLOCK if x.device.type == "cpu" else out.shape[1]
        for row, row_emphasised, target in zip(x, emphasised, out, strict=True):
            blocks = (part.unfold(0, WINDOW, self.hop).split(block) for part in (row, row_emphasised))
            for raw, frames, to in zip(*blocks, target.split(block), strict=True):
                # Kaldi takes a frame's mean off before pre-emphasis, which leaves (1 - 0.97) of it to be
                # taken off after. It emphasises a frame's first sample by itself, but there the window is 0
                # anyway.
                frames = (frames - (1 - PREEMPHASIS) * raw.mean(1, keepdim=True)).mul_(self.window)
                spectrum = torch.fft.rfft(frames, n=N_FFT)
                power = spectrum.real.square().add_(spectrum.imag.square()).float()
                for lines, bands in self.groups:
                    torch.mm(power[:, lines], self.bank[lines, bands], out=to[:, bands])
                to.clamp_(min=POWER_FLOOR).log_().sub_(MEAN).div_(2 * STD)
        return out
