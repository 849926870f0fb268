"""The conditional prior: a normal for every context."""

import pyro
import pytest
import torch
from torch import nn

from pyro_bvae.networks import OneHot, mlp_encoder
from pyro_bvae.priors import ConditionalPrior
from tests.contracts import ModuleContract, normalisation


class TestConditionalPrior(ModuleContract):
    def make(self, latents=3):
        return ConditionalPrior(mlp_encoder((4,), hidden=(5,)), latents)

    def inputs(self, module, batch=5):
        return (torch.randn(batch, 4),)

    def event_shape(self):
        return (3,)

    def test_density_integrates_to_one(self):
        fn = self.make(latents=1)(torch.randn(1, 4))
        assert normalisation(lambda z: fn.log_prob(z.reshape(1, 1))) == pytest.approx(1, abs=1e-7)

    @pytest.mark.parametrize("latents", [0, -1, 2.0, True, "2", None])
    def test_refuses_latents(self, latents):
        with pytest.raises(ValueError, match=r"latents: expected a whole number >= 1, got"):
            self.make(latents)


def test_every_class_has_a_normal_of_its_own():
    prior = ConditionalPrior(OneHot(3), latents=2)
    numbers = prior.head.weight.T + prior.head.bias
    fn = prior(torch.tensor([2, 0, 2])).base_dist
    assert torch.allclose(fn.loc, numbers[[2, 0, 2], :2])
    assert torch.allclose(fn.scale, (numbers[[2, 0, 2], 2:] / 2).exp())


def test_samples_nothing_of_its_own():
    prior = ConditionalPrior(OneHot(3), latents=2)
    assert pyro.poutine.trace(prior.guide).get_trace().stochastic_nodes == []


def test_refuses_no_context():
    with pytest.raises(TypeError, match="context: a ConditionalPrior needs one, got none"):
        ConditionalPrior(OneHot(3), latents=2)()


def test_refuses_networks_of_unknown_or_other_width():
    with pytest.raises(ValueError, match=r"features: Flatten has no \.features"):
        ConditionalPrior(nn.Flatten(), latents=2)
    prior = ConditionalPrior(nn.Flatten(), latents=2, features=3)
    with pytest.raises(ValueError, match=r"network: expected features .*\[2, 3\], got \[2, 4\]"):
        prior(torch.zeros(2, 4))
