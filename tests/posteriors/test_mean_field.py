"""The mean-field posterior."""

import math

import pytest
import torch
from torch import nn

from pyro_bvae.posteriors import MeanFieldPosterior
from tests.contracts import PosteriorContract


class TestMeanFieldPosterior(PosteriorContract):
    def make(self, latents=3, encoder=None, features=None):
        return MeanFieldPosterior(encoder or self.encoder(), latents, features=features)


class TestLaplaceMeanFieldPosterior(PosteriorContract):
    def make(self, latents=3, encoder=None, features=None):
        encoder = encoder or self.encoder()
        return MeanFieldPosterior(encoder, latents, family="laplace", features=features)


def test_laplace_density_is_the_formula():
    posterior = MeanFieldPosterior(nn.Identity(), latents=2, family="laplace", features=4)
    with torch.no_grad():
        posterior.head.weight.copy_(torch.eye(4))
        posterior.head.bias.zero_()
    h, z = torch.randn(5, 4), torch.randn(5, 2)
    scale = (0.5 * h[:, 2:]).exp()
    expected = -(z - h[:, :2]).abs() / scale - (2 * scale).log()
    assert torch.allclose(posterior(h).log_prob(z), expected.sum(-1), rtol=1e-12)


def test_refuses_another_family():
    with pytest.raises(ValueError, match=r"family: expected one of .*'laplace', 'normal'.*got 'c"):
        MeanFieldPosterior(nn.Identity(), latents=2, family="cauchy", features=4)


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
