"""What convolutions are decomposed to for the compiler is what torch's own give."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_bvae.networks.transposed import NarrowConvTranspose2d
from pyro_bvae.training import convolutions, recording

aten = torch.ops.aten
FORWARD, BACKWARD = aten.convolution.default, aten.convolution_backward.default
SUM = aten.col2im.default
small = st.integers(1, 3)


@st.composite
def layers(draw, dimensions=(1, 2, 3), kinds=(False, True)):
    """Input, weight, shape of the output and geometry of a convolution; also the memory's layout.

    7 pixels are at least as many as a kernel reaches.
    """
    d = draw(st.sampled_from(dimensions))
    several = st.lists(small, min_size=d, max_size=d)
    kernel, stride, dilation = draw(several), draw(several), draw(several)
    padding = [draw(st.integers(0, k - 1)) for k in kernel]
    back = draw(st.sampled_from(kinds))
    most = [max(s, a) - 1 if back else 0 for s, a in zip(stride, dilation, strict=True)]
    output_padding = [draw(st.integers(0, m)) for m in most]
    groups, inputs, outputs = draw(small), draw(small), draw(small)
    size = [draw(st.integers(7, 8)) for _ in range(d)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x = torch.randn(draw(small), groups * inputs, *size, generator=generator)
    channels = (groups * inputs, outputs) if back else (groups * outputs, inputs)
    weight = torch.randn(*channels, *kernel, generator=generator)
    if d == 2 and draw(st.booleans()):
        x = x.contiguous(memory_format=torch.channels_last)
    geometry = (stride, padding, dilation, back, output_padding, groups)
    return x, weight, sizes_of(x, weight, geometry), geometry


def decomposed(operation, *arguments):
    """Do an operation as the compiler is told to, or as ever where it is told nothing."""
    result = convolutions.decompositions()[operation](*arguments)
    return operation(*arguments) if result is NotImplemented else result


def sizes_of(x, weight, geometry):
    """Return the shape of what a convolution gives, by the arithmetic of its definition."""
    stride, padding, dilation, back, output_padding, groups = geometry
    reach = [a * (k - 1) for a, k in zip(dilation, weight.shape[2:], strict=True)]
    length = zip(x.shape[2:], stride, padding, reach, output_padding, strict=True)
    if back:
        channels = weight.shape[1] * groups
        return (len(x), channels, *((i - 1) * s - 2 * p + r + 1 + o for i, s, p, r, o in length))
    return (len(x), len(weight), *((i + 2 * p - r - 1) // s + 1 for i, s, p, r, _ in length))


def close(mine, torchs):
    """To 1e-12 relative: sums of at most some 3000 products of order one, in float64."""
    torch.testing.assert_close(mine, torchs, rtol=1e-12, atol=1e-12)


def same_layout(mine, torchs):
    """Whether views of one are views of the other: strides of one pixel or channel are any."""
    strides = zip(mine.shape, mine.stride(), torchs.stride(), strict=True)
    return all(a == b for length, a, b in strides if length > 1)


@settings(deadline=None)
@given(layers(), st.booleans())
def test_forward(layer, biased):
    x, weight, shape, geometry = layer
    arguments = (x, weight, torch.randn(shape[1]) if biased else None, *geometry)
    mine, torchs = decomposed(FORWARD, *arguments), FORWARD(*arguments)
    close(mine, torchs)
    assert same_layout(mine, torchs)


@settings(deadline=None)
@given(layers(), st.lists(st.booleans(), min_size=3, max_size=3))
def test_backward(layer, wanted):
    x, weight, shape, geometry = layer
    arguments = (torch.randn(shape), x, weight, [shape[1]], *geometry, wanted)
    mine, torchs = decomposed(BACKWARD, *arguments), BACKWARD(*arguments)
    for gradient, expected, is_wanted in zip(mine, torchs, wanted, strict=True):
        assert is_wanted == (gradient is not None)
        if is_wanted:
            close(gradient, expected)
            assert same_layout(gradient, expected)


@settings(deadline=None)
@given(layers([2], [False]))
def test_patches_that_overlap(layer):
    """Positions as a convolution of the images would have, also where pixels are left over."""
    x, weight, _, (stride, padding, dilation, *_) = layer
    geometry = (stride, padding, dilation, False, [0, 0], 1)
    height, width = sizes_of(x, weight, geometry)[2:]
    kernel = list(weight.shape[2:])
    patches = torch.randn(len(x), 2 * kernel[0] * kernel[1], height * width)
    arguments = (patches, list(x.shape[2:]), kernel, dilation, padding, stride)
    close(decomposed(SUM, *arguments), SUM(*arguments))


def network(last):
    """Return one channel to several and back, by torch's own layers, for images of 12 × 16.

    In the midst is a layer whose outcome is looked at in the order it came in.
    """
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 4, 2, 1), nn.Conv2d(4, 6, 4, 2, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Unflatten(1, (6, 3, 4))),
        *(nn.ConvTranspose2d(6, 5, 4, 2, 1), nn.ReLU(), last),
    )


def gradients_of(net):
    def gradients(x):
        loss = (net(x) - x).square().sum()
        return [loss.detach(), *torch.autograd.grad(loss, list(net.parameters()))]

    return gradients


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d, NarrowConvTranspose2d])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_compiled_network_gives_what_the_recorded_one_gives(layer, memory_format):
    """Images are a part of others, so that they do not lie where their memory begins."""
    net = network(layer(5, 1, 4, 2, 1)).to(memory_format=memory_format)
    images = torch.randn(5, 1, 12, 16)
    recorded = recording.record(lambda x: gradients_of(net)(x[2:]), [images])
    close(list(recorded.compiled([images])([images])), list(recorded([images])))


def test_what_the_compiler_sees():
    """No sum that is scattered, no bias in a backward, none of these transposed, channels last."""
    x = torch.randn(3, 1, 12, 16)
    recorded = recording.record(gradients_of(network(nn.ConvTranspose2d(5, 1, 4, 2, 1))), [x])
    table = convolutions.decompositions()
    nodes = make_fx(recorded.graph, decomposition_table=table)(*recorded.live, x).graph.nodes
    nodes = [node for node in nodes if node.target in (FORWARD, BACKWARD, SUM)]
    assert {node.target for node in nodes} == {FORWARD, BACKWARD}
    backward = [node.args for node in nodes if node.target is BACKWARD]
    assert [(args[7], args[10][2]) for args in backward] == [(False, False)] * 4
    forward = [node.args for node in nodes if node.target is FORWARD]
    assert sorted(args[6] for args in forward) == [False] * 4 + [True]
    tensors = [args[:2] for args in forward] + [args[:3] for args in backward]
    strides = [node.meta["val"].stride(1) for nodes in tensors for node in nodes]
    assert set(strides) == {1}
