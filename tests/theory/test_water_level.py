"""β and a fixed σ_x are one knob."""

import math

import pytest
import torch
from hypothesis import given

from pyro_bvae.theory import (
    equivalent_beta,
    linear_optimum,
    linear_terms,
    squared_error_water_level,
    water_level,
)
from tests.theory.cases import SCALE, SPECTRUM, betas, laws, random_pair, scales, seeds


@laws
@given(seed=seeds, beta=betas, scale=scales, prior_scale=scales)
def test_beta_and_likelihood_scale_differ_by_a_factor_of_the_objective(
    seed, beta, scale, prior_scale
):
    """L(β, s) + (D/2) ln 2πs = β [L(1, βs) + (D/2) ln 2πβs] for any W, V, S."""
    pair = random_pair(2, 4, seed)
    level = water_level(beta, likelihood_scale=scale)
    one = linear_terms(*pair, beta=beta, likelihood_scale=scale, prior_scale=prior_scale)
    other = linear_terms(*pair, likelihood_scale=level.sqrt(), prior_scale=prior_scale)
    left = one.objective + 2 * math.log(2 * math.pi * scale**2)
    right = beta * (other.objective + 2 * (2 * math.pi * level).log())

    torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("squared_error", "factor", "level"),
    [("sum", 1.0, 1.5), ("half", 0.5, 3.0), ("mean", 0.2, 7.5)],
)
def test_a_papers_loss_has_the_optimum_of_its_equivalent_beta(squared_error, factor, level):
    """c·MSE + 3·KL is, up to a factor and a constant, −L at the equivalent β: D = 5."""
    convention = {"squared_error": squared_error, "dimensions": 5}
    beta = equivalent_beta(3.0, likelihood_scale=SCALE, **convention)
    differences = []
    for seed in range(5):
        terms = linear_terms(*random_pair(2, 5, seed), beta=beta, likelihood_scale=SCALE)
        loss = factor * terms.mse + 3.0 * terms.rate
        differences.append(loss / (2 * 0.3 * factor) + terms.objective)

    assert torch.stack(differences).std() < 1e-9
    assert squared_error_water_level(3.0, **convention).item() == pytest.approx(level)
    assert beta.item() == pytest.approx(level / 0.3)


def test_only_the_water_level_decides_the_solution():
    spectrum = torch.tensor(SPECTRUM)
    one, other = (
        linear_optimum(spectrum, 3, beta=beta, likelihood_scale=(0.6 / beta) ** 0.5)
        for beta in (0.5, 3.0)
    )

    torch.testing.assert_close(one.singular_values, other.singular_values)
    torch.testing.assert_close(one.rates, other.rates)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"squared_error": "mean"}, "dimensions"),
        ({"squared_error": "mean", "dimensions": 0}, "dimensions"),
        ({"squared_error": "average"}, "squared_error"),
        ({"squared_error": "sum", "weight": 0.0}, "weight"),
        ({"squared_error": "sum", "likelihood_scale": 0.0}, "likelihood_scale"),
    ],
)
def test_bad_conventions_are_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        equivalent_beta(**({"weight": 1.0, "likelihood_scale": 1.0} | arguments))


def test_water_level_keeps_the_type_and_the_gradient():
    beta = torch.tensor(4.0, requires_grad=True)
    level = water_level(beta, likelihood_scale=0.5)
    level.backward()

    assert level.dtype == torch.float64
    assert beta.grad == 0.25
    with pytest.raises(ValueError, match="beta"):
        water_level(-1.0, likelihood_scale=0.5)
