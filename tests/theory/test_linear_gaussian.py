"""Guides and terms of a given linear decoder, against optimisation and their defining laws."""

import math

import pytest
import torch
from hypothesis import given
from torch.distributions import MultivariateNormal

from pyro_bvae.theory import (
    LinearGuide,
    aggregate_posterior,
    diagonal_gap,
    diagonal_guide,
    expected_log_likelihood,
    linear_terms,
    tempered_posterior,
)
from tests.theory.cases import SCALE, betas, laws, maximise, random_pair, scales, seeds

KNOBS = {"beta": 2.5, "likelihood_scale": SCALE, "prior_scale": 0.7}


def test_terms_are_the_expectations_they_stand_for():
    """Sigma points integrate a quadratic exactly: E over x and z of log p(x|z), and of the KL."""
    covariance, decoder, guide = random_pair(2, 3, seed=1)
    terms = linear_terms(covariance, decoder, guide, **KNOBS)

    def sigma_points(matrix):
        root = math.sqrt(len(matrix)) * torch.linalg.cholesky(matrix).mT
        return torch.cat([root, -root])

    x = sigma_points(covariance)[:, None]
    mean = x @ guide.weight.mT
    z = mean + sigma_points(guide.covariance)
    log_p = torch.distributions.Normal(z @ decoder.mT, SCALE).log_prob(x).sum(-1)
    q = MultivariateNormal(mean[:, 0], guide.covariance)
    p = MultivariateNormal(torch.zeros(2), 0.7**2 * torch.eye(2))
    kl = torch.distributions.kl_divergence(q, p)

    assert terms.distortion.item() == pytest.approx(-log_p.mean().item())
    assert terms.rate.item() == pytest.approx(kl.mean().item())
    assert terms.mse.item() == pytest.approx((x - z @ decoder.mT).square().sum(-1).mean().item())
    assert terms.elbo == -terms.distortion - terms.rate
    assert terms.objective == -terms.distortion - 2.5 * terms.rate


def test_tempered_posterior_is_the_best_guide_of_any_data():
    covariance, decoder, _ = random_pair(2, 4, seed=2)
    best = tempered_posterior(decoder, **KNOBS)

    def objective(weight, root):
        guide = LinearGuide(weight, root @ root.mT)
        return linear_terms(covariance, decoder, guide, **KNOBS).objective

    weight, root = torch.randn(2, 4), torch.eye(2)
    reached = maximise(objective, weight, root)

    assert reached == pytest.approx(
        linear_terms(covariance, decoder, best, **KNOBS).objective.item(), abs=1e-8
    )
    torch.testing.assert_close(weight, best.weight, atol=1e-5, rtol=0)
    torch.testing.assert_close(root @ root.mT, best.covariance, atol=1e-5, rtol=0)


def test_diagonal_guide_is_the_best_diagonal_one_and_loses_the_gap():
    covariance, decoder, _ = random_pair(3, 4, seed=3)

    def objective(weight, log_variance):
        guide = LinearGuide(weight, torch.diag(log_variance.exp()))
        return linear_terms(covariance, decoder, guide, **KNOBS).objective

    weight, log_variance = torch.randn(3, 4), torch.zeros(3)
    reached = maximise(objective, weight, log_variance)
    best = diagonal_guide(decoder, **KNOBS)
    full = linear_terms(covariance, decoder, tempered_posterior(decoder, **KNOBS), **KNOBS)

    torch.testing.assert_close(weight, best.weight, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_variance.exp(), best.covariance.diagonal(), atol=1e-5, rtol=0)
    gap = diagonal_gap(decoder, **KNOBS).item()
    assert gap > 0.01
    assert full.objective.item() - reached == pytest.approx(gap, abs=1e-8)


@laws
@given(seed=seeds, beta=betas, scale=scales)
def test_gap_is_positive_and_zero_for_orthogonal_columns(seed, beta, scale):
    _, decoder, _ = random_pair(3, 4, seed)
    orthogonal = torch.linalg.qr(decoder).Q * torch.tensor([3.0, 1.0, 0.5])
    knobs = {"beta": beta, "likelihood_scale": scale}

    assert diagonal_gap(decoder, **knobs) > 0
    assert diagonal_gap(orthogonal, **knobs).abs() < 1e-9 * beta


@laws
@given(seed=seeds, beta=betas, scale=scales, prior_scale=scales)
def test_best_objective_of_a_decoder_is_a_likelihood_whose_noise_is_the_water_level(
    seed, beta, scale, prior_scale
):
    """max_q L = −(β/2)[log det C − D ln t + tr(C⁻¹Σ)] − (D/2) ln 2πs, C = r WWᵀ + t I."""
    covariance, decoder, _ = random_pair(2, 4, seed)
    knobs = {"beta": beta, "likelihood_scale": scale, "prior_scale": prior_scale}
    terms = linear_terms(covariance, decoder, tempered_posterior(decoder, **knobs), **knobs)
    level = beta * scale**2
    marginal = prior_scale**2 * decoder @ decoder.mT + level * torch.eye(4)
    expected = -beta / 2 * (
        torch.logdet(marginal)
        - 4 * math.log(level)
        + torch.linalg.solve(marginal, covariance).trace()
    ) - 2 * math.log(2 * math.pi * scale**2)

    assert terms.objective.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_tempered_posterior_is_the_prior_times_the_likelihood_to_the_one_over_beta(beta):
    _, decoder, _ = random_pair(2, 4, seed=4)
    x, z = torch.randn(4), torch.randn(50, 2)
    guide = tempered_posterior(decoder, beta=beta, likelihood_scale=SCALE, prior_scale=0.7)
    log_q = MultivariateNormal(guide.weight @ x, guide.covariance).log_prob(z)
    log_prior = torch.distributions.Normal(0, 0.7).log_prob(z).sum(-1)
    log_p = torch.distributions.Normal(z @ decoder.mT, SCALE).log_prob(x).sum(-1)
    constant = log_q - log_prior - log_p / beta

    assert constant.std() < 1e-9


@laws
@given(seed=seeds, beta=betas, scale=scales)
def test_beta_and_a_narrow_prior_share_the_mean_but_not_the_noise(seed, beta, scale):
    _, decoder, _ = random_pair(3, 4, seed)
    heavy = tempered_posterior(decoder, beta=beta, likelihood_scale=scale)
    narrow = tempered_posterior(decoder, likelihood_scale=scale, prior_scale=beta**-0.5)
    ridge = torch.linalg.solve(decoder.mT @ decoder + beta * scale**2 * torch.eye(3), decoder.mT)

    torch.testing.assert_close(heavy.weight, narrow.weight)
    torch.testing.assert_close(heavy.weight, ridge)
    torch.testing.assert_close(heavy.covariance, beta * narrow.covariance)


@laws
@given(seed=seeds, beta=betas, scale=scales, prior_scale=scales)
def test_prior_scale_is_a_gauge_of_a_free_decoder(seed, beta, scale, prior_scale):
    covariance, decoder, guide = random_pair(2, 3, seed)
    knobs = {"beta": beta, "likelihood_scale": scale}
    here = linear_terms(covariance, decoder, guide, prior_scale=prior_scale, **knobs)
    standard = linear_terms(
        covariance,
        decoder * prior_scale,
        LinearGuide(guide.weight / prior_scale, guide.covariance / prior_scale**2),
        **knobs,
    )

    torch.testing.assert_close(torch.stack(here), torch.stack(standard))


def test_one_prior_scale_per_latent_is_a_gauge_too():
    covariance, decoder, _ = random_pair(2, 3, seed=5)
    prior_scale = torch.tensor([0.5, 2.0])
    knobs = {"beta": 3.0, "likelihood_scale": SCALE}
    guide = tempered_posterior(decoder / prior_scale, prior_scale=prior_scale, **knobs)
    here = linear_terms(covariance, decoder / prior_scale, guide, prior_scale=prior_scale, **knobs)
    standard = linear_terms(covariance, decoder, tempered_posterior(decoder, **knobs), **knobs)

    torch.testing.assert_close(torch.stack(here), torch.stack(standard))


def test_the_linear_model_has_no_amortisation_gap():
    """At β = 1 the ELBO of its exact guide is E log p(x)."""
    covariance, decoder, _ = random_pair(2, 4, seed=6)
    guide = tempered_posterior(decoder, likelihood_scale=SCALE)
    terms = linear_terms(covariance, decoder, guide, likelihood_scale=SCALE)
    exact = expected_log_likelihood(covariance, decoder, likelihood_scale=SCALE)

    assert terms.elbo.item() == pytest.approx(exact.item(), abs=1e-9)


def test_aggregate_posterior_is_the_covariance_of_samples():
    """n draws: each entry within 5 of its standard errors, √((A_ii A_jj + A_ij²)/n)."""
    covariance, _, guide = random_pair(2, 3, seed=7)
    n = 100_000
    x = MultivariateNormal(torch.zeros(3), covariance).sample((n,))
    z = MultivariateNormal(x @ guide.weight.mT, guide.covariance).sample()
    exact = aggregate_posterior(guide, covariance)
    variances = exact.diagonal()
    error = ((variances[:, None] * variances + exact**2) / n).sqrt()

    assert ((z.mT @ z / n - exact).abs() < 5 * error).all()


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"decoder": torch.ones(3)}, "decoder"),
        ({"decoder": torch.full((3, 2), torch.nan)}, "decoder"),
        ({"covariance": torch.eye(2)}, "covariance"),
        ({"covariance": torch.tensor([[1.0, 2, 0], [0, 1, 0], [0, 0, 1]])}, "symmetric"),
        ({"covariance": -torch.eye(3)}, "eigenvalues >= 0"),
        ({"guide": LinearGuide(torch.ones(3, 2), torch.eye(2))}, "guide.weight"),
        ({"guide": LinearGuide(torch.ones(2, 3), torch.eye(3))}, "guide.covariance"),
        ({"beta": 0.0}, "beta"),
        ({"beta": torch.ones(2)}, "beta"),
        ({"likelihood_scale": -1.0}, "likelihood_scale"),
        ({"prior_scale": math.inf}, "prior_scale"),
        ({"prior_scale": torch.ones(3)}, "prior_scale"),
    ],
)
def test_bad_arguments_are_named(changed, match):
    arguments = {
        "covariance": torch.eye(3),
        "decoder": torch.ones(3, 2),
        "guide": LinearGuide(torch.ones(2, 3), torch.eye(2)),
        "likelihood_scale": 1.0,
    }
    with pytest.raises(ValueError, match=match):
        linear_terms(**(arguments | changed))
