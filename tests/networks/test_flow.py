"""Splines and autoregressive layers: their inverses, and their derivatives by autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.functional import jacobian

from pyro_bvae.networks.autoregressive import Autoregressive
from pyro_bvae.networks.flow import Flow
from pyro_bvae.networks.spline import spline


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32),
    x=st.floats(-8, 8),
    bins=st.integers(2, 12),
    spread=st.sampled_from([0.0, 1.0, 4.0]),
)
def test_spline_is_inverted_and_its_slope_is_the_derivative(seed, x, bins, spread):
    generator = torch.Generator().manual_seed(seed)
    numbers = spread * torch.randn(3 * bins - 1, generator=generator, dtype=torch.float64)
    value = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y, log_slope = spline(value, numbers)
    (slope,) = torch.autograd.grad(y, value)
    assert torch.allclose(log_slope, slope.log(), atol=1e-9)
    back, log_back = spline(y, numbers, inverse=True)
    # The inverse is as exact as y, times its slope: 1e-15 / 1e-3.
    assert torch.allclose(back, value, atol=1e-9)
    assert torch.allclose(log_back, -log_slope, atol=1e-6)


def test_spline_is_continuous_where_it_becomes_the_identity():
    numbers = torch.randn(17)
    for edge in (-5.0, 5.0):
        near = torch.tensor([edge - 1e-9, edge, edge + 1e-9])
        y, log_slope = spline(near, numbers)
        assert torch.allclose(y, near, atol=1e-8)
        assert torch.allclose(log_slope, torch.zeros(3), atol=1e-6)


def test_spline_has_finite_gradients_outside():
    numbers = torch.zeros(4, 8, requires_grad=True)
    for inverse in (False, True):
        x = torch.tensor([-1e6, -5.0, 5.0, 1e6], requires_grad=True)
        y, log_slope = spline(x, numbers, inverse=inverse)
        (y + log_slope).sum().backward()
        assert torch.isfinite(x.grad).all()
        assert torch.isfinite(numbers.grad).all()


@pytest.mark.parametrize("backwards", [False, True])
def test_network_looks_only_back(backwards):
    network = Autoregressive(4, numbers=2, hidden=16, backwards=backwards)
    shift = torch.randn(16)
    depends = jacobian(lambda z: network(z, shift), torch.randn(4)).abs().sum(1) > 0
    expected = torch.ones(4, 4).tril(-1) > 0
    assert torch.equal(depends, expected.mT if backwards else expected)


def test_network_of_one_dimension_depends_on_context_alone():
    network = Autoregressive(1, numbers=2, hidden=4)
    z, shift = torch.randn(5, 1), torch.randn(5, 4)
    assert torch.equal(network(z, shift), network(z + 1, shift))
    assert not torch.allclose(network(z, shift), network(z, shift + 1))


@pytest.mark.parametrize(("kind", "latents"), [("affine", 3), ("spline", 3), ("spline", 1)])
def test_layers_are_inverted_and_their_log_determinant_is_that_of_autograd(kind, latents):
    flow = Flow(latents, kind=kind, hidden=8)
    for parameter in flow.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    u, shift = torch.randn(5, latents), torch.randn(5, 8)
    for i, layer in enumerate(flow.transforms(shift)):
        z = layer(u)
        again = flow.transforms(shift)[i]
        assert torch.allclose(again.inv(z), u, atol=1e-10)
        expected = torch.stack(
            [jacobian(flow.transforms(shift[n])[i], u[n]).det().abs().log() for n in range(len(u))]
        )
        assert torch.allclose(layer.log_abs_det_jacobian(u, z), expected, atol=1e-10)
        assert torch.allclose(again.log_abs_det_jacobian(u, z), expected, atol=1e-10)
        u = z.detach()


def test_layers_start_close_to_the_identity():
    u = torch.randn(1000, 3)
    for kind in ("affine", "spline"):
        z = u
        for layer in Flow(3, kind=kind).transforms():
            z = layer(z)
        assert 0 < (z - u).abs().mean() < 0.2
