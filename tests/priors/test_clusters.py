"""On clustered data, priors that can be clustered beat the normal one, out of sample."""

from functools import partial

import pytest
import torch

from pyro_bvae import VAE, tempered
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.objectives import ELBO
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import FlowPrior, MixturePrior, NormalPrior, VampPrior
from pyro_bvae.training import CompiledSVI

CENTRES = torch.tensor([[2.0, 2.0], [-2.0, 2.0], [2.0, -2.0], [-2.0, -2.0]], dtype=torch.float64)


def clustered(n):
    return CENTRES[torch.randint(4, (n,))] + 0.3 * torch.randn(n, 2)


def held_out(make_prior, x, test):
    """ELBO of each test datum, from 100 draws, after 600 steps with a linear decoder."""
    posterior = MeanFieldPosterior(mlp_encoder((2,), hidden=(16,)), latents=2)
    prior = make_prior(posterior, x)
    likelihood = NormalLikelihood(mlp_decoder(2, (2,), hidden=()), scale=0.2)
    vae = VAE(prior, likelihood, posterior)
    optim = partial(torch.optim.Adam, lr=2e-2)
    svi = CompiledSVI(*tempered(vae, 1.0), optim, ELBO(), mode="recorded")
    for _ in range(600):
        svi.step(x)
    with torch.no_grad():
        q = posterior(test)
        z = q.sample((100,))
        value = likelihood(z).log_prob(test) + prior().log_prob(z) - q.log_prob(z)
    return value.mean(0)


PRIORS = {
    "mixture": lambda posterior, x: MixturePrior(2, components=8),
    "vamp": lambda posterior, x: VampPrior(posterior, x[:8]),
    "flow": lambda posterior, x: FlowPrior(2),
}


@pytest.fixture(scope="module")
def data():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    return clustered(200), clustered(500)


@pytest.fixture(scope="module")
def normal(data):
    torch.manual_seed(0)
    return held_out(lambda posterior, x: NormalPrior(2), *data)


def test_normal_prior_is_no_better_than_a_normal_of_the_data(data, normal):
    """A linear decoder makes p(x) a normal: at best that of the test data's own covariance."""
    _, test = data
    best = torch.distributions.MultivariateNormal(test.mean(0), test.mT.cov(correction=0))
    assert normal.mean() < best.log_prob(test).mean()


@pytest.mark.parametrize("name", PRIORS)
def test_clustered_priors_beat_the_normal_one(name, data, normal):
    """By more than 0.3 nats and 5 standard errors of the difference, datum by datum."""
    gain = held_out(PRIORS[name], *data) - normal
    assert gain.mean() > max(0.3, 5 * gain.std() / len(gain) ** 0.5)
