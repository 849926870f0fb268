"""Fully connected networks."""

import itertools

import pytest
import torch
from torch import nn

from pyro_bvae.networks import mlp_decoder, mlp_encoder


def widths(network):
    return [(m.in_features, m.out_features) for m in network.net if isinstance(m, nn.Linear)]


@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
def test_shapes_and_widths(hidden):
    shape = (2, 3, 4)
    encoder, decoder = mlp_encoder(shape, hidden=hidden), mlp_decoder(3, shape, hidden=hidden)
    chain = [24, *hidden]
    assert widths(encoder) == list(itertools.pairwise(chain))
    assert widths(decoder) == list(zip([3, *hidden], [*hidden, 24], strict=True))
    assert encoder.features == chain[-1]
    assert encoder(torch.rand(5, *shape)).shape == (5, chain[-1])
    assert decoder(torch.rand(5, 3)).shape == (5, *shape)


def test_without_hidden_layers_they_are_linear():
    x = torch.rand(5, 2, 2)
    assert torch.equal(mlp_encoder((2, 2), hidden=())(x), x.reshape(5, 4))
    decoder = mlp_decoder(3, (2, 2), hidden=())
    a, b = torch.randn(2, 5, 3)
    zero = decoder(torch.zeros(5, 3))
    assert torch.allclose(decoder(a + 2 * b) - zero, decoder(a) + 2 * decoder(b) - 3 * zero)


def test_hidden_layers_are_not_linear():
    decoder = mlp_decoder(3, (2, 2), hidden=(50,))
    a = torch.randn(5, 3)
    assert not torch.allclose(decoder(a) + decoder(-a), 2 * decoder(torch.zeros(5, 3)))


def test_refuses():
    with pytest.raises(ValueError, match=r"x: expected shape \[batch, 2, 2\], got \[5, 4\]"):
        mlp_encoder((2, 2))(torch.zeros(5, 4))
    with pytest.raises(ValueError, match=r"x: expected floating-point .* got torch.int64; convert"):
        mlp_encoder((2, 2))(torch.zeros(5, 2, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"z: expected shape \[n, 3\], got \[5, 4\]"):
        mlp_decoder(3, (2, 2))(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="latents: expected a whole number >= 1"):
        mlp_decoder(0, (2, 2))
