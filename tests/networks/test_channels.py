"""Numbers for every pixel out of channels."""

import pytest
import torch
from torch import nn

from pyro_bvae.networks import ChannelsLast


def test_numbers_of_one_pixel_come_from_neighbouring_channels():
    z = torch.randn(5, 24)
    decoder = ChannelsLast(nn.Unflatten(1, (6, 2, 2)), numbers=3)
    out = decoder(z)
    assert out.shape == (5, 2, 2, 2, 3)
    assert torch.equal(out[4, 1, 0, 1], z.reshape(5, 6, 2, 2)[4, 3:6, 0, 1])


def test_refuses_numbers_that_do_not_divide_the_channels():
    with pytest.raises(ValueError, match="numbers: expected a divisor of the decoder's 6 channels"):
        ChannelsLast(nn.Unflatten(1, (6, 2, 2)), numbers=4)(torch.randn(5, 24))
    with pytest.raises(ValueError, match="numbers: expected a whole number >= 1, got 0"):
        ChannelsLast(nn.Identity(), numbers=0)
