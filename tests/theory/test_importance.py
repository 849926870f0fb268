"""Importance weights and calibration of a Gaussian guide."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal

from pyro_bvae.theory import (
    effective_scale_ratio,
    gaussian_chi_squared,
    gaussian_kl,
    importance_gap,
    interval_coverage,
    log_likelihood,
    pareto_shape,
    rank_probabilities,
    tempered_posterior,
)
from tests.theory.cases import SCALE, betas, laws, scales

DECODER = [[1.5, 0.2], [0.0, 1.0], [0.3, -0.4], [0.0, 0.0], [0.1, 0.1]]
DATUM = [1.0, -0.5, 0.3, 0.2, -0.1]


def guide_and_posterior(beta):
    """(m_q, S_q, m_p, S_p) of the datum: q the posterior tempered at β."""
    moments = []
    for value in (beta, 1.0):
        weight, covariance = tempered_posterior(
            torch.tensor(DECODER), beta=value, likelihood_scale=SCALE
        )
        moments += [weight @ torch.tensor(DATUM), covariance]
    return moments


@pytest.mark.parametrize(
    ("beta", "kl", "chi_squared"),
    [(4.0, 0.8981231236, 0.7978426), (0.6, 0.0932350, 0.5400193), (0.3, 0.4483366, math.inf)],
)
def test_golden_divergences_of_a_tempered_guide(beta, kl, chi_squared):
    moments = guide_and_posterior(beta)

    assert gaussian_kl(*moments).item() == pytest.approx(kl, abs=6e-8)
    assert gaussian_chi_squared(*moments).item() == pytest.approx(chi_squared, abs=6e-8)


def test_importance_gap_is_that_of_the_importance_weighted_bound():
    """K = 50, β = 4. With m the mean weight, E(m − 1) = 0 makes log m − (m − 1) a better sample of
    log p(x) − L_K: within 4 standard errors and the next order, O(1/K²)."""
    decoder, x = torch.tensor(DECODER), torch.tensor(DATUM)
    mean, covariance, *posterior = guide_and_posterior(4.0)
    q = MultivariateNormal(mean, covariance)
    z = q.sample((20_000, 50))
    log_joint = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    log_joint += torch.distributions.Normal(z @ decoder.mT, SCALE).log_prob(x).sum(-1)
    log_weights = log_joint - q.log_prob(z) - log_likelihood(x, decoder, likelihood_scale=SCALE)
    average = log_weights.exp().mean(1)
    samples = average - 1 - average.log()
    chi_squared = gaussian_chi_squared(mean, covariance, *posterior)
    gap = importance_gap(chi_squared, num_particles=50)

    assert gap.item() == pytest.approx(0.0080, abs=5e-5)
    assert (samples.mean() - gap).abs() < 4 * samples.std() / 20_000**0.5 + 1 / 50**2


@pytest.mark.parametrize("variance", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_pareto_shape_of_a_narrow_guide_is_its_tail(variance):
    """In one dimension ln w = ½(1 − c)u² up to a constant, u ~ N(0, 1); the slope of ln P(ln w > y)
    at large y is −1/k, here to 1/4y of it, the next term."""
    k = pareto_shape(torch.tensor([[2 * variance]]), torch.tensor([[2.0]]))
    y = torch.tensor(2000.0, requires_grad=True)
    u = (2 * y / (1 - variance)).sqrt()
    (slope,) = torch.autograd.grad(torch.special.log_ndtr(-u), y)

    assert k.item() == pytest.approx(1 - variance)
    assert -1 / slope.item() == pytest.approx(k.item(), rel=1e-3)


@pytest.mark.parametrize("latents", [1, 2, 10])
def test_pareto_shape_of_a_wide_guide_is_its_end(latents):
    """The weights end at w₀, where P(w > w₀(1 − ε)) ~ P(χ²_d < ε·const) falls as ε^{−1/k}."""
    covariance = torch.eye(latents)
    k = pareto_shape(1.5 * covariance, covariance)
    epsilon = torch.tensor([1e-6, 2e-6])
    tail = torch.special.gammainc(torch.tensor(latents / 2), epsilon)
    slope = (tail[1] / tail[0]).log() / math.log(2)

    assert k.item() == pytest.approx(-2 / latents)
    assert slope.item() == pytest.approx(-1 / k.item(), rel=1e-4)


def test_pareto_shape_in_several_dimensions():
    root = torch.randn(3, 3)
    posterior = root @ root.mT + torch.eye(3)

    def shape(*ratios):
        cholesky = torch.linalg.cholesky(posterior)
        guide = cholesky @ torch.diag(torch.tensor(ratios)) @ cholesky.mT
        return pareto_shape((guide + guide.mT) / 2, posterior).item()

    assert shape(2.0, 0.4, 0.7) == pytest.approx(0.6)
    assert shape(2.0, 1.0, 3.0) == pytest.approx(-1.0)
    assert math.isnan(shape(1.0, 1.0, 1.0))


def test_variance_of_the_weights_is_finite_below_one_half():
    """k < ½ says the same as a finite χ²."""
    covariance = torch.eye(1)
    for variance in (0.4, 0.49, 0.51, 0.6):
        k = pareto_shape(variance * covariance, covariance)
        chi_squared = gaussian_chi_squared(
            torch.zeros(1), variance * covariance, torch.zeros(1), covariance
        )
        assert (k < 0.5) == chi_squared.isfinite()


def test_golden_coverage():
    assert interval_coverage(0.9, 0.5).item() == pytest.approx(0.58917, abs=6e-6)
    ratios = {0.25: (0.506918, 0.595610), 1.0: (1.0, 0.9), 4.0: (1.371989, 0.975974)}
    for beta, (ratio, coverage) in ratios.items():
        c = effective_scale_ratio(2**0.5, beta=beta, likelihood_scale=SCALE)
        assert c.item() == pytest.approx(ratio, abs=6e-7)
        assert interval_coverage(0.9, c).item() == pytest.approx(coverage, abs=6e-7)


@laws
@given(level=st.floats(0.0, 1.0), ratio=scales)
def test_coverage_is_the_level_of_an_exact_guide_and_grows_with_its_width(level, ratio):
    assert interval_coverage(level, 1.0).item() == pytest.approx(level, abs=1e-9)
    assert interval_coverage(level, ratio * 1.1) >= interval_coverage(level, ratio)


def test_effective_ratio_and_coverage_are_those_of_simulated_data():
    """90 % intervals over n data of the model itself: within 4 √(p(1 − p)/n)."""
    n, w, beta, prior_scale = 200_000, 1.3, 3.0, 0.6
    z = prior_scale * torch.randn(n)
    x = w * z + SCALE * torch.randn(n)
    knobs = {"beta": beta, "likelihood_scale": SCALE, "prior_scale": prior_scale}
    weight, covariance = tempered_posterior(torch.tensor([[w]]), **knobs)
    half = 1.6448536269514722 * covariance.sqrt()
    covered = ((z - weight[0, 0] * x).abs() < half).double().mean().item()
    p = interval_coverage(0.9, effective_scale_ratio(w, **knobs)).item()

    assert abs(covered - p) < 4 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize(
    ("ratio", "half"),
    [
        (0.5, (0.238606, 0.086588, 0.064776, 0.056588, 0.053442)),
        (2.0, (0.023425, 0.063145, 0.106870, 0.143115, 0.163444)),
        (1.0, (0.1, 0.1, 0.1, 0.1, 0.1)),
    ],
)
def test_golden_ranks(ratio, half):
    probabilities = rank_probabilities(9, ratio)

    assert probabilities.tolist() == pytest.approx((*half, *half[::-1]), abs=6e-7)


def test_ranks_are_those_of_simulated_draws():
    """n truths: every frequency within 4.5 √(p(1 − p)/n)."""
    n, ratio = 100_000, 0.7
    truth = torch.randn(n, 1)
    ranks = (ratio * torch.randn(n, 5) < truth).sum(1)
    frequencies = torch.bincount(ranks, minlength=6) / n
    p = rank_probabilities(5, ratio)

    assert ((frequencies - p).abs() < 4.5 * (p * (1 - p) / n).sqrt()).all()


@laws
@given(draws=st.integers(1, 60), ratio=st.floats(0.01, 5.0))
def test_rank_probabilities_are_a_symmetric_distribution(draws, ratio):
    p = rank_probabilities(draws, ratio)

    assert p.sum().item() == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(p, p.flip(0), rtol=1e-9, atol=1e-15)
    assert rank_probabilities(draws, 1.0).tolist() == pytest.approx([1 / (draws + 1)] * (draws + 1))


@laws
@given(weight=st.floats(-3, 3), beta=betas, scale=scales, prior_scale=scales)
def test_the_models_own_posterior_is_calibrated(weight, beta, scale, prior_scale):
    knobs = {"likelihood_scale": scale, "prior_scale": prior_scale}
    exact = effective_scale_ratio(weight, beta=1.0, **knobs)
    gauge = effective_scale_ratio(weight * prior_scale, beta=beta, likelihood_scale=scale)
    ratio = effective_scale_ratio(weight, beta=beta, **knobs)

    assert exact.item() == pytest.approx(1.0)
    assert ratio.item() == pytest.approx(gauge.item())
    if abs(beta - 1) > 1e-3 and abs(weight) > 0.05:
        assert (ratio < 1) == (beta < 1)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: pareto_shape(torch.eye(2), torch.eye(3)), "covariance_p"),
        (lambda: importance_gap(torch.tensor(-1.0), num_particles=5), "chi_squared"),
        (lambda: importance_gap(1.0, num_particles=0), "num_particles"),
        (lambda: interval_coverage(1.5, 1.0), "level"),
        (lambda: interval_coverage(0.5, 0.0), "scale_ratio"),
        (lambda: rank_probabilities(0, 1.0), "draws"),
        (lambda: rank_probabilities(3, -1.0), "scale_ratio"),
        (lambda: effective_scale_ratio(math.nan, beta=1.0, likelihood_scale=1.0), "weight"),
    ],
)
def test_bad_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
