"""The flow prior."""

import pytest
import torch
from torch.autograd.functional import jacobian

from pyro_bvae.priors import FlowPrior, NormalPrior
from tests.contracts import PriorContract, total_on_a_grid


def bent(latents=3, kind="spline"):
    """A flow that is far from the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        prior = FlowPrior(latents, kind=kind, hidden=8)
        for parameter in prior.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return prior


class TestSplineFlowPrior(PriorContract):
    def make(self, latents=3):
        return bent(latents)

    def test_density_integrates_to_one(self):
        fn = self.make(1)()
        assert total_on_a_grid(fn.log_prob, 1) == pytest.approx(1, abs=1e-7)


class TestAffineFlowPrior(PriorContract):
    def make(self, latents=3):
        return bent(latents, kind="affine")

    def test_density_integrates_to_one(self):
        fn = self.make(2)()
        assert total_on_a_grid(fn.log_prob, 2) == pytest.approx(1, abs=1e-3)


def test_a_plane_density_integrates_to_one():
    assert total_on_a_grid(bent(2)().log_prob, 2) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", ["spline", "affine"])
def test_density_is_that_of_the_change_of_variables(kind):
    """Of draws, which go through the inverse: log N(T(z)) + log |det ∂T/∂z| by autograd."""
    prior = bent(kind=kind)
    z = prior().sample((20,)).detach()

    def carried(value):
        for transform in prior.flow.transforms():
            value = transform(value)
        return value

    for one in z:
        log_det = jacobian(carried, one).det().abs().log()
        expected = NormalPrior(3)().log_prob(carried(one)) + log_det
        assert torch.allclose(prior().log_prob(one), expected, rtol=1e-10)


def test_draws_follow_the_density():
    """E_p[1/p on a box] = the box's area, within 5 standard errors."""
    fn = bent(2)()
    z = fn.sample((20_000,))
    inside = (z.abs() < 1).all(-1)
    values = inside * torch.exp(-fn.log_prob(z))
    error = values.std() / len(z) ** 0.5
    assert (values.mean() - 4).abs() < 5 * error


def test_refuses_one_latent_where_the_flow_would_be_a_normal():
    with pytest.raises(ValueError, match=r'latents: an affine autoregressive .*use kind="spline"'):
        FlowPrior(1, kind="affine")
    with pytest.raises(ValueError, match=r"kind: expected one of .*affine.*spline.*, got 'planar'"):
        FlowPrior(2, kind="planar")
    with pytest.raises(ValueError, match="layers: expected a whole number >= 1, got 0"):
        FlowPrior(2, layers=0)
