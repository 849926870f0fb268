"""Networks joined with a context."""

import pytest
import torch
from torch import nn

from pyro_bvae.networks import (
    ContextDecoder,
    ContextEncoder,
    NoContext,
    OneHot,
    conv_decoder,
    conv_encoder,
    mlp_decoder,
    mlp_encoder,
)

LABELS = torch.tensor([2, 0])


def test_one_hot():
    hot = OneHot(4)
    assert hot.features == 4
    assert torch.equal(hot(LABELS), nn.functional.one_hot(LABELS, 4).double())
    assert not list(hot.state_dict())


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.tensor([0, 4]), ValueError, "labels: expected integers .* 0 to 3, got 0 to 4"),
        (torch.tensor([-1, 0]), ValueError, "got -1 to 0"),
        (torch.tensor([0.0, 1.0]), TypeError, r"got torch.float32; use torch.as_tensor"),
        (torch.tensor([True]), TypeError, "got torch.bool"),
        ([0, 1], TypeError, "got list"),
        (torch.zeros(2, 1, dtype=torch.long), ValueError, r"got shape \[2, 1\]"),
    ],
)
def test_one_hot_refuses(labels, error, message):
    with pytest.raises(error, match=message):
        OneHot(4)(labels)


def test_vectors_are_put_end_to_end():
    net = ContextEncoder(mlp_encoder((6 + 3 + 1,), hidden=()))
    x, c, d = torch.rand(2, 1, 2, 3), torch.rand(2, 3), torch.rand(2)
    assert net.features == 10
    assert torch.equal(net(x, c, d), torch.cat([x.flatten(1), c, d[:, None]], 1))


def test_context_of_images_becomes_channels():
    """A convolution that picks one pixel's channels shows what was joined."""
    inner = nn.Flatten()
    net = ContextEncoder(inner)
    x, c, image = torch.rand(2, 1, 4, 4), torch.rand(2, 3), torch.rand(2, 2, 4, 4)
    joined = net(x, c, image).reshape(2, 6, 4, 4)
    assert torch.equal(joined[:, :1], x)
    assert torch.equal(joined[:, 1:4], c[:, :, None, None].expand(2, 3, 4, 4))
    assert torch.equal(joined[:, 4:], image)


def test_conv_networks_with_classes():
    encoder = ContextEncoder(conv_encoder((1 + 4, 8, 8)), OneHot(4))
    features = encoder(torch.rand(2, 1, 8, 8), LABELS)
    assert features.shape == (2, encoder.features)
    x = torch.rand(1, 1, 8, 8).expand(2, 1, 8, 8)
    assert not torch.allclose(*encoder(x, LABELS))
    decoder = ContextDecoder(conv_decoder(3 + 4, (1, 8, 8)), OneHot(4))
    assert decoder(torch.rand(2, 3), LABELS).shape == (2, *decoder.shape)


def test_an_embedding_is_trained():
    decoder = ContextDecoder(mlp_decoder(2 + 5, (3,)), nn.Embedding(4, 5))
    decoder(torch.rand(2, 2), LABELS).sum().backward()
    assert decoder.embed.weight.grad[LABELS].abs().min() > 0
    assert decoder.embed.weight.grad[1].abs().max() == 0


def test_no_context_is_the_network_alone():
    encoder, decoder = mlp_encoder((3,)), mlp_decoder(2, (3,))
    x, z = torch.rand(2, 3), torch.rand(2, 2)
    assert torch.equal(NoContext(encoder)(x, LABELS), encoder(x))
    assert torch.equal(NoContext(decoder)(z, LABELS), decoder(z))
    assert NoContext(encoder).features == encoder.features
    assert (NoContext(decoder).shape, NoContext(decoder).latents) == ((3,), 2)


def test_context_of_another_width():
    with pytest.raises(ValueError, match=r"joined with \[2, 4\] has shape \[2, 10\], but the enc"):
        ContextEncoder(mlp_encoder((6 + 3,)), OneHot(4))(torch.rand(2, 6), LABELS)
    with pytest.raises(ValueError, match=r"has 6 numbers, but the decoder is for 5; build"):
        ContextDecoder(mlp_decoder(5, (3,)), OneHot(4))(torch.rand(2, 2), LABELS)
    with pytest.raises(ValueError, match=r"images of the size of x .* got \[2, 1, 3, 3\]"):
        ContextEncoder(conv_encoder((2, 8, 8)))(torch.rand(2, 1, 8, 8), torch.rand(2, 1, 3, 3))


def test_classes_without_an_embedding():
    with pytest.raises(TypeError, match=r"context: expected real numbers .* torch.int64; give cl"):
        ContextEncoder(mlp_encoder((7,)))(torch.rand(2, 6), LABELS)
