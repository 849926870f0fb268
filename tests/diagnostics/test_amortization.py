"""The amortisation and approximation gaps of linear models, which are known exactly."""

import pytest
import torch

from pyro_bvae import tempered, theory
from pyro_bvae.diagnostics import amortization_gap
from tests.diagnostics.pairs import (
    EXACT,
    Setting,
    X,
    as_functions,
    as_vae,
    diagonal,
    of_y_given_x,
    orthogonal,
)
from tests.truths import NOISE

DATA = X.repeat(4, 1) * torch.tensor([[1.0], [0.0], [-2.0], [0.5]], dtype=torch.float64)
MANY = {"num_samples": 3000, "batch_size": 4096}


@pytest.mark.parametrize("as_pair", [as_vae, as_functions, lambda s: tempered(as_vae(s), 4.0)])
def test_the_best_diagonal_guide_has_no_amortisation_gap_and_the_exact_other_one(as_pair):
    """The gap of the family is ½ [Σ ln P_jj − ln det P], at three errors; .005 for Adam."""
    setting = correlated()
    gap = amortization_gap(as_pair(setting), DATA, **MANY)
    family = theory.diagonal_gap(setting.weight, likelihood_scale=NOISE).item()
    value, error = gap.mean("amortization")
    assert value == pytest.approx(0, abs=3 * error + 0.005)
    value, error = gap.mean("approximation")
    assert value == pytest.approx(family, abs=3 * error + 0.005)
    assert 3 * error < family
    exact = theory.log_likelihood(DATA, setting.weight, likelihood_scale=NOISE)
    assert ((gap.log_evidence - exact).abs() < 4 * gap.errors["log_evidence"] + 0.005).all()


def test_an_exact_guide_has_neither_gap_and_stays_where_it_is():
    """The path derivative is zero there, draw by draw, and the weights are constant."""
    gap = amortization_gap(as_functions(orthogonal()), X, num_samples=50)
    assert gap.log_evidence.item() == pytest.approx(EXACT, abs=1e-9)
    for name in ("amortization", "approximation"):
        assert getattr(gap, name).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("full", [False, True])
def test_a_shifted_guide_has_the_kl_of_its_shift_as_amortisation_gap(full: bool):
    """½ δᵀ P δ, whatever the covariance; nothing else for the full family, at three errors."""
    full_guide = theory.tempered_posterior(diagonal().weight, likelihood_scale=NOISE)
    setting = Setting(diagonal().weight, full_guide if full else diagonal().guide)
    pair = as_functions(setting, shift=0.3, full=full)
    gap = amortization_gap(pair, DATA, learning_rate=0.05, **MANY)
    precision = torch.linalg.inv(full_guide.covariance)
    expected = 0.5 * 0.09 * precision.sum().item()
    value, error = gap.mean("amortization")
    assert value == pytest.approx(expected, abs=3 * error + 0.01)
    family = 0.0 if full else theory.diagonal_gap(setting.weight, likelihood_scale=NOISE).item()
    value, error = gap.mean("approximation")
    assert value == pytest.approx(family, abs=3 * error + 0.01)


def test_a_guide_trained_at_another_beta_is_judged_by_its_own_target():
    """Tempered at 4 it has no gap against its own target, and a large one against p(z|x)."""
    pair = as_functions(orthogonal(beta=4.0))
    own = amortization_gap(pair, X, num_samples=50, target="tempered", beta=4.0)
    assert own.amortization.item() == pytest.approx(0, abs=1e-9)
    model = amortization_gap(pair, X, learning_rate=0.05, **MANY)
    assert model.mean("guide")[0] == pytest.approx(
        EXACT - 0.8981231236, abs=4 * model.mean("guide")[1]
    )
    assert model.mean("amortization")[0] == pytest.approx(
        0.8981231236, abs=4 * model.mean("amortization")[1] + 0.01
    )


def test_annealed_evidence_gives_the_same():
    gap = amortization_gap(
        as_functions(diagonal()), X.repeat(8, 1), method="annealed", temperatures=60, leapfrogs=5
    )
    value, error = gap.mean("log_evidence")
    assert value == pytest.approx(EXACT, abs=3 * error + 0.02)
    assert gap.method == "annealed"
    assert list(gap.table().index) == list(gap.errors)
    assert "amortization" in str(gap)


def correlated() -> Setting:
    """A decoder whose posterior is far from diagonal, with the best diagonal guide."""
    weight = diagonal().weight @ torch.tensor([[1.0, 0.5], [0.0, 1.0]])
    return Setting(weight, theory.diagonal_guide(weight, likelihood_scale=NOISE))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 1}, "num_samples: expected at least 2"),
        ({"steps": 0}, "steps"),
        ({"method": "exact"}, "method: expected one of"),
    ],
)
def test_refuses(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        amortization_gap(as_functions(diagonal()), X, **arguments)


def test_refuses_options_that_would_change_nothing():
    with pytest.raises(TypeError, match=r"'annealed' with \['temperatures'\], got 'importance'"):
        amortization_gap(as_functions(diagonal()), X, temperatures=50)


def test_the_printed_line_names_what_is_observed():
    found = amortization_gap(of_y_given_x(), (X[:, 0], X[:, 0]), num_samples=2, steps=1)
    assert "guide against p(z|y)," in str(found)
