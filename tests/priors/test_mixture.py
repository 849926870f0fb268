"""The mixture prior."""

import math

import pytest
import torch

from pyro_bvae.priors import MixturePrior
from tests.contracts import PriorContract


class TestMixturePrior(PriorContract):
    def make(self, latents=3):
        return MixturePrior(latents, components=4)


def test_density_is_the_formula():
    prior, z = MixturePrior(2, components=3), torch.randn(7, 2)
    with torch.no_grad():
        prior.logits.copy_(torch.tensor([0.5, 0.3, 0.2]).log() + 1)
        prior.log_scale.copy_(torch.randn(3, 2))
    total = torch.zeros(7)
    for weight, loc, log_scale in zip([0.5, 0.3, 0.2], prior.loc, prior.log_scale, strict=True):
        scale = log_scale.exp()
        normal = torch.exp(-(((z - loc) / scale) ** 2) / 2) / (scale * math.sqrt(2 * math.pi))
        total = total + weight * normal.prod(-1)
    assert torch.allclose(prior().log_prob(z), total.log(), rtol=1e-12)


@pytest.mark.parametrize("components", [0, 2.0, "3"])
def test_refuses_components(components):
    with pytest.raises(ValueError, match="components: expected a whole number >= 1, got"):
        MixturePrior(3, components=components)
