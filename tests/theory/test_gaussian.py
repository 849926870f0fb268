"""Divergences between Gaussians, against quadrature and torch's own."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from pyro_bvae.theory import gaussian_chi_squared, gaussian_kl, normal_entropy, normal_kl
from tests.theory.cases import laws, random_pair, scales, seeds


@laws
@given(seed=seeds)
def test_gaussian_kl_is_torchs(seed):
    first, weight, guide = random_pair(3, 3, seed)
    mean_q, mean_p, covariance_p = weight[0], weight[1], guide.covariance
    expected = kl_divergence(
        MultivariateNormal(mean_q, first), MultivariateNormal(mean_p, covariance_p)
    )

    torch.testing.assert_close(gaussian_kl(mean_q, first, mean_p, covariance_p), expected)


@laws
@given(mean=st.floats(-2, 2), scale=scales, prior_scale=scales)
def test_normal_kl_and_entropy_are_torchs(mean, scale, prior_scale):
    m, s = torch.tensor([[mean, 0.5]]), torch.tensor([[scale, 1.0]])
    q = Normal(m, s)

    torch.testing.assert_close(
        normal_kl(m, s, prior_scale=prior_scale),
        kl_divergence(q, Normal(0.0, prior_scale)).sum(-1),
    )
    torch.testing.assert_close(normal_entropy(s), q.entropy().sum(-1))


@laws
@given(shift=st.floats(-1, 1), scale=st.floats(0.75, 2.0), turn=st.floats(-0.5, 0.5))
def test_chi_squared_is_its_integral(shift, scale, turn):
    """∫ p²/q − 1 over a grid of the plane; s_q > 0.75 s_p in every direction."""
    axis = torch.linspace(-14, 14, 401)
    grid = torch.cartesian_prod(axis, axis)
    mean_q, mean_p = torch.tensor([shift, 0.2]), torch.tensor([0.0, -shift])
    covariance_p = torch.tensor([[1.0, turn], [turn, 1.0]])
    covariance_q = scale**2 * covariance_p + 0.1 * torch.eye(2)
    p = MultivariateNormal(mean_p, covariance_p).log_prob(grid)
    q = MultivariateNormal(mean_q, covariance_q).log_prob(grid)
    integral = (2 * p - q).exp().sum() * (axis[1] - axis[0]) ** 2 - 1

    torch.testing.assert_close(
        gaussian_chi_squared(mean_q, covariance_q, mean_p, covariance_p),
        integral,
        rtol=1e-6,
        atol=1e-8,
    )


def test_chi_squared_is_infinite_from_half_the_variance_down():
    mean, covariance = torch.zeros(1), torch.eye(1)

    assert gaussian_chi_squared(mean, 0.5 * covariance, mean, covariance) == math.inf
    assert gaussian_chi_squared(mean, 0.51 * covariance, mean, covariance) < math.inf
    assert gaussian_chi_squared(mean, covariance, mean, covariance) == 0


def test_bad_arguments_are_named():
    mean, covariance = torch.zeros(2), torch.eye(2)
    with pytest.raises(ValueError, match="covariance_q"):
        gaussian_kl(mean, torch.eye(3), mean, covariance)
    with pytest.raises(ValueError, match="covariance_p"):
        gaussian_chi_squared(mean, covariance, mean, torch.ones(2, 3))
    with pytest.raises(ValueError, match="scale"):
        normal_kl(mean, -torch.ones(2))
    with pytest.raises(ValueError, match="scale"):
        normal_entropy(torch.zeros(2))
