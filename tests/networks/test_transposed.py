"""The transposed convolution to few channels is torch's, with its gradients."""

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_bvae.images import FEW
from pyro_bvae.networks import conv_decoder
from pyro_bvae.networks.transposed import NarrowConvTranspose2d

# The last three are narrow but for what they are given by name.
LAYERS = [
    ((8, 1, 4, 2, 1), {}),
    ((24, 3, 4, 2, 1), {"bias": False}),
    ((15, 2, (3, 5), (1, 3), (0, 2)), {}),
    ((7, 1, 4, 2, 1), {}),
    ((40, FEW + 1, 4, 2, 1), {}),
    ((18, 2, 3, 2, 1), {"groups": 2}),
    ((9, 1, 3, 2, 1), {"dilation": 2}),
    ((9, 1, 3, 2, 1), {"output_padding": 1}),
]


def pair_of_layers(arguments, keywords):
    torch.manual_seed(1)
    narrow = NarrowConvTranspose2d(*arguments, **keywords)
    layer = nn.ConvTranspose2d(*arguments, **keywords)
    layer.load_state_dict(narrow.state_dict())
    return narrow, layer


def outcome(layer, x, memory_format):
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    y = layer(x)
    parameters = list(layer.parameters())
    return [y, *torch.autograd.grad((y**3).sum(), [x, *parameters])]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("arguments", "keywords"), LAYERS)
def test_equal_to_torchs_with_gradients(arguments, keywords, memory_format):
    """To 1e-12 relative: sums of at most 40·16 products of numbers of order one, in float64."""
    x = torch.randn(2, arguments[0], 5, 7)
    mine, torchs = (
        outcome(layer, x, memory_format) for layer in pair_of_layers(arguments, keywords)
    )
    torch.testing.assert_close(mine, torchs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_gradients_of_some_alone(frozen):
    narrow, _ = pair_of_layers(*LAYERS[0])
    x = torch.randn(2, 8, 3, 3, requires_grad=frozen != "x")
    for name, parameter in narrow.named_parameters():
        parameter.requires_grad_(name != frozen)
    narrow(x).square().sum().backward()
    for name, tensor in (("x", x), *narrow.named_parameters()):
        assert (tensor.grad is None) == (name == frozen)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
def test_derivatives_of_every_kind():
    narrow, layer = pair_of_layers((3, 1, 4, 2, 1), {})
    x = torch.randn(1, 3, 2, 2, requires_grad=True)
    assert torch.autograd.gradcheck(narrow, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(narrow, x)
    batch = torch.randn(3, 1, 3, 2, 2)
    torch.testing.assert_close(torch.func.vmap(narrow)(batch), torch.func.vmap(layer)(batch))


def test_in_bfloat16_under_autocast_as_torchs():
    """bfloat16 has 8 bits: sums of some ten terms of order one differ by at most a few 2^-8."""
    narrow, layer = (each.float() for each in pair_of_layers(*LAYERS[0]))
    x = torch.randn(2, 8, 5, 5, dtype=torch.float32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y, expected = narrow(x), layer(x)
    assert y.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected, rtol=0.05, atol=0.05)
    y.float().sum().backward()
    assert x.grad.dtype == narrow.weight.grad.dtype == torch.float32


def test_recorded_as_plain_operations():
    narrow, layer = pair_of_layers(*LAYERS[0])

    def gradient(x):
        return torch.autograd.grad(narrow(x).square().sum(), x)[0]

    x = torch.randn(2, 8, 5, 5, requires_grad=True)
    graph = make_fx(gradient)(x)
    operations = {str(node.target) for node in graph.graph.nodes}
    assert "aten.col2im.default" in operations
    y = torch.randn(2, 8, 5, 5, requires_grad=True)
    expected = torch.autograd.grad(layer(y).square().sum(), y)[0]
    torch.testing.assert_close(graph(y), expected)


def test_the_size_asked_for_is_given():
    narrow, layer = pair_of_layers(*LAYERS[0])
    x = torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(narrow(x, output_size=[11, 11]), layer(x, output_size=[11, 11]))


def test_the_decoder_ends_in_one_and_loads_what_torchs_saved():
    decoder = conv_decoder(3, (1, 16, 16))
    last = decoder.net[-1]
    assert isinstance(last, NarrowConvTranspose2d)
    assert set(last.state_dict()) == {"weight", "bias"}
    assert last.weight.shape == (32, 1, 4, 4)
    assert not any(isinstance(m, NarrowConvTranspose2d) for m in decoder.net[:-1])
