"""The mean-field posterior."""

import math

import torch
from torch import nn

from pyro_bvae.posteriors import MeanFieldPosterior
from tests.contracts import PosteriorContract


class TestMeanFieldPosterior(PosteriorContract):
    def make(self, latents=3, encoder=None, features=None):
        return MeanFieldPosterior(encoder or self.encoder(), latents, features=features)


def test_density_is_the_formula():
    """The head gives μ first, then log σ²."""
    posterior = MeanFieldPosterior(nn.Identity(), latents=2, features=4)
    with torch.no_grad():
        posterior.head.weight.copy_(torch.eye(4))
        posterior.head.bias.zero_()
    h, z = torch.randn(5, 4), torch.randn(5, 2)
    mean, log_variance = h[:, :2], h[:, 2:]
    expected = -((z - mean) ** 2 / log_variance.exp() + log_variance + math.log(2 * math.pi)) / 2
    q = posterior(h)
    assert torch.allclose(q.log_prob(z), expected.sum(-1), rtol=1e-12)
    assert torch.allclose(q.variance, log_variance.exp())
    assert torch.equal(q.mean, mean)
