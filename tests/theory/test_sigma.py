"""A learned σ_x, a learned σ_z, and β against a prior's σ."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from pyro_bvae.theory import (
    LinearGuide,
    beta_as_prior,
    collapse_beta,
    learned_likelihood_scale,
    linear_optimum,
    linear_terms,
    normal_kl,
    posterior_variance,
    prior_scale_of_guide,
    relevance_prior_scale,
    tempered_posterior,
)
from tests.theory.cases import (
    SCALE,
    SPECTRUM,
    betas,
    latent_numbers,
    laws,
    maximise,
    random_pair,
    rotated,
    scales,
    spectra,
)


@pytest.mark.parametrize(
    ("beta", "active", "variance", "objective"),
    [
        (0.5, 3, 0.214286, -5.438635),
        (1.0, 3, 0.375, -7.153584),
        (1.5, 2, 0.875, -7.912545),
        (2.0, 1, 1.25, -8.122555),
        (4.0, 0, 1.55, -8.190330),
    ],
)
def test_golden_learned_likelihood_scale(beta, active, variance, objective):
    spectrum = torch.tensor(SPECTRUM)
    scale = learned_likelihood_scale(spectrum, 3, beta=beta)
    optimum = linear_optimum(spectrum, 3, beta=beta, likelihood_scale=scale)

    assert scale.square().item() == pytest.approx(variance, abs=6e-7)
    assert optimum.objective.item() == pytest.approx(objective, abs=6e-7)
    assert optimum.active == active


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5, 2.0])
def test_learning_everything_reaches_the_learned_scale(beta):
    covariance = rotated(torch.tensor(SPECTRUM))
    expected = learned_likelihood_scale(torch.tensor(SPECTRUM), 3, beta=beta)

    def objective(decoder, weight, log_variance, log_scale):
        guide = LinearGuide(weight, torch.diag(log_variance.exp()))
        scale = log_scale.exp()
        return linear_terms(covariance, decoder, guide, beta=beta, likelihood_scale=scale).objective

    log_scale = torch.zeros(())
    reached = maximise(objective, torch.randn(5, 3), torch.randn(3, 5), torch.zeros(3), log_scale)
    optimum = linear_optimum(torch.tensor(SPECTRUM), 3, beta=beta, likelihood_scale=expected)

    assert reached == pytest.approx(optimum.objective.item(), abs=1e-6)
    assert log_scale.exp().item() == pytest.approx(expected.item(), abs=1e-4)


@laws
@given(spectrum=spectra, latents=latent_numbers, beta=st.floats(0.2, 5))
def test_learned_scale_is_the_best_and_the_root_mean_squared_error(spectrum, latents, beta):
    assume(latents < len(spectrum) or beta > 1.01)
    scale = learned_likelihood_scale(spectrum, latents, beta=beta)

    def objective(likelihood_scale):
        return linear_optimum(spectrum, latents, beta=beta, likelihood_scale=likelihood_scale)

    best = objective(scale)
    torch.testing.assert_close(best.mse / len(spectrum), scale**2)
    assert all(objective(scale * f).objective <= best.objective + 1e-9 for f in (0.5, 0.9, 1.1, 2))


@laws
@given(spectrum=spectra, latents=latent_numbers)
def test_collapse_of_everything_has_a_beta(spectrum, latents):
    limit = collapse_beta(spectrum)
    assume(limit > 1.01)

    def active(beta):
        scale = learned_likelihood_scale(spectrum, latents, beta=beta)
        return linear_optimum(spectrum, latents, beta=beta, likelihood_scale=scale).active

    assert active(limit * 1.001) == 0
    assert active(limit * 0.999) > 0


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_a_likelihood_scale_that_would_vanish_is_refused(beta):
    """With K = D and β < 1 the objective grows without end as σ_x → 0; at β = 1 it is flat."""
    spectrum = torch.tensor(SPECTRUM)
    values = [
        linear_optimum(spectrum, 5, beta=beta, likelihood_scale=scale).objective.item()
        for scale in (1e-2, 1e-4, 1e-6)
    ]
    gained = (1 - beta) * 5 * math.log(100)

    assert values[1] - values[0] == pytest.approx(gained)
    assert values[2] - values[1] == pytest.approx(gained)
    with pytest.raises(ValueError, match="latents: 5 latents explain all the variance"):
        learned_likelihood_scale(spectrum, 5, beta=beta)
    with pytest.raises(ValueError, match="rank 5 of 10"):
        learned_likelihood_scale(torch.cat([spectrum, torch.zeros(5)]), 6, beta=1.5)
    assert learned_likelihood_scale(spectrum, 5, beta=2.0).square().item() == pytest.approx(1.25)


def test_constant_data_have_no_collapse():
    with pytest.raises(ValueError, match="constant data"):
        collapse_beta(torch.zeros(3))


@pytest.mark.parametrize(
    ("beta", "variances", "objective"),
    [(1.0, (3.7, 1.7, 0.7, 0.2), -7.10252011), (2.5, (3.25, 1.25, 0.25, 0.0), None)],
)
def test_relevance_is_golden_and_reached_by_learning(beta, variances, objective):
    """With W = [u₁ … u₄] fixed and the best guide; the pruned σ_z goes to 0 only slowly."""
    spectrum = torch.tensor(SPECTRUM)
    knobs = {"beta": beta, "likelihood_scale": SCALE}
    exact = relevance_prior_scale(spectrum, 4, **knobs)
    optimum = linear_optimum(spectrum, 4, **knobs)
    assert exact.square().tolist() == pytest.approx(variances, abs=1e-12)
    if objective:
        assert optimum.objective.item() == pytest.approx(objective, abs=6e-9)

    covariance, decoder = torch.diag(spectrum), torch.eye(5, 4)

    def worth(log_scale):
        prior = log_scale.exp()
        guide = tempered_posterior(decoder, prior_scale=prior, **knobs)
        return linear_terms(covariance, decoder, guide, prior_scale=prior, **knobs).objective

    log_scale = torch.zeros(4)
    reached = maximise(worth, log_scale)
    learned = log_scale.detach().exp()
    assert reached == pytest.approx(optimum.objective.item(), abs=1e-4)
    torch.testing.assert_close(learned**2, exact**2, atol=1e-2, rtol=0)


@pytest.mark.parametrize("beta", [0.5, 4.0])
def test_the_best_prior_of_a_guide_is_its_second_moment(beta):
    covariance, decoder, guide = random_pair(3, 4, seed=1)
    prior = prior_scale_of_guide(guide, covariance).requires_grad_()
    terms = linear_terms(
        covariance, decoder, guide, beta=beta, likelihood_scale=SCALE, prior_scale=prior
    )
    (gradient,) = torch.autograd.grad(terms.objective, prior)
    second_moment = guide.weight @ covariance @ guide.weight.mT + guide.covariance

    assert gradient.abs().max() < 1e-9
    torch.testing.assert_close(prior.detach() ** 2, second_moment.diagonal())


def test_golden_beta_as_prior():
    terms = beta_as_prior(torch.tensor([0.7]), torch.tensor([0.2]).sqrt(), beta=4.0)

    assert sum(terms).item() == pytest.approx(2.5988758248682, abs=1e-12)
    assert terms.kl.item() == pytest.approx(0.9915717757, abs=6e-11)


@laws
@given(mean=st.lists(st.floats(-3, 3), min_size=1, max_size=4), scale=scales, beta=betas)
def test_beta_is_a_narrow_prior_and_a_reward_of_entropy(mean, scale, beta):
    m = torch.tensor([mean, mean[::-1]])
    s = scale * torch.linspace(0.5, 2, len(mean)).expand_as(m)
    terms = beta_as_prior(m, s, beta=beta)
    q = torch.distributions.Normal(m, s)
    p = torch.distributions.Normal(0.0, beta**-0.5)
    kl = torch.distributions.kl_divergence(q, p).sum(-1)

    torch.testing.assert_close(terms.kl, kl)
    torch.testing.assert_close(terms.entropy, -(beta - 1) * q.entropy().sum(-1))
    torch.testing.assert_close(sum(terms), beta * normal_kl(m, s), rtol=1e-9, atol=1e-9)


@laws
@given(mean=st.floats(-3, 3), variance=st.floats(0.05, 5), beta=betas, r=st.floats(0.05, 5))
def test_gradients_of_beta_and_of_a_prior(mean, variance, beta, r):
    """β: βm and (β/2)(1 − 1/s²); prior of variance r: m/r and ½(1/r − 1/s²)."""

    def gradients(weight, prior_scale):
        m = torch.tensor([mean], requires_grad=True)
        v = torch.tensor([variance], requires_grad=True)
        loss = weight * normal_kl(m, v.sqrt(), prior_scale=prior_scale)
        return [gradient.item() for gradient in torch.autograd.grad(loss, (m, v))]

    assert gradients(beta, 1.0) == pytest.approx([beta * mean, beta / 2 * (1 - 1 / variance)])
    assert gradients(1.0, r**0.5) == pytest.approx([mean / r, (1 / r - 1 / variance) / 2])


@laws
@given(curvature=st.floats(0.1, 50), beta=betas, prior_scale=scales)
def test_posterior_variance_is_where_the_gradient_is_zero(curvature, beta, prior_scale):
    variance = posterior_variance(
        torch.tensor(curvature), beta=beta, prior_scale=prior_scale
    ).requires_grad_()
    kl = normal_kl(torch.zeros(1), variance.sqrt()[None], prior_scale=prior_scale)
    (gradient,) = torch.autograd.grad(curvature * variance / 2 + beta * kl.sum(), variance)

    assert gradient.abs() < 1e-9 * (1 + beta) * (1 + curvature) / prior_scale**2 * 100


def test_golden_posterior_variance_and_its_limits():
    narrow = 0.5
    assert posterior_variance(5.0, beta=4.0).item() == pytest.approx(0.444444, abs=6e-7)
    assert posterior_variance(5.0, prior_scale=narrow).item() == pytest.approx(0.111111, abs=6e-7)
    assert posterior_variance(5.0, beta=1e9).item() == pytest.approx(1.0)
    assert posterior_variance(5.0, prior_scale=1e-5).item() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", ["curvature", "beta", "prior_scale"])
def test_bad_numbers_are_named(name):
    with pytest.raises(ValueError, match=name):
        posterior_variance(**({"curvature": 1.0} | {name: -1.0}))
