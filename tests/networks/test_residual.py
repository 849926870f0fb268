"""Residual networks of any size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pyro_bvae.networks import residual_decoder, residual_encoder
from pyro_bvae.networks.residual import ResidualBlock


@settings(deadline=None, max_examples=25)
@given(
    channels=st.integers(1, 3),
    size=st.lists(st.integers(1, 37), min_size=1, max_size=2),
    blocks=st.integers(0, 2),
)
def test_any_size_goes_in_and_comes_out(channels, size, blocks):
    shape = (channels, *size)
    encoder = residual_encoder(shape, features=7, channels=4, blocks=blocks)
    decoder = residual_decoder(2, shape, channels=4, blocks=blocks)
    assert encoder.shape == decoder.shape == shape
    assert encoder(torch.randn(2, *shape)).shape == (2, encoder.features) == (2, 7)
    assert decoder(torch.randn(2, 2)).shape == (2, *shape)


@pytest.mark.parametrize("shape", [(1, 13, 21), (1, 50)])
def test_every_pixel_matters(shape):
    """No pixel is left out by the strides: without the ReLUs each one's gradient is not zero."""
    x = torch.rand(1, *shape, requires_grad=True)
    encoder = residual_encoder(shape, blocks=0, channels=4)
    linear = nn.Sequential(*[m for m in encoder.net if not isinstance(m, nn.ReLU)])
    linear(x).sum().backward()
    assert (x.grad != 0).all()


def test_a_block_adds_to_what_goes_through():
    block = ResidualBlock(3, dimensions=1)
    x = torch.randn(2, 3, 8)
    for parameter in block.second.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(block(x), x)
    nn.init.ones_(block.second.bias)
    assert torch.equal(block(x), x + 1)


def test_refuses():
    with pytest.raises(ValueError, match=r"shape: expected \(channels, height, width\) or"):
        residual_encoder((64,))
    with pytest.raises(ValueError, match="shape: expected a whole number >= 1, got 0"):
        residual_decoder(2, (1, 0, 4))
    with pytest.raises(ValueError, match="latents: expected a whole number >= 1, got 0"):
        residual_decoder(0, (1, 8, 8))
    with pytest.raises(ValueError, match=r"x: expected shape \[batch, 1, 9\], got \[2, 1, 8\]"):
        residual_encoder((1, 9))(torch.zeros(2, 1, 8))
