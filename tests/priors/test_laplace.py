"""The Laplace prior."""

import math

import pyro.distributions as dist
import pytest
import torch

from pyro_bvae.priors import LaplacePrior
from tests.contracts import PriorContract


class TestLaplacePrior(PriorContract):
    def make(self, latents=3):
        return LaplacePrior(latents, scale=0.7)


class TestLaplacePriorPerLatent(PriorContract):
    def make(self, latents=3):
        return LaplacePrior(latents, scale="per_latent")


class TestLaplacePriorWithAHyperprior(PriorContract):
    def make(self, latents=3):
        return LaplacePrior(latents, scale=dist.HalfNormal(2.0))

    def parameters_of_the_guide(self):
        return {"scale.loc", "scale.log_scale"}


@pytest.mark.parametrize("b", [0.3, 2.0])
def test_density_is_the_formula(b):
    z = torch.randn(7, 3)
    expected = -z.abs().sum(-1) / b - 3 * math.log(2 * b)
    assert torch.allclose(LaplacePrior(3, scale=b)().log_prob(z), expected, rtol=1e-13)
