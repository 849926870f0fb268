"""Convolutions of the networks get their channels last, and give the same numbers."""

import pytest
import torch
from torch import nn

from pyro_bvae.images import channels_last
from pyro_bvae.networks import conv_decoder, conv_encoder, residual_decoder, residual_encoder
from pyro_bvae.networks.layout import FromImages, ToImages


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("encoder", "decoder"), [(conv_encoder, conv_decoder), (residual_encoder, residual_decoder)]
)
def test_every_convolution_gets_channels_last_and_gives_the_same(encoder, decoder, channels):
    """Within rounding of sums of at most some hundred terms of order one, in float64."""
    shape, given = (channels, 16, 16), []
    for network, x in (
        (encoder(shape), torch.rand(2, *shape)),
        (decoder(3, shape), torch.rand(2, 3)),
    ):
        layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        handles = [m.register_forward_pre_hook(lambda _, x: given.append(x[0])) for m in layers]
        y = network(x)
        for handle in handles:
            handle.remove()
        network.net = nn.Sequential(
            *(
                nn.Unflatten(1, y.unflattened_size) if isinstance(y, ToImages) else y
                for y in network.net
            )
        )
        torch.testing.assert_close(y, network(x), rtol=1e-12, atol=1e-12)
        assert not isinstance(network.net, FromImages)
    assert len(given) >= 4
    assert all(x.stride(1) == 1 for x in given)


@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 5), (2, 1, 4, 5), (1, 1, 1, 1), (2, 3, 4), (0, 1, 2, 2)]
)
def test_numbers_stay_and_strides_are_those_of_channels_last(shape):
    x = torch.rand(shape)
    for like in (x, x.mT.contiguous().mT, x.movedim(0, -1).contiguous().movedim(-1, 0)):
        last = channels_last(like)
        assert torch.equal(last, x)
        sizes = (*x.shape[2:], x.shape[1])
        expected = torch.empty(len(x), *sizes).movedim(-1, 1).stride()
        assert last.stride() == expected
