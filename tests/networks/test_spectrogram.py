"""Sounds as spectrograms."""

import math

import pytest
import torch

from pyro_bvae.networks import Spectrogram, spectrogram_encoder


def test_a_tone_is_a_line_at_its_frequency():
    """A cosine of k periods per window: under a Hann window |STFT| is window/4 at row k, half
    of that at its neighbours, and 0 elsewhere, away from the ends."""
    window, k = 64, 9
    x = torch.cos(2 * math.pi * k * torch.arange(1000) / window).reshape(1, 1, -1)
    rows = Spectrogram(window=window, hop=16)(x)[0, 0, :, 10:50]
    expected = torch.zeros(33)
    expected[k], expected[k - 1], expected[k + 1] = window / 4, window / 8, window / 8
    assert torch.allclose(rows, torch.log1p(expected)[:, None].expand(-1, 40), atol=1e-10)


def test_shapes():
    encoder = spectrogram_encoder((2, 500), window=32, hop=10, features=7, channels=4)
    assert encoder.shape == (2, 500)
    assert encoder(torch.randn(5, 2, 500)).shape == (5, encoder.features) == (5, 7)


def test_gradients_of_silence_are_finite():
    encoder = spectrogram_encoder((1, 200), window=32, features=7, channels=4)
    x = torch.zeros(2, 1, 200, requires_grad=True)
    encoder(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_refuses():
    with pytest.raises(ValueError, match="window: expected an even number, got 31"):
        Spectrogram(window=31, hop=4)
    with pytest.raises(ValueError, match=r"shape: .*more than 16 samples, half a window, got \(1,"):
        spectrogram_encoder((1, 16), window=32)
    with pytest.raises(ValueError, match=r"x: expected shape \[batch, 1, 200\], got \[2, 200\]"):
        spectrogram_encoder((1, 200))(torch.zeros(2, 200))
