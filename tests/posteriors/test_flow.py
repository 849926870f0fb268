"""The flow posterior."""

import pytest
import torch
from torch import nn

from pyro_bvae.networks import mlp_encoder
from pyro_bvae.posteriors import FlowPosterior
from tests.contracts import PosteriorContract, total_on_a_grid


def shaken(posterior):
    """Move the flow away from the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        for parameter in posterior.flow.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return posterior


class TestSplineFlowPosterior(PosteriorContract):
    def make(self, latents=3, encoder=None, features=None):
        encoder = encoder or self.encoder()
        return shaken(FlowPosterior(encoder, latents, kind="spline", hidden=8, features=features))

    def test_density_integrates_to_one(self):
        fn = self.make(latents=1)(torch.rand(1, *self.shape))
        assert total_on_a_grid(fn.log_prob, 1) == pytest.approx(1, abs=1e-7)


class TestAffineFlowPosterior(PosteriorContract):
    def make(self, latents=3, encoder=None, features=None):
        encoder = encoder or self.encoder()
        return shaken(FlowPosterior(encoder, latents, hidden=8, features=features))

    def test_density_integrates_to_one(self):
        fn = self.make(latents=2)(torch.rand(1, *self.shape))
        assert total_on_a_grid(fn.log_prob, 2) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", ["affine", "spline"])
def test_density_of_a_draw_is_the_same_computed_afresh(kind):
    """A draw's own density comes from what the draw left; a copy's goes back through the flow."""
    posterior = shaken(FlowPosterior(mlp_encoder((4,)), latents=3, kind=kind))
    q = posterior(torch.randn(5, 4))
    z = q.rsample((2,))
    assert torch.allclose(q.log_prob(z), q.log_prob(z.clone()), rtol=1e-9)


def test_code_is_the_image_of_the_mean_of_the_base():
    posterior = FlowPosterior(nn.Identity(), latents=2, hidden=4, features=8)
    with torch.no_grad():
        posterior.head.weight.copy_(torch.eye(8))
        posterior.head.bias.zero_()
    for parameter in posterior.flow.parameters():
        nn.init.zeros_(parameter)
    numbers = torch.randn(5, 8)
    assert torch.allclose(posterior.code(numbers), numbers[:, :2])
    nn.init.ones_(posterior.flow.networks[-1].last.bias)
    scale = (0.5 * numbers[:, 2:4]).exp()
    assert torch.allclose(posterior.code(numbers), numbers[:, :2] + scale)


def test_refuses_an_affine_flow_of_one_latent():
    with pytest.raises(ValueError, match=r"latents: an affine autoregressive flow of 1 latent"):
        FlowPosterior(mlp_encoder((4,)), latents=1)
