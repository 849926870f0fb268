"""A sound as its spectrogram, inside the encoder."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyro_bvae.checks import check_count
from pyro_bvae.networks.base import Encoder
from pyro_bvae.networks.residual import residual_encoder


class Spectrogram(nn.Module):
    """log(1 + |STFT|) of a sound: `[..., samples]` to `[..., rows, frames]`.

    rows = window / 2 + 1 frequencies, frames = samples // hop + 1; a Hann window, the ends
    reflected. Frequency k is k · rate / window.

    Args:
        window: the length of a frame in samples, even.
        hop: from one frame to the next.

    Raises: ValueError if `window` is odd or < 2, or `hop` < 1.

    References:
        Allen, Rabiner (1977), A Unified Approach to Short-Time Fourier Analysis and Synthesis.

    >>> Spectrogram(window=64, hop=16)(torch.zeros(5, 1, 1000)).shape
    torch.Size([5, 1, 33, 63])
    """

    hann: Tensor

    def __init__(self, *, window: int, hop: int) -> None:
        super().__init__()
        if check_count(window, "window") % 2:
            raise ValueError(f"window: expected an even number, got {window}")
        self.hop = check_count(hop, "hop")
        self.register_buffer("hann", torch.hann_window(window))

    def forward(self, x: Tensor) -> Tensor:
        """Return the spectrogram of x."""
        window = len(self.hann)
        flat = x.reshape(-1, x.shape[-1])
        spectrum = torch.stft(flat, window, self.hop, window=self.hann, return_complex=True)
        rows = torch.log1p(spectrum.abs())
        return rows.reshape(*x.shape[:-1], *rows.shape[-2:])


def spectrogram_encoder(
    shape: Sequence[int], *, window: int = 64, hop: int = 16, features: int = 256, **stages: Any
) -> Encoder:
    """See a sound as its spectrogram: x `[batch, channels, samples]` to `[batch, features]`.

    The raw sound goes in and is what the likelihood draws; its spectrogram goes through a
    `residual_encoder`, which takes the further arguments.

    Args:
        shape: `(channels, samples)`, with more samples than half a window.

    Raises: ValueError if the shape is another, or the sound too short; when called, if x has
        another shape.

    >>> spectrogram_encoder((1, 1000))(torch.zeros(5, 1, 1000)).shape
    torch.Size([5, 256])
    """
    spectrogram = Spectrogram(window=window, hop=hop)
    if len(shape) != 2 or shape[1] <= window // 2:
        raise ValueError(
            f"shape: expected (channels, samples) with more than {window // 2} samples, half a "
            f"window, got {tuple(shape)}"
        )
    size = (shape[0], window // 2 + 1, shape[1] // hop + 1)
    net = residual_encoder(size, features=features, **stages)
    return Encoder(nn.Sequential(spectrogram, net), shape, features=features)
