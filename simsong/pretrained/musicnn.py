"""musicnn's forward pass: a convolutional music tagger, as features of 3 s patches.

Network and weights: Pons & Serra, "musicnn: Pre-trained convolutional neural networks for music audio
tagging", ISMIR 2019 (late-breaking); the same arithmetic as `musicnn/models.py` in its wheel.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import librosa
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from simsong.errors import ModelError
from simsong.pretrained import cache
from simsong.pretrained.features import BLOCKS, WIDTH, spread

RATE_HZ = 16_000
WINDOW, HOP = 512, 256              # samples
BANDS = 96                          # mel bands (Slaney's), 0 to 8 kHz
FRAMES = 187                        # of a patch
PATCH = FRAMES * HOP                # samples of a patch, 2.99 s; its first and last window reach HOP further
TALL, TAPS = (38, 67), 7            # timbral filters: bands high, frames long
LONG = (128, 64, 32)                # temporal filters: one band high, so many frames long
BLOCK = 11                          # frames of temporal filters in one product: the fastest of 4 … 22
PHASES = 4                          # bands that timbral filters move at a time
EPSILON = 1e-3                      # of TensorFlow's batch normalisation
LEAST = RATE_HZ                     # samples of the shortest sound
BATCH = 10                          # patches at a time

Features = dict[str, np.ndarray]
FRONT, MIDDLE = (204, 204, 51, 51, 51), 64          # filters
KERNELS: dict[str, list[tuple[int, ...]]] = {       # TensorFlow's, in its order
    "conv2d": [*((TAPS, height, 1, 204) for height in TALL), *((length, 1, 1, 51) for length in LONG),
               (TAPS, sum(FRONT), 1, MIDDLE), *[(TAPS, MIDDLE, 1, MIDDLE)] * 2],
    "dense": [(1506, 200), (200, 50)]}
NORMALISED = (1, *FRONT, *[MIDDLE] * 3, 1506, 200)  # what each batch normalisation is of
WIDTHS = {"penultimate": 200, "mean_pool": 753, "max_pool": 753, "tags": 50}


def _layer(kind: str, number: int, part: str) -> str:
    """A tensor's name in the checkpoint."""
    return f"{kind}_{number}/{part}" if number else f"{kind}/{part}"


SHAPES: dict[str, tuple[int, ...]] = {
    **{_layer(kind, number, part): shape if part == "kernel" else shape[-1:]
       for kind, shapes in KERNELS.items() for number, shape in enumerate(shapes)
       for part in ("kernel", "bias")},
    **{_layer("batch_normalization", number, part): (width,) for number, width in enumerate(NORMALISED)
       for part in ("gamma", "beta", "moving_mean", "moving_variance")}}


class MusicNN(nn.Module):
    """Patches → features. Batch normalisation is folded into what comes after or before it.

    A timbral filter spans 7 frames and 38 or 67 bands, and only its maximum over the bands is used. So each
    height's filters are matrices, which are multiplied with a window of the (7 frames · 96 bands) around each
    frame, moved four bands at a time; windows are views, and only the maximum so far is kept. Temporal
    filters likewise, moved along time, with a maximum over the bands.

    Args:
        weights: the checkpoint's tensors under their names there.
    Raises: ModelError where one is missing or has another shape.
    """

    rate_hz, patch, dim = RATE_HZ, PATCH, WIDTH

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        for name, shape in SHAPES.items():
            if name not in weights or weights[name].shape != shape:
                raise ModelError(f"no weights of musicnn ({name} is not there, or not of shape {shape})")
        self._fold({name: torch.tensor(weights[name]) for name in SHAPES})

    def _fold(self, weights: dict[str, Tensor]) -> None:
        def layer(kind: str, number: int, part: str) -> Tensor:
            return weights[_layer(kind, number, part)]

        def affine(number: int) -> tuple[Tensor, Tensor]:
            """Batch normalisation as scale and shift."""
            gamma, beta, mean, variance = (layer("batch_normalization", number, part) for part in (
                "gamma", "beta", "moving_mean", "moving_variance"))
            scale = gamma / torch.sqrt(variance + EPSILON)
            return scale, beta - mean * scale

        for part, value in zip(("scale", "shift"), affine(0), strict=True):
            self.register_buffer(f"input_{part}", value)
        scales, shifts, biases, signs = [], [], [], []
        for number, height in enumerate((*TALL, *LONG)):
            kernel = layer("conv2d", number, "kernel")[:, :, 0]         # (frames, bands, filters)
            scale, shift = affine(number + 1)
            # The maximum of scale·relu(x) + shift is at the least x where the scale is negative.
            sign = torch.where(scale < 0, -1.0, 1.0)
            scales.append(scale)
            shifts.append(shift)
            biases.append(layer("conv2d", number, "bias"))
            signs.append(sign)
            if height in TALL:      # the bands that filters have in common with each of four phases
                bands = functional.pad(kernel.permute(1, 0, 2) * sign, (0, 0, 0, 0, 0, -height % PHASES))
                first, second, third, fourth = (bands[at::PHASES].flatten(0, 1) for at in range(PHASES))
                halves = (first + third, second + fourth), (first, second), (third, fourth)
                matrix = torch.stack([part for a, b in halves for part in (a + b, a, b)])
            else:                   # BLOCK copies, each a frame later
                matrix = torch.zeros(height + BLOCK - 1, BLOCK, len(sign))
                for frame in range(BLOCK):
                    matrix[frame:frame + height, frame] = kernel[:, 0] * sign
                matrix = matrix.flatten(1)
            self.register_buffer(f"filters_{number}", matrix.contiguous())
        for name, parts in (("scale", scales), ("shift", shifts), ("bias", biases), ("sign", signs)):
            self.register_buffer(f"front_{name}", torch.cat(parts))
        for number in (5, 6, 7):    # (frames, features, 1, filters) → (filters, features, frames)
            scale, shift = affine(number + 1)
            kernel = layer("conv2d", number, "kernel")[:, :, 0].permute(2, 1, 0)
            self.register_buffer(f"kernel_{number}", kernel.contiguous())
            self.register_buffer(f"bias_{number}", layer("conv2d", number, "bias"))
            self.register_buffer(f"scale_{number}", scale[:, None])
            self.register_buffer(f"shift_{number}", shift[:, None])
        scale, shift = affine(9)
        dense = layer("dense", 0, "kernel")
        self.register_buffer("dense", (dense * scale[:, None]).t().contiguous())
        self.register_buffer("dense_bias", layer("dense", 0, "bias") + shift @ dense)
        scale, shift = affine(10)
        tags = layer("dense", 1, "kernel")
        self.register_buffer("tags", (tags * scale[:, None]).t().contiguous())
        self.register_buffer("tags_bias", layer("dense", 1, "bias") + shift @ tags)

    @torch.inference_mode()
    def forward(self, patches: Tensor) -> dict[str, Tensor]:
        """(n, FRAMES, BANDS) float32, log10(1 + 10000·mel) → by name, (n, width) each.

        penultimate: the dense layer before its ReLU; mean_pool, max_pool: over time, of what the front and
        the three middle layers make; tags: logits.
        """
        at = self.get_buffer
        x = patches * at("input_scale") + at("input_shift")
        front = torch.cat([*self._timbral(x), *self._temporal(x)], 2) * at("front_sign")
        front = functional.relu(front + at("front_bias")) * at("front_scale") + at("front_shift")
        layers = [front.transpose(1, 2)]
        for number in (5, 6, 7):
            below = layers[-1].contiguous()
            y = functional.conv1d(below, at(f"kernel_{number}"), at(f"bias_{number}"), padding=TAPS // 2)
            y = functional.relu(y) * at(f"scale_{number}") + at(f"shift_{number}")
            layers.append(y if number == 5 else y + below)
        joined = torch.cat(layers, 1)
        mean, most = joined.mean(2), joined.amax(2)
        pools = torch.stack([most, mean], 2).flatten(1)         # alternating, as TensorFlow flattens them
        penultimate = functional.linear(pools, at("dense"), at("dense_bias"))
        tags = functional.linear(functional.relu(penultimate), at("tags"), at("tags_bias"))
        return {"penultimate": penultimate, "mean_pool": mean, "max_pool": most, "tags": tags}

    def _timbral(self, x: Tensor) -> list[Tensor]:
        """(n, frames, bands) → (n, frames, filters) for each height: signed maxima, without bias.

        At place 4i + r a filter gives the sum over s of w[s]·x[r + s], where w[s] is every fourth band of it
        from s on, and x[q] every fourth band of the sound from 4i + q on. Nine products give all four sums in
        place of sixteen: a·u + b·v and b·u + c·v are m + (a − b)·u and m + (c − b)·v with m = b·(u + v), and
        this holds for pairs of places in a, b, c as well (Mou & Duhamel, "Short-length FIR filters and their
        use in fast nonrecursive filtering", IEEE Trans. Signal Processing 39, 1991).
        """
        n, frames, bands = x.shape
        around = functional.pad(x, (0, -bands % PHASES + 2 * PHASES, TAPS // 2, TAPS // 2)).unfold(1, TAPS, 1)
        width = (-(-bands // PHASES) + 1) * TAPS
        phases = [around[:, :, at::PHASES].reshape(n, frames, -1) for at in range(PHASES)]
        shifted = [*(phase[:, :, :width] for phase in phases),
                   *(phase[:, :, TAPS:TAPS + width] for phase in phases[:-1])]
        middle = shifted[2:5]
        ahead, behind = ([one - other for one, other in zip(some, middle, strict=True)]
                         for some in (shifted[:3], shifted[4:]))
        parts = [part for a, b, c in (middle, ahead, behind) for part in (b.contiguous(), a - b, c - b)]
        out = []
        for number, height in enumerate(TALL):
            filters, places = self.get_buffer(f"filters_{number}"), bands - height + 1
            most = x.new_full((n, frames, filters.shape[2]), -torch.inf)
            both, other, even, odd = (torch.empty_like(most[0]) for _ in range(4))
            for row in range(n):                    # one patch at a time stays in the processor's cache
                for place in range(0, places, PHASES):
                    at = place // PHASES * TAPS
                    windows = [part[row, :, at:at + filters.shape[1]] for part in parts]
                    torch.mm(windows[0], filters[0], out=both)
                    other.copy_(both)
                    torch.addmm(both, windows[1], filters[1], out=both)
                    torch.addmm(other, windows[2], filters[2], out=other)
                    for part, left in ((3, places - place), (6, places - place - 2)):
                        if left <= 0:
                            break
                        torch.mm(windows[part], filters[part], out=even)
                        if left > 1:
                            torch.add(even, other, out=odd)
                            torch.addmm(odd, windows[part + 2], filters[part + 2], out=odd)
                            torch.maximum(most[row], odd, out=most[row])
                        even.add_(both)
                        torch.addmm(even, windows[part + 1], filters[part + 1], out=even)
                        torch.maximum(most[row], even, out=most[row])
            out.append(most)
        return out

    def _temporal(self, x: Tensor) -> list[Tensor]:
        """As `_timbral`, for each length."""
        n, frames, bands = x.shape
        blocks = -(-frames // BLOCK)
        out = []
        for number, length in enumerate(LONG, len(TALL)):
            filters = self.get_buffer(f"filters_{number}")
            before = (length - 1) // 2                                  # TensorFlow's "same"
            after = length + blocks * BLOCK - 1 - frames - before
            rows = functional.pad(x.transpose(1, 2), (before, after)).contiguous()
            most = x.new_empty(n, blocks, filters.shape[1])
            product = x.new_empty(bands, filters.shape[1])              # stays in the processor's cache
            for row in range(n):
                for block in range(blocks):
                    at = block * BLOCK
                    torch.mm(rows[row, :, at:at + length + BLOCK - 1], filters, out=product)
                    torch.amax(product, 0, out=most[row, block])
            out.append(most.unflatten(2, (BLOCK, -1)).flatten(1, 2)[:, :frames])
        return out

    def extract(self, waveform: np.ndarray, patches: int | None = 10) -> Features:
        """A sound's features by name, (n, width) float32, patch by patch.

        Args:
            waveform: (samples,) float32 in [-1, 1], 16 kHz mono, of at least a second. What is shorter than a
                patch is repeated until it fills one.
            patches: how many at most, spread evenly over the sound; None: as many as it takes to hear it all.
        Raises: ModelError for other waveforms.
        """
        if waveform.ndim != 1 or len(waveform) < LEAST or not np.isfinite(waveform).all():
            raise ModelError(f"musicnn takes finite samples (n,), n at least {LEAST}, not {waveform.shape}")
        waveform = np.resize(waveform, max(len(waveform), PATCH)).astype(np.float32, copy=False)
        starts = spread(len(waveform), patches, PATCH)
        parts = [self(log_mel(waveform, starts[first:first + BATCH]))
                 for first in range(0, len(starts), BATCH)]
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in WIDTHS}

    def features(self, sound: np.ndarray, patches: int) -> np.ndarray:
        """As `FrozenEncoder` has it: the blocks of `features.BLOCKS`, side by side."""
        blocks = self.extract(sound, patches)
        return np.concatenate([blocks[name] for name in BLOCKS], axis=1)


def load(name: str) -> MusicNN:
    """One of `cache.NETWORKS`. Raises: ModelError where it is not here, or damaged."""
    return MusicNN(cache.load(cache.find(name)))


def log_mel(waveform: np.ndarray, starts: np.ndarray) -> Tensor:
    """(n, FRAMES, BANDS) float32: what the network takes, of patches that begin at these samples.

    As `librosa.feature.melspectrogram` of the whole waveform, cut at these samples where they are multiples
    of HOP; in float32 throughout, where musicnn rounds mel to float16 and overflows with NumPy 2.
    """
    padded = np.pad(waveform, HOP)                      # frames are centred; beyond the ends is silence
    patches = np.stack([padded[start:start + PATCH + HOP] for start in starts])
    window, filters = _front_end()
    frames = torch.from_numpy(patches).unfold(1, WINDOW, HOP)             # (n, FRAMES, WINDOW)
    spectrum = torch.fft.rfft(frames * window)
    power = torch.view_as_real(spectrum).square().sum(-1)
    return torch.log10(1 + 10_000 * (power @ filters))


@lru_cache(maxsize=1)
def _front_end() -> tuple[Tensor, Tensor]:
    """A periodic Hann window (WINDOW,), mel filters (WINDOW / 2 + 1, BANDS)."""
    filters = librosa.filters.mel(sr=RATE_HZ, n_fft=WINDOW, n_mels=BANDS)
    return torch.hann_window(WINDOW), torch.from_numpy(filters.T.astype(np.float32))
