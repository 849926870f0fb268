"""The no-U-turn sampler leaves a density as it is, learns its shape, and turns where it should."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro.ops.stats import effective_sample_size
from scipy.stats import kstest
from torch import Tensor

from pyro_bvae.diagnostics.nuts import Trees, nuts
from pyro_bvae.diagnostics.warmup import Warmup, windows
from tests.diagnostics.test_trees import curved


def normal(covariance: Tensor):
    precision = covariance.inverse()
    return lambda u: (-((u @ precision) * u).sum(1) / 2, -u @ precision)


def moved(start: Tensor, step: float, transitions: int) -> Tensor:
    """Where as many transitions of a fixed step size take chains of the curved density."""
    trees, done = Trees(curved, start), torch.zeros(len(start), dtype=torch.long)
    scale, ended_at = torch.eye(2).expand(len(start), 2, 2), start.clone()
    while (done < transitions).any():
        ended, _ = trees.grow(torch.full((len(start),), step), scale)
        here = ended.nonzero()[:, 0]
        last = here[done[here] == transitions - 1]
        ended_at[last] = trees.draw[last]
        done[here] += 1
        trees.begin(here)
    return ended_at


@pytest.mark.parametrize("step", [0.3, 0.8])
def test_draws_of_a_density_stay_draws_of_it(step: float):
    """Whatever the step size: Kolmogorov–Smirnov of what is standard normal, and of a product."""
    a, noise = torch.randn(2, 10_000)
    start = torch.stack([a, a**2 + (a / 2).exp() * noise], 1)
    end = moved(start, step, 3)
    assert (end != start).any(1).double().mean() > 0.8
    a, b = end.unbind(1)
    noise = (b - a**2) * (-a / 2).exp()
    for statistic in (a, noise, (a + noise) / 2**0.5, (a - noise) / 2**0.5):
        assert kstest(statistic.numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize(("step", "points"), [(0.08, 63), (0.16, 31), (0.3, 15)])
def test_trajectories_of_a_normal_turn_after_half_a_period(step: float, points: int):
    """In 1000 dimensions momentum and place are orthogonal, as long as each other: a circle.

    It turns back at π, so a trajectory is doubled until it is at least π / step long.
    """
    scale = torch.eye(1000).expand(4, 1000, 1000)
    trees = Trees(normal(torch.eye(1000)), torch.randn(4, 1000))
    for grown in range(1, points + 1):
        ended, _ = trees.grow(torch.full((4,), step), scale)
        assert ended.tolist() == [grown == points] * 4


def test_chains_learn_a_correlated_density_and_draw_from_it():
    """Standard errors by the effective sample size; squares mix half as fast, at worst."""
    covariance = torch.tensor([[1.0, 0.0, 1.8], [0.0, 0.01, 0.0], [1.8, 0.0, 4.0]])
    start = torch.randn(4, 3)
    draws, failed = nuts(normal(covariance), start, start * 0 + 1, num_samples=1000, warmup=300)
    assert failed.sum() == 0
    effective = effective_sample_size(draws, chain_dim=1, sample_dim=0)
    assert (effective > 1000).all()
    variance = covariance.diagonal()
    assert (draws.mean((0, 1)).abs() < 4 * (variance / effective).sqrt()).all()
    found = torch.cov(draws.flatten(0, 1).mT)
    error = ((variance[:, None] * variance + covariance**2) / (effective.min() / 2)).sqrt()
    assert ((found - covariance).abs() < 4 * error).all()


def test_a_narrow_chain_beside_a_wide_one_has_a_step_of_its_own():
    """Scales learnt apart: each chain moves as far as its own density is wide."""
    widths = torch.tensor([0.01, 100.0])[:, None]
    start = torch.zeros(2, 1)
    draws, _ = nuts(
        lambda u: (-(u / widths).square().sum(1) / 2, -u / widths**2),
        start,
        torch.ones(2, 1),
        num_samples=500,
        warmup=300,
    )
    effective = effective_sample_size(draws[:, None], chain_dim=1, sample_dim=0)
    spread = draws.std(0) / widths
    assert ((spread - 1).abs() < 4 / effective.sqrt()).all()


def test_a_wall_counts_as_a_failure_and_is_never_crossed():
    def box(u):
        inside = u.abs().amax(1) < 1
        return torch.where(inside, 0.0, -torch.inf), torch.zeros_like(u)

    draws, failed = nuts(box, torch.zeros(2, 1), torch.ones(2, 1), num_samples=20, warmup=10)
    assert draws.abs().max() < 1
    assert (failed > 0).all()


def test_refuses_starts_without_density():
    with pytest.raises(ValueError, match="1 of 2 at which it has none"):
        Trees(lambda u: (u[:, 0].log(), 1 / u), torch.tensor([[1.0], [-1.0]]))


def test_the_covariance_is_that_of_the_draws_in_the_window():
    """Known spread counts as five draws, correlations by n / (n + 5 + dim)."""
    tuning, draws = Warmup(torch.ones(1, 2), 60), torch.randn(60, 1, 2)
    first, ends = windows(60)
    for done, draw in enumerate(draws):
        tuning.learn(torch.tensor([0]), torch.tensor([done]), draw, torch.tensor([0.8]))
        if done + 1 == ends[0]:
            break
    count = ends[0] - first
    sample = torch.cov(draws[first : ends[0], 0].mT)
    expected = (count * sample + 5 * torch.eye(2)) / (count + 5)
    off = expected[0, 1] * count / (count + 7)
    found = tuning.scale[0] @ tuning.scale[0].mT
    assert found.diagonal() == pytest.approx(expected.diagonal())
    assert found[0, 1] == pytest.approx(off)


def taught(tuning: Warmup, draws: Tensor, acceptance: Tensor, *, first: int = 0) -> None:
    """Teach one chain draws `[steps, 1, dim]` and how likely each was accepted."""
    for done, (draw, accepted) in enumerate(zip(draws, acceptance, strict=True), first):
        tuning.learn(torch.tensor([0]), torch.tensor([done]), draw, accepted[None])


@pytest.mark.parametrize("steps", [5, 20])
def test_new_scales_leave_steps_as_long_as_they_were(steps: int):
    """Accepted as wanted, the step size stays at 10 × .1; scales grow from .01."""
    tuning = Warmup(torch.full((1, 3), 0.01), steps)
    taught(tuning, torch.randn(steps, 1, 3), torch.full((steps,), 0.8))
    size = tuning.scale.diagonal(dim1=1, dim2=2).log().mean().exp()
    assert size > 0.1
    assert tuning.step * size == pytest.approx(torch.tensor([0.01]))


def test_the_last_step_size_is_the_mean_of_dual_averaging_and_stays():
    """Hoffman and Gelman's equation 6, begun anew after the last window."""
    tuning, draws, acceptance = Warmup(torch.ones(1, 2), 30), torch.randn(30, 1, 2), torch.rand(30)
    (end,) = windows(30)[1]
    taught(tuning, draws[:end], acceptance[:end])
    centre, error, mean = tuning.step.log(), 0.0, 0.0
    for t, accepted in enumerate(acceptance[end:], 1):
        error += (0.8 - accepted - error) / (t + 10)
        mean += t**-0.75 * (centre - t**0.5 / 0.05 * error - mean)
    taught(tuning, draws[end:], acceptance[end:], first=end)
    taught(tuning, draws, acceptance, first=30)
    assert tuning.step == pytest.approx(mean.exp())


def test_draws_are_what_each_chain_came_to_after_its_warmup(monkeypatch: pytest.MonkeyPatch):
    """One after another, whatever the other chains do, whose trajectories are shorter or longer."""
    begun: list[list[Tensor]] = [[], [], []]
    begin = Trees.begin

    def noted(trees: Trees, chains: Tensor) -> None:
        for chain in chains.tolist():
            begun[chain].append(trees.draw[chain].clone())
        begin(trees, chains)

    monkeypatch.setattr(Trees, "begin", noted)
    start, spread = torch.randn(3, 2), torch.tensor([[0.1], [1.0], [10.0]]).expand(3, 2)
    draws, _ = nuts(curved, start, spread, num_samples=30, warmup=4)
    for chain, points in enumerate(begun):
        assert torch.equal(points[0], start[chain])
        assert torch.equal(torch.stack(points[5:35]), draws[:, chain])


@given(st.integers(1, 3000))
def test_windows_fill_the_warmup(warmup: int):
    first, ends = windows(warmup)
    assert 0 <= first <= warmup
    assert all(a < b for a, b in zip([first, *ends], ends, strict=False))
    assert all(end <= warmup for end in ends)
