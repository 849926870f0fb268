"""The two convolutional networks, held to the published architectures."""

import pytest
import torch
from torch import nn

from pyro_bvae.networks import conv_decoder, conv_encoder


def layers(network):
    """Describe a network's layers in order, as plain tuples."""
    found = []
    for layer in network.net:
        match layer:
            case nn.Conv2d() | nn.ConvTranspose2d():
                sizes = (layer.in_channels, layer.out_channels, layer.kernel_size[0])
                name = type(layer).__name__.removeprefix("Narrow")
                found.append((name, *sizes, layer.stride[0]))
            case nn.Linear():
                found.append(("Linear", layer.in_features, layer.out_features))
            case _:
                found.append((type(layer).__name__,))
    return found


def with_relus(*described):
    return [line for layer in described for line in (layer, ("ReLU",))]


BURGESS_ENCODER = [
    *with_relus(("Conv2d", 1, 32, 4, 2), *[("Conv2d", 32, 32, 4, 2)] * 3),
    ("Flatten",),
    *with_relus(("Linear", 512, 256), ("Linear", 256, 256)),
]
BURGESS_DECODER = [
    *with_relus(("Linear", 10, 256), ("Linear", 256, 256), ("Linear", 256, 512)),
    ("ToImages",),
    *with_relus(*[("ConvTranspose2d", 32, 32, 4, 2)] * 3),
    ("ConvTranspose2d", 32, 1, 4, 2),
]
LOCATELLO_ENCODER = [
    *with_relus(("Conv2d", 1, 32, 4, 2), ("Conv2d", 32, 32, 4, 2)),
    *with_relus(("Conv2d", 32, 64, 2, 2), ("Conv2d", 64, 64, 2, 2)),
    ("Flatten",),
    *with_relus(("Linear", 1024, 256)),
]
LOCATELLO_DECODER = [
    *with_relus(("Linear", 10, 256), ("Linear", 256, 1024)),
    ("ToImages",),
    *with_relus(("ConvTranspose2d", 64, 64, 4, 2), ("ConvTranspose2d", 64, 32, 4, 2)),
    *with_relus(("ConvTranspose2d", 32, 32, 4, 2)),
    ("ConvTranspose2d", 32, 1, 4, 2),
]


@pytest.mark.parametrize(
    ("net", "encoder", "decoder"),
    [
        ("burgess", BURGESS_ENCODER, BURGESS_DECODER),
        ("locatello", LOCATELLO_ENCODER, LOCATELLO_DECODER),
    ],
)
def test_layers_are_the_published_ones(net, encoder, decoder):
    assert layers(conv_encoder((1, 64, 64), features=256, net=net)) == encoder
    assert layers(conv_decoder(10, (1, 64, 64), features=256, net=net)) == decoder


@pytest.mark.parametrize(
    ("net", "encoder", "decoder"),
    [
        # 544 + 3·16416 + 131328 + 65792;  2816 + 65792 + 131584 + 3·16416 + 513
        ("burgess", 246_912, 249_953),
        # 544 + 16416 + 8256 + 16448 + 262400;  2816 + 263168 + 65600 + 32800 + 16416 + 513
        ("locatello", 304_064, 381_313),
    ],
)
def test_parameter_counts(net, encoder, decoder):
    built = conv_encoder((1, 64, 64), net=net), conv_decoder(10, (1, 64, 64), net=net)
    assert [sum(p.numel() for p in m.parameters()) for m in built] == [encoder, decoder]


@pytest.mark.parametrize("net", ["burgess", "locatello"])
@pytest.mark.parametrize("size", [8, 16, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(net, size, channels):
    shape = (channels, size, size)
    encoder, decoder = conv_encoder(shape, features=7, net=net), conv_decoder(2, shape, net=net)
    assert encoder.shape == decoder.shape == shape
    assert encoder.features == 7
    assert encoder(torch.rand(2, *shape)).shape == (2, 7)
    assert decoder(torch.rand(2, 2)).shape == (2, *shape)


@pytest.mark.parametrize("size", [8, 32, 128])
def test_depth_follows_the_size(size):
    """From size 2^k to 4×4 there are k − 2 convolutions, and as many back."""
    for network in (conv_encoder((2, size, size)), conv_decoder(3, (2, size, size))):
        convolutions = [line for line in layers(network) if line[0].startswith("Conv")]
        assert len(convolutions) == size.bit_length() - 3
        assert 2 in (convolutions[0][1], convolutions[-1][2])


def test_every_pixel_matters():
    """No pixel is left out by the strides: each one's gradient is not zero."""
    for net in ("burgess", "locatello"):
        x = torch.rand(1, 1, 32, 32, requires_grad=True)
        encoder = conv_encoder((1, 32, 32), net=net)
        linear = nn.Sequential(*[m for m in encoder.net if not isinstance(m, nn.ReLU)])
        linear(x).sum().backward()
        assert (x.grad != 0).all()


@pytest.mark.parametrize(
    "shape",
    [
        (1, 64),
        (1, 64, 32),
        (1, 48, 48),
        (1, 4, 4),
        (0, 64, 64),
        (64, 64),
        (2, 1, 64, 64),
        (1, 0, 0),
    ],
)
def test_refuses_shapes(shape):
    message = (
        r"shape: expected \(channels, size, size\) .* power of two >= 8, got .*; resize or pad"
    )
    with pytest.raises(ValueError, match=message):
        conv_encoder(shape)
    with pytest.raises(ValueError, match=message):
        conv_decoder(3, shape)


def test_refuses_names_and_latents():
    with pytest.raises(
        ValueError, match=r"net: expected one of \['burgess', 'locatello'\], got 'r"
    ):
        conv_encoder((1, 64, 64), net="resnet")
    with pytest.raises(ValueError, match="latents: expected a whole number >= 1, got 0"):
        conv_decoder(0, (1, 64, 64))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 16, 16), (1, 8, 8), (2, 1, 8), (), (0,)])
def test_refuses_data_of_another_shape(shape):
    message = r"x: expected shape \[batch, 1, 8, 8\], got \[.*\]; reshape x or build the networks"
    with pytest.raises(ValueError, match=message):
        conv_encoder((1, 8, 8))(torch.zeros(shape))


def test_refuses_codes_of_another_width():
    with pytest.raises(ValueError, match=r"z: expected shape \[n, 3\], got \[5, 2\]; give decoder"):
        conv_decoder(3, (1, 8, 8))(torch.zeros(5, 2))
