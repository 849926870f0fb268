"""Recurrent networks for text."""

import pytest
import torch
from torch import nn

from pyro_bvae.networks import recurrent_decoder, recurrent_encoder


def test_shapes():
    x = torch.randint(9, (5, 7))
    encoder = recurrent_encoder((7, 9), embedding=3, width=4)
    assert encoder(x).shape == (5, encoder.features) == (5, 8)
    assert recurrent_decoder(2, (7, 9), width=4)(torch.randn(5, 2)).shape == (5, 7, 9)


def test_every_token_and_its_place_matter():
    encoder = recurrent_encoder((7, 9), width=4)
    x = torch.arange(7)[None]
    for place in range(7):
        other = x.clone()
        other[0, place] = 8
        assert not torch.allclose(encoder(x), encoder(other))
    assert not torch.allclose(encoder(x), encoder(x.flip(1)))


def test_second_half_of_the_features_reads_backwards():
    encoder = recurrent_encoder((7, 9), embedding=3, width=4)
    x = torch.randint(9, (5, 7))
    backwards = nn.GRU(3, 4, batch_first=True)
    reverse = "_reverse"
    state = encoder.net.cells.state_dict()
    backwards.load_state_dict(
        {name.removesuffix(reverse): v for name, v in state.items() if name.endswith(reverse)}
    )
    _, last = backwards(encoder.net.embedding(x.flip(1)))
    assert torch.allclose(encoder(x)[:, 4:], last[0], rtol=1e-12)


def test_data_do_not_mix():
    encoder, decoder = recurrent_encoder((7, 9), width=4), recurrent_decoder(2, (7, 9), width=4)
    x, z = torch.randint(9, (5, 7)), torch.randn(5, 2)
    assert torch.allclose(encoder(x)[2:3], encoder(x[2:3]), rtol=1e-12)
    assert torch.allclose(decoder(z)[2:3], decoder(z[2:3]), rtol=1e-12)


def test_steps_of_the_decoder_differ():
    logits = recurrent_decoder(2, (7, 9), width=4)(torch.randn(1, 2))[0]
    assert (logits[1:] - logits[:-1]).abs().amax(-1).min() > 1e-4


def test_refuses():
    with pytest.raises(ValueError, match=r"shape: expected \(length, vocabulary\), got \(7,\)"):
        recurrent_encoder((7,))
    with pytest.raises(ValueError, match="vocabulary: expected a whole number >= 1, got 0"):
        recurrent_decoder(2, (7, 0))
    with pytest.raises(ValueError, match=r"x: expected shape \[batch, 7\], got \[5, 6\]"):
        recurrent_encoder((7, 9))(torch.zeros(5, 6, dtype=torch.long))
    with pytest.raises(ValueError, match=r"z: expected shape \[n, 2\], got \[5, 3\]"):
        recurrent_decoder(2, (7, 9))(torch.zeros(5, 3))
