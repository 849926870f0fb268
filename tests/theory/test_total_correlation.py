"""The decomposition of the KL, for Gaussian data and a linear guide."""

import math

import pytest
import torch
from hypothesis import given
from torch.distributions import MultivariateNormal

from pyro_bvae.theory import (
    LinearGuide,
    aggregate_posterior,
    gaussian_kl,
    kl_decomposition,
    linear_terms,
    mixture_offset,
    optimal_decoder,
    tempered_posterior,
)
from tests.theory.cases import SCALE, SPECTRUM, betas, laws, random_pair, rotated, scales, seeds


@pytest.mark.parametrize(
    ("weight", "noise", "r", "mutual", "correlation", "dimension_wise", "total"),
    [
        (
            *([[0.9, 0.0], [0.0, 0.8]], [0.19, 0.36], 1.0),
            *(1.2379103313, 0.1032808959, (0.0, 0.0), 1.3411912272),
        ),
        (
            *([[1.2, -0.3], [0.4, 0.7]], [0.1, 0.5], 0.5),
            *(1.6241877981, 0.1620490617, (0.2611, 0.441382), 2.4887189562),
        ),
    ],
)
def test_golden_decomposition(weight, noise, r, mutual, correlation, dimension_wise, total):
    guide = LinearGuide(torch.tensor(weight), torch.diag(torch.tensor(noise)))
    covariance = torch.tensor([[1.0, 0.6], [0.6, 1.0]])
    parts = kl_decomposition(guide, covariance, prior_scale=r**0.5)
    rate = parts.mutual_information + parts.total_correlation + parts.dimension_wise_kl.sum()

    assert parts.mutual_information.item() == pytest.approx(mutual, abs=6e-11)
    assert parts.total_correlation.item() == pytest.approx(correlation, abs=6e-11)
    assert parts.dimension_wise_kl.tolist() == pytest.approx(dimension_wise, abs=6e-7)
    assert rate.item() == pytest.approx(total, abs=6e-11)


@laws
@given(seed=seeds, prior_scale=scales)
def test_parts_are_the_divergences_they_stand_for_and_add_up_to_the_rate(seed, prior_scale):
    covariance, decoder, guide = random_pair(2, 3, seed)
    parts = kl_decomposition(guide, covariance, prior_scale=prior_scale)
    aggregate = aggregate_posterior(guide, covariance)
    zero = torch.zeros(2)
    marginals = torch.diag(aggregate.diagonal())
    prior = prior_scale**2 * torch.eye(2)
    rate = linear_terms(
        covariance, decoder, guide, likelihood_scale=1.0, prior_scale=prior_scale
    ).rate
    root = 3**0.5 * torch.linalg.cholesky(covariance).mT
    sigma_points = torch.cat([root, -root])
    mutual = torch.stack(
        [gaussian_kl(guide.weight @ x, guide.covariance, zero, aggregate) for x in sigma_points]
    ).mean()

    torch.testing.assert_close(parts.mutual_information, mutual)
    torch.testing.assert_close(
        parts.total_correlation, gaussian_kl(zero, aggregate, zero, marginals)
    )
    torch.testing.assert_close(
        parts.dimension_wise_kl.sum(), gaussian_kl(zero, marginals, zero, prior)
    )
    torch.testing.assert_close(
        parts.mutual_information + parts.total_correlation + parts.dimension_wise_kl.sum(), rate
    )
    assert parts.total_correlation >= 0


@laws
@given(beta=betas, scale=scales)
def test_at_the_optimum_all_of_the_kl_is_mutual_information(beta, scale):
    covariance = rotated(torch.tensor(SPECTRUM))
    knobs = {"beta": beta, "likelihood_scale": SCALE, "prior_scale": scale}
    decoder = optimal_decoder(covariance, 3, **knobs)
    parts = kl_decomposition(tempered_posterior(decoder, **knobs), covariance, prior_scale=scale)

    assert parts.total_correlation.abs() < 1e-9
    assert parts.dimension_wise_kl.abs().max() < 1e-9


@pytest.mark.parametrize("divisor", [1, 32, 32 * 500])
def test_a_divisor_other_than_the_batch_shifts_the_estimates(divisor):
    """On any sample the shift is exact, as log q(z) and every log q(z_j) move by ln(M/B)."""
    covariance, _, guide = random_pair(3, 4, seed=1)
    scale = guide.covariance.diagonal().sqrt()
    mean = MultivariateNormal(torch.zeros(4), covariance).sample((32,)) @ guide.weight.mT
    z = torch.distributions.Normal(mean, scale).sample()
    log_q = torch.distributions.Normal(mean, scale).log_prob(z[:, None])
    log_prior = torch.distributions.Normal(0.0, 1.0).log_prob(z)
    log_own = log_q.diagonal(dim1=0, dim2=1).sum(0)

    def estimate(count):
        log_count = torch.tensor(float(count)).log()
        joint = log_q.sum(-1).logsumexp(1) - log_count
        marginal = log_q.logsumexp(1) - log_count
        return (
            (log_own - joint).mean(),
            (joint - marginal.sum(-1)).mean(),
            (marginal - log_prior).mean(0),
        )

    offset = mixture_offset(3, batch_size=32, divisor=divisor)
    for shifted, right, expected in zip(estimate(divisor), estimate(32), offset, strict=True):
        torch.testing.assert_close(shifted - right, torch.full_like(right, expected))


def test_offsets_of_known_estimators():
    """No constant: TC − (K − 1) ln B. Minibatch-weighted: TC + (K − 1) ln N and MI + ln N."""
    bare = mixture_offset(5, batch_size=64, divisor=1)
    weighted = mixture_offset(5, batch_size=64, divisor=64 * 1000)

    assert bare.total_correlation == pytest.approx(-4 * math.log(64))
    assert weighted.total_correlation == pytest.approx(4 * math.log(1000))
    assert weighted.mutual_information == pytest.approx(math.log(1000))
    assert sum(weighted[:2]) + 5 * weighted.dimension_wise_kl == pytest.approx(0.0)


@pytest.mark.parametrize("name", ["latents", "batch_size", "divisor"])
def test_bad_counts_are_named(name):
    with pytest.raises(ValueError, match=name):
        mixture_offset(**({"latents": 2, "batch_size": 8, "divisor": 8} | {name: 0}))
