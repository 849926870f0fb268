"""A linear VAE built from the package's own parts, trained by SVI, reaches the closed forms.

The data have the spectrum's covariance exactly, so the answers are the population's. Every run is
full batch, with a learning rate that falls twice; what is left is the noise of the guide's draws,
and how much it leaves of the objective is known: see `left_by_adam`. Every other tolerance follows
from what the objective, which is exact here, misses its optimum by, ε. Each is the curvature of
the exact objective about its optimum: a quantity that is off by δ costs ε ≥ ½ curvature δ².
"""

import pytest
import torch
from pyro import distributions as dist

from pyro_bvae import VAE, tempered, theory
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


def left_by_adam(vae: VAE, x: torch.Tensor, beta: float, *, rate: float = 1.5e-3) -> float:
    """How much Adam at a constant rate leaves of the objective: rate/4 Σ σ, the sum over weights.

    σ is the sd of a weight's gradient. Near the optimum Adam divides by it, θ ← θ − rate (hθ/σ + ξ)
    with ξ of variance 1. So θ has variance rate σ/2h, which costs half of h times that. The last
    rate is a third of this one: that is the room for how the cost varies about its mean, and for
    what the higher rates before have left.

    Mandt, Hoffman, Blei (2017), Stochastic Gradient Descent as Approximate Bayesian Inference.
    """
    model, guide = tempered(vae, beta)
    weights = [p for p in vae.parameters() if p.requires_grad]
    gradients = []
    for _ in range(50):
        loss = ELBO().differentiable_loss(model, guide, x) / len(x)
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]))
    return rate / 4 * torch.stack(gradients).std(0).sum().item()


def cost_of_strengths(strengths: torch.Tensor, *, beta: float) -> float:
    """The part of ε that is due to w_j² r_j not being (λ_j − t)₊, in leading order (hence the 1.1).

    L = −(β/2) Σ (ln c + λ/c) + …, c = w²r + t: curvature β/2λ² at c = λ, a slope at c = t > λ.
    """
    leading, level = SPECTRUM[: len(strengths)], beta * NOISE**2
    active = beta * (strengths + level - leading) ** 2 / (4 * leading**2)
    inactive = beta / 2 * (level - leading) / level**2 * strengths
    return torch.where(leading > level, active, inactive).sum().item()


def check_optimum(
    vae: VAE, x: torch.Tensor, covariance: torch.Tensor, beta: float, latents: int
) -> None:
    """Hold a VAE with fixed scales to the optimum, all tolerances in terms of ε."""
    scale = vae.prior.scale().item()
    best = theory.linear_optimum(SPECTRUM, latents, beta=beta, likelihood_scale=NOISE)
    got = terms_of(vae, x, covariance, beta)
    missed = (best.objective - got.objective).item()
    assert 0 <= missed < left_by_adam(vae, x, beta)
    # Dist*(R) has slope −β and curvature 2β/k, k ≤ K the number of active latents
    of_rate = (latents * missed / beta) ** 0.5
    assert got.rate.item() == pytest.approx(best.rate.item(), abs=of_rate)
    assert got.distortion.item() == pytest.approx(
        best.distortion.item(), abs=missed + beta * of_rate
    )
    strengths, order = (decoder_of(vae).norm(dim=0) * scale).sort(descending=True)
    assert cost_of_strengths(strengths**2, beta=beta) < 1.1 * missed
    # a variance s² that is not the best, t/(w² + t) in units of r, costs (β/2)(q − 1 − ln q)
    variances = vae.posterior(x).variance.detach().mean(0)[order] / scale**2
    ratio = variances * (strengths**2 / (beta * NOISE**2) + 1)
    assert beta / 2 * (ratio - 1 - ratio.log()).sum() < 1.1 * missed
    assert int((-0.5 * variances.log() > 0.01).sum()) == best.active


@pytest.mark.parametrize(("beta", "latents"), [(0.5, 4), (1.0, 3), (2.0, 3), (4.0, 3), (8.0, 3)])
def test_trained_model_is_the_optimum(beta: float, latents: int):
    x, covariance = data_and_covariance()
    vae = linear_vae(latents)
    train(vae, x, beta)
    check_optimum(vae, x, covariance, beta, latents)


@pytest.mark.parametrize("prior_scale", [0.25, 4.0])
def test_prior_scale_is_a_gauge(prior_scale: float):
    """Rate, distortion and objective are those of σ_z = 1, with z = σ_z times as wide."""
    x, covariance = data_and_covariance()
    vae = linear_vae(3, prior=prior_scale)
    train(vae, x, 2.0, steps=2000)
    check_optimum(vae, x, covariance, 2.0, 3)


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
    """The best objective at each s = σ_x² has curvature (D − βk)/2 in ln s."""
    x, covariance = data_and_covariance()
    vae = linear_vae(3, likelihood="learned")
    train(vae, x, beta, steps=800)
    best = theory.linear_optimum(SPECTRUM, 3, beta=beta, likelihood_scale=variance**0.5)
    missed = (best.objective - terms_of(vae, x, covariance, beta).objective).item()
    assert 0 <= missed < left_by_adam(vae, x, beta)
    off = 2 * (missed / (5 - beta * active)) ** 0.5
    assert vae.likelihood.scale().item() ** 2 == pytest.approx(variance, rel=1.1 * off)
    assert best.active == active


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_learned_scale_per_latent_is_the_relevance_of_its_axis(beta: float):
    """With w = 1 the strengths are the r_j, and none costs more than all do together."""
    x, covariance = data_and_covariance()
    vae = linear_vae(4, prior="per_latent")
    decoder = vae.likelihood.decoder.net[0]
    axes = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :4]
    decoder.weight.data.copy_(axes)
    decoder.weight.requires_grad_(False)
    train(vae, x, beta, steps=1500)
    knobs = {"beta": beta, "likelihood_scale": NOISE}
    learned = vae.prior.scale().detach()
    variances = vae.posterior(x).variance.detach().mean(0)
    guide = theory.LinearGuide(vae.posterior.head.weight.detach()[:4], torch.diag(variances))
    got = theory.linear_terms(covariance, axes, guide, prior_scale=learned, **knobs)
    best = theory.linear_optimum(SPECTRUM, 4, **knobs)
    missed = (best.objective - got.objective).item()
    assert 0 <= missed < left_by_adam(vae, x, beta)
    assert cost_of_strengths(learned**2, beta=beta) < 1.1 * missed
    relevance = theory.relevance_prior_scale(SPECTRUM, 4, **knobs) ** 2
    off = 2 * SPECTRUM[0] * (missed / beta) ** 0.5
    assert learned**2 == pytest.approx(relevance, abs=1.1 * off.item())


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
