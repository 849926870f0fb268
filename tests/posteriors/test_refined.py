"""The refined posterior, against the exact posterior of a linear model."""

import copy

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_bvae import VAE
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import (
    FlowPosterior,
    FullRankPosterior,
    MeanFieldPosterior,
    RefinedPosterior,
)
from pyro_bvae.priors import MixturePrior, NormalPrior, VampPrior
from tests.contracts import PosteriorContract


class Deaf(nn.Sequential):
    """A network that does not listen to context."""

    def forward(self, x, *context):
        return super().forward(x)


class TestRefinedPosterior(PosteriorContract):
    draws_when_called = True

    def make(self, latents=3, encoder=None, features=None):
        start = MeanFieldPosterior(encoder or self.encoder(), latents, features=features)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            likelihood = NormalLikelihood(Deaf(mlp_decoder(latents, self.shape)))
        return RefinedPosterior(
            start, prior=NormalPrior(latents), likelihood=likelihood, steps=2, rate=0.1
        )

    def test_moves_to_another_dtype(self):
        """With the VAE, to which prior and likelihood belong."""
        torch.set_default_dtype(torch.float32)
        module = vae().double()
        assert module.encode(torch.rand(5, 4, dtype=torch.float64)).dtype == torch.float64

    def test_passes_context_to_the_encoder(self):
        posterior = self.make()
        seen = []
        posterior.posterior.encoder = Listening(posterior.posterior.encoder, seen)
        (x,) = self.inputs(posterior)
        posterior(x, torch.ones(5, 1))
        assert [c.shape for c in seen] == [(5, 1)]

    def test_each_datum_has_its_own(self):
        """With the same noise, a change of one datum changes that one's posterior alone."""
        posterior = self.make()
        (x,) = self.inputs(posterior)
        other = x.clone()
        other[2] += 1
        z = torch.randn(5, self.latents)
        changed = self.log_prob(posterior, (x,), z) != self.log_prob(posterior, (other,), z)
        assert changed.tolist() == [False, False, True, False, False]


class Listening(nn.Module):
    def __init__(self, net, seen):
        super().__init__()
        self.net, self.seen = net, seen

    def forward(self, x, *context):
        self.seen.extend(context)
        return self.net(x)


def vae(prior=None, family=MeanFieldPosterior, **arguments):
    prior = prior or NormalPrior(3)
    likelihood = NormalLikelihood(mlp_decoder(3, (4,), hidden=()), scale=0.7)
    start = family(mlp_encoder((4,), hidden=(6,)), latents=3)
    return VAE(
        prior, likelihood, RefinedPosterior(start, prior=prior, likelihood=likelihood, **arguments)
    )


def exact(module, x, beta):
    """The precision of the posterior tempered with β, and its mean: N(P⁻¹Wᵀ(x − b)/βs, P⁻¹)."""
    linear = module.likelihood.decoder.net[0]
    w, noise = linear.weight.detach(), beta * 0.49
    precision = w.mT @ w / noise + torch.eye(3)
    return precision, torch.linalg.solve(precision, w.mT @ (x - linear.bias.detach()).mT / noise).mT


@pytest.mark.parametrize("beta", [1.0, 4.0])
@pytest.mark.parametrize("family", [MeanFieldPosterior, FullRankPosterior])
def test_climbs_to_the_exact_posterior(family, beta):
    """300 steps of 400 draws from an untrained encoder: the best of its family within 5 %."""
    module = vae(family=family, steps=300, rate=0.05, beta=beta, num_particles=400)
    x = 2 * torch.randn(3, 4)
    precision, mean = exact(module, x, beta)
    q = module.posterior(x)
    assert torch.allclose(q.mean, mean, atol=0.05)
    if family is FullRankPosterior:
        best = torch.linalg.inv(precision)
        assert torch.allclose(q.covariance_matrix, best.expand(3, 3, 3), atol=0.05)
    else:
        assert torch.allclose(q.variance * precision.diagonal(), torch.tensor(1.0), atol=0.05)


@pytest.mark.parametrize("prior", [MixturePrior(3), NormalPrior(3, scale=dist.HalfNormal(1.0))])
def test_each_step_raises_the_elbo(prior):
    """Also with a prior whose KL is sampled, or whose σ is; by more than 5 standard errors."""
    torch.manual_seed(1)
    module = vae(prior, family=FlowPosterior, steps=10, rate=0.02, num_particles=32)
    x = 2 * torch.randn(200, 4)
    refined, start = module.posterior, module.posterior.posterior
    p = refined._prior(())
    with torch.no_grad():
        gain = refined._elbo(refined(x), p, x, ()) - refined._elbo(start(x), p, x, ())
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5


def test_encoder_has_the_gradient_at_the_refined_parameters():
    """∂/∂λ of f(λ_0 + stopped change) is f′(λ_k)."""
    posterior = vae(steps=3).posterior
    x, z = torch.randn(5, 4), torch.randn(5, 3)
    torch.manual_seed(0)
    numbers = posterior._climb(posterior.posterior.amortised(x).detach(), x, ())
    numbers.requires_grad_()
    posterior.posterior.family(numbers).log_prob(z).sum().backward()
    torch.manual_seed(0)
    posterior(x).log_prob(z).sum().backward()
    assert torch.allclose(posterior.posterior.head.bias.grad, numbers.grad.sum(0), rtol=1e-9)


def test_leaves_the_decoder_without_gradients():
    module = vae(steps=3)
    module.encode(torch.randn(5, 4))
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not module.encode(torch.randn(5, 4)).requires_grad


def test_state_has_prior_and_likelihood_once_and_copies_keep_them_together():
    module = vae(prior=NormalPrior(3, scale="learned"))
    assert sum(name.endswith("log_value") for name in module.state_dict()) == 1
    other = copy.deepcopy(module)
    assert other.posterior._parts == (other.prior, other.likelihood)


def test_goes_with_a_vamp_prior_on_what_it_refines():
    start = MeanFieldPosterior(mlp_encoder((4,)), latents=3)
    prior = VampPrior(start, torch.rand(5, 4))
    likelihood = NormalLikelihood(mlp_decoder(3, (4,)))
    refined = RefinedPosterior(start, prior=prior, likelihood=likelihood)
    assert VAE(prior, likelihood, refined).encode(torch.rand(5, 4)).shape == (5, 3)


def test_refuses():
    module = vae()
    refined, start = module.posterior, module.posterior.posterior
    with pytest.raises(ValueError, match=r"posterior: expected a Refined.* VAE's own prior, got"):
        VAE(NormalPrior(3), module.likelihood, refined)
    with pytest.raises(ValueError, match=r"posterior: expected a Refined.* VAE's own likelihood,"):
        VAE(module.prior, NormalLikelihood(mlp_decoder(3, (4,))), refined)
    parts = {"prior": module.prior, "likelihood": module.likelihood}
    with pytest.raises(TypeError, match=r"posterior: expected an Amortised.*got Refined"):
        RefinedPosterior(refined, **parts)
    for name, bad in (("steps", 0), ("rate", 0.0), ("rate", "fast"), ("beta", -1.0)):
        with pytest.raises(ValueError, match=f"{name}: expected a .*, got {bad!r}"):
            RefinedPosterior(start, **parts, **{name: bad})


def test_a_refined_flow_has_the_code_of_a_flow():
    """A flow has no mean: the refined one's code is the image of its base's mean."""
    prior, likelihood = NormalPrior(2), NormalLikelihood(mlp_decoder(2, (9,)))
    start = FlowPosterior(mlp_encoder((9,)), latents=2)
    refined = RefinedPosterior(start, prior=prior, likelihood=likelihood, steps=2, rate=1e-12)
    x = torch.rand(5, 9)
    torch.testing.assert_close(refined.code(x), start.code(x))
