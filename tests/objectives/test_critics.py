"""Critics: density ratios that are known, and codes that take the shape they are asked for."""

import math

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import Delta
from torch import nn
from torch.nn.functional import softplus

from pyro_bvae import VAE, tempered
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_critic, mlp_decoder, mlp_encoder
from pyro_bvae.objectives import AdversarialELBO, FactorELBO
from pyro_bvae.objectives.mmd import mmd
from pyro_bvae.objectives.ratio import log_ratio, permuted, ratio_loss
from pyro_bvae.posteriors import MeanFieldPosterior, Posterior
from pyro_bvae.priors import Prior
from pyro_bvae.training import CriticSVI
from tests.objectives.examples import LATENTS, data, small_vae


def trained_critic(draw, *, latents=2, steps=1500, batch=512):
    critic = mlp_critic(latents, hidden=(64, 64))
    optimiser = torch.optim.Adam(critic.parameters(), lr=5e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        ratio_loss(critic, *draw(batch)).backward()
        optimiser.step()
        decay.step()
    return critic


def test_a_critic_finds_a_density_ratio():
    """N(1, 1) against N(0, 1) in the plane: the log-ratio z₁ − ½ within .15 nats where data are."""

    def draw(n):
        shift = torch.tensor([1.0, 0.0])
        return torch.randn(n, 2) + shift, torch.randn(n, 2)

    critic = trained_critic(draw)
    z = torch.randn(2000, 2) + torch.tensor([0.5, 0.0])
    error = log_ratio(critic, z) - (z[:, 0] - 0.5)
    assert error.square().mean().sqrt() < 0.15


def test_a_critic_finds_a_total_correlation():
    """Normals of correlation .8: TC = −½ ln(1 − .64) = .5108 nats, within .05."""

    def draw(n):
        a, b = torch.randn(2, n)
        z = torch.stack([a, 0.8 * a + 0.6 * b], 1)
        return z, permuted(z)

    critic = trained_critic(draw)
    found = log_ratio(critic, draw(20_000)[0]).mean().item()
    assert found == pytest.approx(-math.log(1 - 0.64) / 2, abs=0.05)


def test_the_ratio_loss_of_a_critic_that_knows():
    """The exact log-ratio has the least loss, below that of a scaled or moved one."""
    a, b = torch.randn(20_000, 1) + 1, torch.randn(20_000, 1)

    def loss(scale, shift):
        critic = nn.Linear(1, 1)
        with torch.no_grad():
            critic.weight.fill_(scale)
            critic.bias.fill_(-0.5 + shift)
        return ratio_loss(critic, a, b).item()

    assert loss(1, 0) < min(loss(0.7, 0.15), loss(1.4, -0.2), loss(1, 0.3), loss(1, -0.3))
    assert loss(1, 0) < loss(0, 0.5) == pytest.approx(2 * math.log(2), rel=1e-12)


def test_permuted_draws_keep_the_marginals_and_lose_the_rest():
    """5 standard errors of a correlation of 10⁴ draws."""
    a = torch.randn(10_000)
    z = torch.stack([a, a], 1)
    shuffled = permuted(z)
    assert torch.equal(shuffled.sort(0).values, z.sort(0).values)
    assert torch.corrcoef(shuffled.mT)[0, 1].abs() < 5 / 100


def test_a_log_ratio_trains_the_codes_and_not_the_critic():
    critic, z = mlp_critic(2), torch.randn(5, 2, requires_grad=True)
    frozen = log_ratio(critic, z)
    assert torch.equal(frozen, critic(z))
    frozen.sum().backward()
    assert z.grad.abs().sum() > 0
    assert all(p.grad is None for p in critic.parameters())


def test_the_terms_of_both():
    """With a linear critic c(z) = w·z every term can be written down."""
    vae, x = small_vae(), data(8)
    critic = nn.Linear(LATENTS, 1)
    for make in (FactorELBO, AdversarialELBO):
        estimate = make(critic, gamma=3.0).estimate(*tempered(vae, 1.0), x, size=24)
        z, other = estimate.draws
        logits = critic(z)
        assert not any(draws.requires_grad for draws in (z, other))
        if make is FactorELBO:
            found, expected = estimate.terms["total_correlation"], logits.mean()
            assert torch.equal(other.sort(0).values, z.sort(0).values)
        else:
            found, expected = estimate.terms["adversarial"], softplus(logits).mean()
            aggregate = estimate.measures["aggregate_kl"]
            assert aggregate.item() == pytest.approx(24 * logits.mean().item())
        assert found.item() == pytest.approx(24 * expected.item(), rel=1e-12)


class ShapePrior(Prior):
    """A mixture of equal normals."""

    def __init__(self, centres, scale):
        super().__init__(centres.shape[1])
        self.register_buffer("centres", centres)
        self.scale = scale

    def forward(self, context=None):
        parts = dist.Normal(self.centres, self.scale).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(torch.ones(len(self.centres))), parts)


class PointPosterior(Posterior):
    """A deterministic encoder."""

    def __init__(self, encoder, latents):
        super().__init__(latents)
        self.encoder, self.head = encoder, nn.Linear(encoder.features, latents)

    def forward(self, x, context=None):
        return Delta(self.head(self.encoder(x))).to_event(1)


def modes():
    return ShapePrior(torch.tensor([[-1.5, 0.0], [1.5, 0.0]]), 0.4)


def ring():
    angle = torch.arange(16.0) * 2 * math.pi / 16
    return ShapePrior(2 * torch.stack([angle.cos(), angle.sin()], 1), 0.3)


def two_sample_test(a, b, permutations=200):
    """The share of random splits of both into two whose MMD is at least that of a and b."""
    both = torch.cat([a, b])
    measured = mmd(a, b)
    splits = [both[torch.randperm(len(both))] for _ in range(permutations)]
    return sum(bool(mmd(*split.chunk(2)) >= measured) for split in splits) / permutations


@pytest.mark.parametrize(
    ("prior", "posterior"), [(modes, PointPosterior), (ring, MeanFieldPosterior)]
)
def test_an_adversarial_autoencoder_gives_the_codes_their_shape(prior, posterior):
    """A two-sample test of level 1 % cannot tell 200 codes from 200 draws of the prior.

    Before the training, and against a normal of the same moments as the ring, it can.
    """
    x = torch.randn(1000, 3)
    encoder = mlp_encoder((3,), hidden=(64, 64))
    vae = VAE(
        prior(),
        NormalLikelihood(mlp_decoder(2, (3,), hidden=(64,)), scale=1.0),
        posterior(encoder, 2),
    )
    objective = AdversarialELBO(mlp_critic(2, hidden=(64, 64)), gamma=4.0)
    target = vae.prior().sample((200,))
    assert two_sample_test(vae.posterior(x[:200]).sample(), target) < 0.01
    optim = lambda parameters: torch.optim.Adam(parameters, lr=1e-3, betas=(0.5, 0.9))  # noqa: E731
    svi = CriticSVI(*tempered(vae, 1.0), optim, objective, critic_optim=optim, mode="recorded")
    for _ in range(2500):
        svi.step(x[torch.randint(1000, (128,))])
    assert svi.fallback is svi.critic.fallback is None
    fresh = torch.randn(200, 3)
    assert two_sample_test(vae.posterior(fresh).sample(), target) > 0.01


def test_the_two_sample_test_tells_a_ring_from_a_normal():
    target = ring()().sample((200,))
    assert two_sample_test(torch.randn(200, 2) * target.std(), target) < 0.01
