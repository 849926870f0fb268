"""A linear VAE built from the package's own parts, trained by SVI, reaches the closed forms.

The data have the spectrum's covariance exactly, so the answers are the population's. Every run is
full batch, with a learning rate that falls twice; what is left is the noise of the guide's draws.
It enters the objective in second order and the parameters in first. The tolerances are not
derived: at seed 0, the only one measured, the objective came within 5e-4 of the optimum and rate
and distortion within 6e-3, and they leave room above that.
"""

import pytest
import torch
from pyro import distributions as dist

from pyro_bvae import tempered, theory
from pyro_bvae.objectives import ELBO
from tests.truths import (
    NOISE,
    SPECTRUM,
    BalancedPosterior,
    data_and_covariance,
    decoder_of,
    linear_vae,
    terms_of,
    train,
)


@pytest.mark.parametrize(("beta", "latents"), [(0.5, 4), (1.0, 3), (2.0, 3), (4.0, 3), (8.0, 3)])
def test_trained_model_is_the_optimum(beta: float, latents: int):
    x, covariance = data_and_covariance()
    vae = linear_vae(latents)
    train(vae, x, beta)
    best = theory.linear_optimum(SPECTRUM, latents, beta=beta, likelihood_scale=NOISE)
    got = terms_of(vae, x, covariance, beta)
    for name in ("objective", "rate", "distortion"):
        tolerance = 2e-3 if name == "objective" else 2e-2
        assert getattr(got, name).item() == pytest.approx(getattr(best, name).item(), abs=tolerance)
    strengths, order = decoder_of(vae).norm(dim=0).sort(descending=True)
    assert strengths == pytest.approx(best.singular_values, abs=0.03)
    variances = vae.posterior(x).variance.detach().mean(0)[order]
    assert variances == pytest.approx(best.posterior_variances, abs=0.03)
    kl = -0.5 * (vae.posterior(x).variance.log()).mean(0)
    assert int((kl > 0.01).sum()) == best.active


@pytest.mark.parametrize("prior_scale", [0.25, 4.0])
def test_prior_scale_is_a_gauge(prior_scale: float):
    """Rate, distortion and objective are those of σ_z = 1, with z = σ_z times as wide."""
    x, covariance = data_and_covariance()
    vae = linear_vae(3, prior=prior_scale)
    train(vae, x, 2.0, steps=2000)
    got = terms_of(vae, x, covariance, 2.0)
    assert got.objective.item() == pytest.approx(-9.44667907, abs=4e-3)
    assert got.rate.item() == pytest.approx(1.80595921, abs=2e-2)
    assert got.distortion.item() == pytest.approx(5.83476066, abs=2e-2)
    strengths, order = decoder_of(vae).norm(dim=0).sort(descending=True)
    assert strengths * prior_scale == pytest.approx(
        torch.tensor([1.843909, 1.183216, 0.632456]), abs=0.03
    )
    variances = vae.posterior(x).variance.detach().mean(0)[order]
    assert variances / prior_scale**2 == pytest.approx(torch.tensor([0.15, 0.3, 0.6]), abs=0.03)


def means_alone(gradient: torch.Tensor) -> torch.Tensor:
    """Of the gradient of a posterior's head, what concerns the means."""
    return torch.cat([gradient[:3], torch.zeros_like(gradient[3:])])


@pytest.mark.parametrize("prior_scale", [0.1, 1.0, 10.0])
def test_prior_scale_is_a_gauge_over_two_orders_of_magnitude(prior_scale: float):
    """Balanced draws and a variance that does not vary with x leave the ELBO no noise at all."""
    x, covariance = data_and_covariance(64)
    vae = linear_vae(3, prior=prior_scale, posterior=BalancedPosterior)
    vae.posterior.head.weight.data[3:] = 0
    vae.posterior.head.weight.register_hook(means_alone)
    model, guide = tempered(vae, 2.0)
    optimiser = torch.optim.LBFGS(
        vae.parameters(),
        max_iter=1500,
        history_size=50,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-7,
        tolerance_change=1e-14,
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = ELBO().differentiable_loss(model, guide, x) / len(x)
        loss.backward()
        return loss

    optimiser.step(closure)
    got = terms_of(vae, x, covariance, 2.0)
    assert got.objective.item() == pytest.approx(-9.44667907, abs=1e-5)
    assert got.rate.item() == pytest.approx(1.80595921, abs=1e-3)
    assert got.distortion.item() == pytest.approx(5.83476066, abs=2e-3)


@pytest.mark.parametrize(("beta", "variance", "active"), [(1.0, 0.375, 3), (2.0, 1.25, 1)])
def test_learned_likelihood_scale(beta: float, variance: float, active: int):
    x, covariance = data_and_covariance()
    vae = linear_vae(3, likelihood="learned")
    train(vae, x, beta)
    best = theory.linear_optimum(SPECTRUM, 3, beta=beta, likelihood_scale=variance**0.5)
    got = terms_of(vae, x, covariance, beta)
    assert vae.likelihood.scale().item() ** 2 == pytest.approx(variance, rel=0.02)
    assert got.objective.item() == pytest.approx(best.objective.item(), abs=2e-3)
    assert best.active == active


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_learned_scale_per_latent_is_the_relevance_of_its_axis(beta: float):
    x, covariance = data_and_covariance()
    vae = linear_vae(4, prior="per_latent")
    decoder = vae.likelihood.decoder.net[0]
    axes = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :4]
    decoder.weight.data.copy_(axes)
    decoder.weight.requires_grad_(False)
    train(vae, x, beta, steps=3000)
    expected = theory.relevance_prior_scale(SPECTRUM, 4, beta=beta, likelihood_scale=NOISE) ** 2
    assert vae.prior.scale().detach() ** 2 == pytest.approx(expected, abs=0.05)


def test_hyperprior_gives_the_scale_a_posterior_around_its_learned_value():
    """One σ for n = 2 · 500 latents: E[z²] = 3 − .3 = 2.7, so σ = 1.643, sd σ/√(2n) = .037."""
    x, covariance = data_and_covariance()
    vae = linear_vae(2, prior=dist.HalfNormal(2.0))
    decoder = vae.likelihood.decoder.net[0]
    decoder.weight.data.copy_(torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :2])
    decoder.weight.requires_grad_(False)
    train(vae, x, 1.0)
    draws = vae.prior.scale.posterior().sample((20_000,))
    assert draws.mean().item() == pytest.approx(2.7**0.5, abs=0.02)
    assert draws.std().item() == pytest.approx(2.7**0.5 / 2000**0.5, rel=0.2)
