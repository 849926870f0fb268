"""What convolutions are decomposed to for the compiler gives what torch's give, laid out so."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

from pyro_bvae import VAE, fit
from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.networks import mlp_decoder
from pyro_bvae.networks.transposed import NarrowConvTranspose2d
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training import convolutions, recording

aten = torch.ops.aten
FORWARD, BACKWARD = aten.convolution.default, aten.convolution_backward.default
SUM, SCATTER = aten.col2im.default, aten.index_put.default
small = st.integers(1, 3)


@st.composite
def layers(draw, dimensions=(1, 2, 3), kinds=(False, True)):
    """Input, weight, shape of the output and geometry of a convolution; also the memory's layout.

    7 pixels are at least as many as a kernel reaches.
    """
    d = draw(st.sampled_from(dimensions))
    several = st.lists(small, min_size=d, max_size=d)
    kernel, stride = draw(several), draw(several)
    simple = draw(st.booleans())
    dilation = [1] * d if simple else draw(several)
    padding = [draw(st.integers(0, k - 1)) for k in kernel]
    back = draw(st.sampled_from(kinds))
    most = [max(s, a) - 1 if back else 0 for s, a in zip(stride, dilation, strict=True)]
    output_padding = [0 if simple else draw(st.integers(0, m)) for m in most]
    groups, inputs, outputs = 1 if simple else draw(small), draw(small), draw(small)
    size = [draw(st.integers(7, 8)) for _ in range(d)]
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    normal = partial(torch.randn, dtype=dtype, generator=generator)
    x = draw(laid_out(normal(draw(small), groups * inputs, *size)))
    channels = (groups * inputs, outputs) if back else (groups * outputs, inputs)
    weight = draw(laid_out(normal(*channels, *kernel)))
    geometry = (stride, padding, dilation, back, output_padding, groups)
    return x, weight, sizes_of(x, weight, geometry), geometry


@st.composite
def laid_out(draw, x):
    """The same numbers, in another place or order of memory: strides of one pixel may be any."""
    order = draw(st.permutations(range(x.dim())))
    back = [order.index(i) for i in range(x.dim())]
    moved = x.permute(order).contiguous().permute(back)
    within = torch.cat([moved, moved], draw(st.integers(0, x.dim() - 1)))
    return draw(st.sampled_from([x, moved, within[tuple(slice(length) for length in x.shape)]]))


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
    """To the rounding of sums of at most some 3000 products of order one."""
    dtypes = {x.dtype for x in tree_leaves(torchs)}
    rounding = max(4500 * torch.finfo(dtype).eps for dtype in dtypes)
    torch.testing.assert_close(mine, torchs, rtol=rounding, atol=rounding)


def seen(function, *tensors):
    """Return a function as the compiler sees it, which has no sum that is scattered."""
    graph = make_fx(function, convolutions.decompositions(), tracing_mode="fake")(*tensors)
    assert SUM not in {node.target for node in graph.graph.nodes}
    return graph


def outputs_of(graph):
    nodes = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    return nodes if isinstance(nodes, list | tuple) else [nodes]


def same_as(operation, function, *tensors):
    """Whether a function is seen to give the same numbers, in memory of the same strides."""
    graph = seen(function, *tensors)
    assert operation in {n.target for n in make_fx(function)(*tensors).graph.nodes}
    close(graph(*tensors), function(*tensors))
    mine, torchs = (
        [n.meta["val"].stride() for n in outputs_of(each)]
        for each in (graph, make_fx(function, tracing_mode="fake")(*tensors))
    )
    assert mine == torchs


@settings(deadline=None, max_examples=60)
@given(layers(), st.booleans())
def test_forward(layer, biased):
    x, weight, shape, geometry = layer

    def convolved(x, weight, *bias):
        return FORWARD(x, weight, *(bias or [None]), *geometry)

    same_as(FORWARD, convolved, x, weight, *([torch.randn(shape[1]).to(x)] if biased else []))


@settings(deadline=None, max_examples=60)
@given(layers(), st.lists(st.booleans(), min_size=3, max_size=3).filter(any), st.data())
def test_backward(layer, wanted, data):
    x, weight, shape, geometry = layer
    grad = data.draw(laid_out(torch.randn(shape).to(x)))

    def gradients(*tensors):
        every = BACKWARD(*tensors, [shape[1]], *geometry, wanted)
        return [each for each, is_wanted in zip(every, wanted, strict=True) if is_wanted]

    same_as(BACKWARD, gradients, grad, x, weight)


@pytest.mark.parametrize("geometry", [(1, 3, 1), (1, 3, 2), (2, 3, 2)])
def test_pixels_added_beyond_the_stride_of_a_transposed_one(geometry):
    """Which the one that it transposes would not have."""
    stride, dilation, more = geometry
    x, weight = torch.randn(2, 3, 7, 7), torch.randn(3, 2, 3, 3)
    given = ([stride] * 2, [0, 0], [dilation] * 2, True, [more] * 2, 1)
    grad = torch.randn(sizes_of(x, weight, given))
    same_as(BACKWARD, lambda *t: BACKWARD(*t, [2], *given, [True] * 3), grad, x, weight)


@settings(deadline=None, max_examples=60)
@given(layers([2], [False]))
def test_patches_that_overlap(layer):
    """Positions as a convolution of the images would have, also where pixels are left over."""
    x, weight, _, (stride, padding, dilation, *_) = layer
    geometry = (stride, padding, dilation, False, [0, 0], 1)
    height, width = sizes_of(x, weight, geometry)[2:]
    kernel = list(weight.shape[2:])
    patches = torch.randn(len(x), 2 * kernel[0] * kernel[1], height * width)
    arguments = (list(x.shape[2:]), kernel, dilation, padding, stride)
    same_as(SUM, lambda patches: SUM(patches, *arguments), patches)


def test_patches_are_collected_where_that_takes_few_shifts():
    def scattered(kernel, stride):
        size = [(6 - 1) * stride + kernel] * 2
        graph = seen(
            lambda x: F.fold(x, size, kernel, stride=stride), torch.randn(2, kernel**2, 36)
        )
        return SCATTER in {node.target for node in graph.graph.nodes}

    assert [scattered(*each) for each in ((4, 2), (4, 1), (5, 1))] == [False, False, True]


KEPT, ONE = (nn.Conv2d(*channels, 3, padding=1).double() for channels in ((3, 1), (1, 4)))
WEIGHT = (8, 1, 4, 4)
FOUND = {
    "views of two layers": (lambda x: ONE(KEPT(x)).view(len(x), -1), (2, 3, 8, 8)),
    "views of several": (lambda x: torch.cat([KEPT(x)] * 2, 1).view(len(x), -1), (2, 3, 8, 8)),
    "one pixel across": (lambda x: ONE(x.mT), (3, 1, 1, 8)),
    "one channel of several": (lambda x: ONE(x[1:2, 1:2]), (5, 3, 8, 8)),
    "many shifts": (nn.ConvTranspose2d(13, 1, 5, 1, 2).double(), (3, 13, 4, 4)),
    "one stride for all": (
        lambda x: F.conv_transpose2d(x, torch.ones(WEIGHT), stride=(2,)),
        (3, 8, 4, 4),
    ),
    "no data": (lambda x: F.conv_transpose2d(x[:0], torch.ones(WEIGHT), stride=2), (3, 8, 4, 4)),
    "images of images": (lambda x: F.interpolate(ONE(x), scale_factor=2.0).view(-1), (2, 1, 1, 1)),
}


@pytest.mark.parametrize("name", FOUND)
def test_seen_as_it_is(name):
    function, shape = FOUND[name]
    x = torch.randn(shape)
    recorded = recording.record(lambda x: [function(x)], [x])
    close(seen(recorded.graph, *recorded.live, x)(*recorded.live, x), recorded([x]))


def network(last):
    """Return one channel to several and back, by torch's own layers, for images of 12 × 16.

    In the midst is a layer whose outcome is looked at in the order it came in.
    """
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 4, 2, 1), nn.Conv2d(4, 6, 4, 2, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Unflatten(1, (6, 3, 4))),
        *(nn.ConvTranspose2d(6, 8, 4, 2, 1), nn.ReLU(), last),
    )


def gradients_of(net):
    def gradients(x):
        loss = (net(x) - x).square().sum()
        return [loss.detach(), *torch.autograd.grad(loss, list(net.parameters()))]

    return gradients


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d, NarrowConvTranspose2d])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_compiled_network_gives_what_the_recorded_one_gives(layer, memory_format, monkeypatch):
    """Images are a part of others, so that they do not lie where their memory begins."""
    monkeypatch.setitem(recording.COMPILING, "size_asserts", True)
    net = network(layer(8, 1, 4, 2, 1)).to(memory_format=memory_format)
    images = torch.randn(5, 1, 12, 16)
    recorded = recording.record(lambda x: gradients_of(net)(x[2:]), [images])
    close(list(recorded.compiled([images])([images])), list(recorded([images])))


@pytest.mark.parametrize("library", [torch.float64, "off"])
def test_compiled_where_torch_convolves_by_itself(library):
    """Which is so for float64, or without the library; with one channel, and kernels of one row."""
    off = library == "off"
    torch.set_default_dtype(torch.float32 if off else torch.float64)
    net = nn.Sequential(nn.Conv2d(1, 4, (3, 1)), nn.Conv2d(4, 4, (1, 4)), nn.Conv2d(4, 1, 3, 1, 1))
    x = torch.randn(8, 1, 9, 7)

    def gradients(x):
        return list(torch.autograd.grad(net(x).square().sum(), list(net.parameters())))

    torch._C._set_mkldnn_enabled(not off)
    try:
        recorded = recording.record(gradients, [x])
        close(list(recorded.compiled([x])([x])), list(recorded([x])))
    finally:
        torch._C._set_mkldnn_enabled(True)


def test_what_the_compiler_sees_of_it():
    """No bias in a backward, none of these transposed, channels last."""
    torch.set_default_dtype(torch.float32)
    x = torch.randn(3, 1, 12, 16)
    recorded = recording.record(gradients_of(network(nn.ConvTranspose2d(8, 1, 4, 2, 1))), [x])
    nodes = seen(recorded.graph, *recorded.live, x).graph.nodes
    backward = [node.args for node in nodes if node.target is BACKWARD]
    assert [(args[7], args[10][2]) for args in backward] == [(False, False)] * 4
    forward = [node.args for node in nodes if node.target is FORWARD]
    assert sorted(args[6] for args in forward) == [False] * 4 + [True]
    tensors = [args[:2] for args in forward] + [args[:3] for args in backward]
    assert {node.meta["val"].stride(1) for nodes in tensors for node in nodes} == {1}


class Viewing(nn.Sequential):
    """One channel and several, whose outcome is viewed as channels first."""

    features = 64

    def __init__(self):
        layers = [nn.Conv2d(1, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 16, 4, 2, 1)]
        super().__init__(*layers)

    def forward(self, x):
        return super().forward(x).view(len(x), -1)


@pytest.mark.parametrize("mode", ["eager", "recorded", "compiled"])
def test_a_network_that_views_its_convolutions_trains(mode):
    """A warning that it runs otherwise would be an error here."""
    torch.manual_seed(0)
    decoder = BernoulliLikelihood(mlp_decoder(2, (1, 8, 8)))
    vae = VAE(NormalPrior(2), decoder, MeanFieldPosterior(Viewing(), latents=2))
    x = torch.rand(20, 1, 8, 8).round()
    options = {"steps": 6, "batch_size": 10, "seed": 0, "progress": False}
    start = {name: value.clone() for name, value in vae.state_dict().items()}
    fit(vae, x, compile=mode, **options)
    found = {name: value.clone() for name, value in vae.state_dict().items()}
    vae.load_state_dict(start)
    fit(vae, x, compile="eager", **options)
    close(found, dict(vae.state_dict()))
