"""Two-sample tests: their statistics by definition, their size and their power."""

from functools import partial

import pytest
import torch
from scipy.stats import binom, energy_distance

from pyro_bvae.diagnostics import energy_test, mmd_test
from pyro_bvae.objectives.mmd import SCALES, mmd

TESTS = [mmd_test, energy_test]


def test_mmd_is_its_definition():
    a, b = torch.randn(6, 2), torch.randn(4, 2) + 1
    pooled = torch.cat([a, b])
    distinct = [(x - y).square().sum() for i, x in enumerate(pooled) for y in pooled[:i]]
    scale = torch.stack(distinct).mean()

    def kernel(x, y):
        return sum(s * scale / (s * scale + (x - y).square().sum()) for s in SCALES) / len(SCALES)

    def within(x):
        values = [kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]
        return sum(values) / len(values)

    across = sum(kernel(x, y) for x in a for y in b) / 24
    value = within(a) + within(b) - 2 * across
    assert mmd_test(a, b).statistic == pytest.approx(value.item(), abs=1e-12)


def test_mmd_is_near_the_objectives_own_where_the_draws_have_one_scale():
    a, b = torch.randn(500, 3), torch.randn(500, 3)
    assert mmd_test(a, b).statistic == pytest.approx(mmd(a, b).item(), abs=1e-4)


def test_energy_is_twice_cramers_distance_in_one_dimension():
    a, b = torch.randn(400, 1), torch.randn(300, 1) * 2 + 1
    # SciPy's is √(2 ∫ (F − G)²) = √(the statistic with bias), whose bias is the diagonal's 0.
    within = [torch.cdist(x, x).sum() / len(x) ** 2 / (len(x) - 1) for x in (a, b)]
    biased = energy_test(a, b).statistic + sum(within).item()
    assert biased == pytest.approx(energy_distance(a[:, 0], b[:, 0]) ** 2, abs=1e-10)


@pytest.mark.parametrize("test", TESTS)
def test_p_values_are_at_most_alpha_as_often_as_they_may(test):
    # 300 tests at 5 % and 50 %: more rejections than the quantile come once in 10⁴.
    run = partial(test, permutations=99)
    values = torch.tensor(
        [run(torch.randn(20, 2), torch.randn(15, 2), seed=i).p_value for i in range(300)]
    )
    for alpha in (0.05, 0.5):
        count = (values <= alpha + 1e-9).sum().item()
        assert binom.ppf(1e-4, 300, alpha) <= count <= binom.ppf(1 - 1e-4, 300, alpha)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("change", [lambda z: z + 0.4, lambda z: 1.5 * z])
def test_shifts_and_scales_are_found(test, change):
    assert test(torch.randn(300, 2), change(torch.randn(300, 2))).p_value < 0.01


@pytest.mark.parametrize("test", TESTS)
def test_points_in_one_place_are_no_evidence(test):
    same = torch.zeros(10, 2)
    assert test(same, same) == (pytest.approx(0), 1.0)


def test_the_seed_is_of_the_permutations():
    a, b = torch.randn(20, 1), torch.randn(20, 1)
    state = torch.get_rng_state()
    first, again, other = (mmd_test(a, b, permutations=50, seed=s) for s in (0, 0, 1))
    assert first == again
    assert first.statistic == other.statistic
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("test", TESTS)
def test_bad_input_is_named(test):
    with pytest.raises(ValueError, match="b: expected at least 2 draws of one length"):
        test(torch.randn(5, 2), torch.randn(5, 3))
    with pytest.raises(ValueError, match="a: expected finite draws"):
        test(torch.full((5, 2), torch.nan), torch.randn(5, 2))
    with pytest.raises(ValueError, match="permutations: expected a whole number"):
        test(torch.randn(5, 2), torch.randn(5, 2), permutations=0)
