"""The Gaussian information bottleneck against a numerical optimum."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_bvae.theory.bottleneck import canonical_correlations, gaussian_bottleneck


def informations(projection, noise, correlations):
    """I(X;Z) and I(Y;Z) of z = A x + ξ for standard x, y with these canonical correlations."""
    whole = projection @ projection.mT + noise
    rest = projection @ torch.diag(1 - correlations**2) @ projection.mT + noise
    of_x = 0.5 * (torch.logdet(whole) - torch.logdet(noise))
    return of_x, 0.5 * (torch.logdet(whole) - torch.logdet(rest))


@settings(deadline=None, max_examples=8)
@given(beta=st.floats(0.1, 0.9), seed=st.integers(0, 99))
def test_no_linear_code_does_better_and_one_does_as_well(beta, seed):
    generator = torch.Generator().manual_seed(seed)
    correlations = torch.rand(3, dtype=torch.float64, generator=generator) * 0.98
    best = gaussian_bottleneck(correlations, beta=beta)
    value = best.relevance - beta * best.information
    a = torch.randn(3, 3, dtype=torch.float64, generator=generator).requires_grad_()
    optim = torch.optim.LBFGS([a], max_iter=300, line_search_fn="strong_wolfe")

    def loss():
        optim.zero_grad()
        of_x, of_y = informations(a, torch.eye(3, dtype=torch.float64), correlations)
        (beta * of_x - of_y).backward()
        return (beta * of_x - of_y).detach()

    for _ in range(3):
        optim.step(loss)
    found = -loss()
    assert found <= value + 1e-9
    assert found.item() == pytest.approx(value.item(), abs=1e-4)


def test_golden_values():
    """ρ = (.9, .5), β = .5: one dimension, ½ ln(.405/.095) nats of x, ½ ln(.5/.19) of y."""
    best = gaussian_bottleneck(torch.tensor([0.9, 0.5], dtype=torch.float64), beta=0.5)
    assert best.active == 1
    assert best.information.item() == pytest.approx(0.7250054, abs=1e-6)
    assert best.relevance.item() == pytest.approx(0.4837920, abs=1e-6)


def test_a_nat_of_x_costs_beta_along_the_curve():
    """dI(Y;Z)/dI(X;Z) = β, which is what makes β a price."""
    rho = torch.tensor([0.95, 0.8, 0.3], dtype=torch.float64)
    beta = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    squared = rho[rho**2 > 0.4] ** 2
    of_y = 0.5 * torch.log((1 - beta) / (1 - squared)).sum()
    of_x = 0.5 * torch.log((1 - beta) * squared / (beta * (1 - squared))).sum()
    best = gaussian_bottleneck(rho, beta=0.4)
    assert torch.isclose(best.relevance, of_y.detach())
    assert torch.isclose(best.information, of_x.detach())
    (dy,) = torch.autograd.grad(of_y, beta)
    (dx,) = torch.autograd.grad(of_x, beta)
    assert (dy / dx).item() == pytest.approx(0.4)


def test_canonical_correlations_of_mixed_pairs():
    """Mixing x and mixing y linearly changes nothing; 1e5 draws, 5/√n."""
    rho = torch.tensor([0.9, 0.4])
    x = torch.randn(100_000, 2)
    y = rho * x + (1 - rho**2).sqrt() * torch.randn(100_000, 2)
    plain = canonical_correlations(x, y)
    mixed = canonical_correlations(x @ torch.randn(2, 2), y @ torch.randn(2, 2) + 3.0)
    torch.testing.assert_close(plain, mixed)
    torch.testing.assert_close(plain, rho, atol=5 / 100_000**0.5, rtol=0)


@pytest.mark.parametrize("beta", [0.0, 1.0, -1.0, 2.0])
def test_refuses_beta(beta):
    with pytest.raises(ValueError, match="beta: expected a price"):
        gaussian_bottleneck(torch.tensor([0.5]), beta=beta)


@pytest.mark.parametrize("bad", [[1.0], [-0.1], [[0.5]]])
def test_refuses_correlations(bad):
    with pytest.raises(ValueError, match="correlations: expected"):
        gaussian_bottleneck(torch.tensor(bad), beta=0.5)


def test_refuses_data_that_do_not_pair():
    with pytest.raises(ValueError, match="x, y: expected matrices"):
        canonical_correlations(torch.zeros(3, 2), torch.zeros(4, 2))
