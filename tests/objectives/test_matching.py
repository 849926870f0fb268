"""Moments and MMD, held to what they are of Gaussians."""

import pyro
import pytest
import torch
from pyro.distributions import Normal, StudentT
from scipy.integrate import quad

from pyro_bvae import tempered
from pyro_bvae.objectives import MMDELBO, MomentELBO
from pyro_bvae.objectives.mmd import SCALES, mmd
from pyro_bvae.objectives.moment import covariance_of
from tests.objectives.examples import data, small_vae


def mean_kernel(variance, scale):
    """E of the kernel of two points of the plane whose difference has this variance each way.

    ‖·‖² is 2 · variance times a standard exponential variable.
    """
    return sum(
        quad(
            lambda e, s=s: s * scale / (s * scale + 2 * variance * e) * 2.718281828459045**-e, 0, 60
        )[0]
        for s in SCALES
    ) / len(SCALES)


def test_mmd_is_the_closed_form_of_gaussians():
    """Of N(0, 4 I) against N(0, I) in the plane, by quadrature, C = 4; 5 standard errors.

    C is estimated from the draws, which moves the value by the order of 1/n.
    """
    exact = mean_kernel(8.0, 4.0) + mean_kernel(2.0, 4.0) - 2 * mean_kernel(5.0, 4.0)
    drawn = torch.stack([mmd(2 * torch.randn(200, 2), torch.randn(200, 2)) for _ in range(100)])
    error = drawn.std() / 10
    assert exact > 0.05
    assert drawn.mean().item() == pytest.approx(exact, abs=5 * error.item() + exact / 200)


def test_mmd_of_one_distribution_is_zero_in_the_mean():
    drawn = torch.stack([mmd(torch.randn(20, 3), torch.randn(20, 3)) for _ in range(2000)])
    assert drawn.mean().abs() < 5 * drawn.std() / 2000**0.5
    assert (drawn < 0).any()


def test_mmd_sees_what_moments_do_not():
    """Two modes at ±1 (of unit variance and mean 0, but for the noise) against N(0, 1)."""
    modes = torch.randint(2, (500, 1)) * 2.0 - 1 + 0.1 * torch.randn(500, 1)
    assert mmd(modes, torch.randn(500, 1)) > 0.02
    assert (modes.var() - 1).abs() < 0.1


def test_the_covariance_of_means_and_codes():
    means, variances = torch.randn(50, 3), torch.rand(50, 3)
    assert torch.allclose(covariance_of(means), torch.cov(means.mT), rtol=1e-12)
    whole = torch.cov(means.mT) + torch.diag(variances.mean(0))
    assert torch.allclose(covariance_of(means, variances), whole, rtol=1e-12)


@pytest.mark.parametrize(("covariance", "scale"), [("means", 1.0), ("codes", 1.0), ("codes", 0.5)])
def test_moment_terms(covariance, scale):
    vae, x = small_vae(scale), data(40)
    objective = MomentELBO(off_diagonal=2.0, diagonal=3.0, covariance=covariance)
    estimate = objective.estimate(*tempered(vae, 1.0), x, size=120)
    q = vae.posterior(x)
    c = torch.cov(q.mean.mT)
    if covariance == "codes":
        c = c + torch.diag(q.variance.mean(0))
    assert estimate.terms["off_diagonal"].item() == pytest.approx(120 * 2 * c[0, 1].item() ** 2)
    diagonal = ((c.diagonal() - scale**2) ** 2).sum().item()
    assert estimate.terms["diagonal"].item() == pytest.approx(120 * diagonal)
    assert estimate.weights["off_diagonal"] == 2
    assert estimate.weights["diagonal"] == 3


def test_codes_have_the_covariance_that_draws_have():
    """DIP-VAE-II's covariance is that of the draws z: 5 standard errors of a covariance."""
    vae, x = small_vae(), data(400)
    q = vae.posterior(x)
    drawn = torch.stack([torch.cov(q.sample().mT) for _ in range(400)])
    error = drawn.std(0) / 20
    assert ((drawn.mean(0) - covariance_of(q.mean, q.variance)).abs() < 5 * error).all()


@pytest.mark.parametrize(
    "objective", [MMDELBO(1000.0), MomentELBO(off_diagonal=50.0, diagonal=50.0)]
)
def test_training_brings_the_codes_to_the_prior(objective):
    """With no KL at all, the codes' moments come to be the prior's, within a tenth."""
    vae, x = small_vae(), data(256) @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5]))
    optimiser = torch.optim.Adam(vae.parameters(), lr=1e-2)
    before = torch.cov(vae.posterior(x).sample().mT)
    for _ in range(400):
        optimiser.zero_grad()
        with pyro.validation_enabled(False):
            loss = objective.differentiable_loss(*tempered(vae, 0.0), x)
        loss.backward()
        optimiser.step()
    z = torch.cat([vae.posterior(x).sample() for _ in range(50)])
    assert (torch.cov(z.mT) - torch.eye(2)).abs().max() < 0.1
    assert (before - torch.eye(2)).abs().max() > 0.2


@pytest.mark.parametrize("df", [1.0, 1.5])
def test_refuses_moments_that_are_not_there(df):
    """A Student's t has a variance for df > 2 alone."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", StudentT(df, torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(x / 2, 1.0).to_event(1))

    with pytest.raises(ValueError, match="expected a prior of finite variances at site 'z'"):
        MomentELBO(off_diagonal=1.0, diagonal=1.0).loss(model, guide, torch.randn(5, 2))
