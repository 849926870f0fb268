"""The VampPrior: the posterior at pseudo-inputs."""

import copy
import pickle

import pytest
import torch
from torch import nn

from pyro_bvae import VAE
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import FlowPosterior, MeanFieldPosterior
from pyro_bvae.priors import VampPrior
from tests.contracts import PriorContract


def posterior(latents=3):
    return MeanFieldPosterior(mlp_encoder((4,), hidden=(6,)), latents=latents)


class TestVampPrior(PriorContract):
    def make(self, latents=3):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return VampPrior(posterior(latents), torch.rand(5, 4))

    def test_moves_to_another_dtype(self):
        """With the VAE, to which the posterior belongs."""
        torch.set_default_dtype(torch.float32)
        prior = vae().double().prior
        assert prior().sample().dtype == torch.float64


def vae(latents=3):
    q = posterior(latents)
    return VAE(
        prior=VampPrior(q, torch.rand(5, 4)),
        likelihood=NormalLikelihood(mlp_decoder(latents, (4,))),
        posterior=q,
    )


def test_density_is_the_average_of_the_posteriors():
    prior = vae().prior
    z = torch.randn(7, 3)
    q = prior._posterior[0](prior.pseudo_inputs)
    expected = (q.log_prob(z.unsqueeze(1)).exp().sum(1) / 5).log()
    assert torch.allclose(prior().log_prob(z), expected, rtol=1e-10)


def test_takes_a_flow_posterior():
    q = FlowPosterior(mlp_encoder((4,)), latents=3)
    prior = VampPrior(q, torch.rand(5, 4))
    z = torch.randn(7, 3)
    each = torch.stack([q(u[None]).log_prob(z) for u in prior.pseudo_inputs])
    assert torch.allclose(prior().log_prob(z), each.exp().mean(0).log(), rtol=1e-10)


def test_state_has_the_posterior_once():
    module = vae()
    assert [name for name in module.state_dict() if name.startswith("prior")] == [
        "prior.pseudo_inputs"
    ]
    other = vae()
    other.load_state_dict(module.state_dict())
    z = torch.randn(7, 3)
    assert torch.equal(other.prior().log_prob(z), module.prior().log_prob(z))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_of_the_vae_keep_prior_and_posterior_together(copied):
    other = copied(vae())
    assert other.prior._posterior[0] is other.posterior


def test_refuses_another_posterior():
    mine, likelihood = posterior(), NormalLikelihood(mlp_decoder(3, (4,)))
    with pytest.raises(ValueError, match="prior: expected a VampPrior built on the VAE's own"):
        VAE(VampPrior(posterior(), torch.rand(5, 4)), likelihood, mine)
    with pytest.raises(ValueError, match="posterior: expected the prior's 2 latents, got 3"):
        VAE(VampPrior(posterior(2), torch.rand(5, 4)), likelihood, mine)


def test_refuses_what_is_no_posterior_and_no_data():
    with pytest.raises(TypeError, match="posterior: expected the VAE's Posterior, got Linear"):
        VampPrior(nn.Linear(2, 2), torch.rand(5, 4))
    with pytest.raises(ValueError, match="x: expected at least one datum"):
        VampPrior(posterior(), torch.rand(0, 4))
    with pytest.raises(ValueError, match=r"x: expected shape \[batch, 4\], got \[5, 3\]"):
        VampPrior(posterior(), torch.rand(5, 3))()
