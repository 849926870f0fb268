"""Trajectories of the no-U-turn sampler beside ones built of lists, point by point."""

from typing import NamedTuple

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from pyro_bvae.diagnostics.nuts import Trees

CHAINS = 400


def curved(u: Tensor) -> tuple[Tensor, Tensor]:
    """a ~ N(0, 1), b | a ~ N(a², eᵃ): log density, up to a constant, and gradient."""
    a, b = u.unbind(1)
    off, precision = b - a**2, (-a).exp()
    slope = -a + off * precision * 2 * a + off**2 * precision / 2 - 0.5
    return -(a**2) / 2 - off**2 * precision / 2 - a / 2, torch.stack([slope, -off * precision], 1)


class Grown(NamedTuple):
    """What trajectories did: the points they went to, how many, and what came of them."""

    visited: Tensor  # [points, chains, 2]
    number: Tensor
    diverged: Tensor
    draw: Tensor
    acceptance: Tensor


def grown(start: Tensor, step: Tensor, scale: Tensor) -> Grown:
    """Grow a trajectory of every chain."""
    visited: list[Tensor] = []

    def density(u: Tensor) -> tuple[Tensor, Tensor]:
        visited.append(u)
        return curved(u)

    trees, open_ = Trees(density, start), torch.ones(len(start), dtype=torch.bool)
    number, diverged, draw = torch.zeros(len(start), dtype=int), ~open_, start.clone()
    acceptance = start.new_zeros(len(start))
    while open_.any():
        ended, failed = trees.grow(step, scale)
        number += open_
        now = ended & open_
        draw[now], acceptance[now] = trees.draw[now], trees.acceptance[now]
        diverged |= now & failed
        open_ &= ~ended
        trees.begin(ended.nonzero()[:, 0])
    return Grown(torch.stack(visited[1:]), number, diverged, draw, acceptance)


class Orbit(NamedTuple):
    """All points of the trajectories, by their place in time, the first of them at −`zero`."""

    zero: int
    point: Tensor  # [places, chains, 2]
    momentum: Tensor
    gain: Tensor  # what the energy is less than at place 0


def orbits(start: Tensor, first: Tensor, step: Tensor, scale: Tensor, reach: int) -> Orbit:
    """Follow leapfrog steps both ways; forwards is where `first` lies."""

    def slope(u: Tensor) -> Tensor:
        return torch.einsum("cji,cj->ci", scale, curved(u)[1])

    away = torch.linalg.solve(scale, (first - start)[..., None])[..., 0]
    beginning = away / step[:, None] - step[:, None] / 2 * slope(start)
    halves = []
    for size in (-step[:, None], step[:, None]):
        u, momentum, half = start, beginning, []
        for _ in range(reach):
            momentum = momentum + size / 2 * slope(u)
            u = u + torch.einsum("cij,cj->ci", scale, size * momentum)
            momentum = momentum + size / 2 * slope(u)
            half.append((u, momentum))
        halves.append(half)
    backward, forward = halves
    points = [*reversed(backward), (start, beginning), *forward]
    point, momentum = (torch.stack(part) for part in zip(*points, strict=True))
    energy = momentum.square().sum(2) / 2 - curved(point.flatten(0, 1))[0].reshape(len(point), -1)
    gain = energy[reach] - energy
    return Orbit(reach, point, momentum, torch.where(gain.isfinite(), gain, -torch.inf))


def turned(momenta: Tensor) -> bool:
    """Whether a tree, of its momenta in time `[points, 2]`, turns at one of its ends."""
    inner = momenta.sum(0) - (momenta[0] + momenta[-1]) / 2
    return bool((momenta[0] @ inner <= 0) | (momenta[-1] @ inner <= 0))


def halves_of(orbit: Orbit, chain: int, visited: Tensor) -> tuple[list[list[int]], list[int]]:
    """Double a trajectory until it ends, to the sides on which points were visited.

    Returns: the places of its start and of all halves that joined it, and all it went to.
    """
    momentum, gain = orbit.momentum[:, chain], orbit.gain[:, chain]
    halves, low, high, been = [[orbit.zero]], orbit.zero, orbit.zero, list[int]()
    while len(been) < len(visited):
        size = 2 ** (len(halves) - 1)
        onward = torch.allclose(visited[len(been)], orbit.point[high + 1, chain], rtol=1e-6)
        half = [high + 1 + i if onward else low - 1 - i for i in range(size)]
        for leaf, place in enumerate(half, 1):
            been.append(place)
            trees = [half[leaf - 2**k : leaf] for k in range(1, 11) if leaf % 2**k == 0]
            if gain[place] < -1000 or any(turned(momentum[sorted(tree)]) for tree in trees):
                return halves, been
        halves.append(half)
        low, high = min(low, *half), max(high, *half)
        if turned(momentum[low : high + 1]):
            return halves, been
    return halves, []


def chances(orbit: Orbit, chain: int, halves: list[list[int]]) -> Tensor:
    """The chance of each place to be drawn, in the order of the halves.

    In proportion to weights exp(gain) within a half, which is preferred to all before it with
    the ratio of their weights, at most 1.
    """
    result, before = torch.ones(1), orbit.gain[halves[0], chain].exp().sum()
    for half in halves[1:]:
        weights = orbit.gain[half, chain].exp()
        preferred = (weights.sum() / before).clamp(max=1)
        result = torch.cat([(1 - preferred) * result, preferred * weights / weights.sum()])
        before = before + weights.sum()
    return result


@pytest.mark.parametrize(("width", "failures"), [(0.3, 0), (1.0, 1)])
def test_trajectories_are_those_of_trees_built_of_lists(width: float, failures: int):
    """Where they end, how far they failed, what was accepted, and what is drawn from them.

    A draw's place among the chances of all is uniform: Kolmogorov–Smirnov.
    """
    a, noise = torch.randn(2, CHAINS)
    start = torch.stack([a, a**2 + (a / 2).exp() * noise], 1)
    step = width * (0.5 + torch.rand(CHAINS))
    scale = torch.eye(2) + torch.tensor([[0.0, 0.0], [0.5, 0.0]]) * torch.rand(CHAINS, 1, 1)
    found = grown(start, step, scale)
    orbit = orbits(start, found.visited[0], step, scale, int(found.number.max()) + 1)
    uniform = []
    for chain in range(CHAINS):
        visited = found.visited[: found.number[chain], chain]
        halves, been = halves_of(orbit, chain, visited)
        assert torch.allclose(orbit.point[been, chain], visited, rtol=1e-6)
        assert found.diverged[chain] == (orbit.gain[been[-1], chain] < -1000)
        accepted = orbit.gain[been, chain].clamp(max=0).exp().mean()
        assert torch.allclose(found.acceptance[chain], accepted, rtol=1e-6)
        each = chances(orbit, chain, halves)
        at = orbit.point[[place for half in halves for place in half], chain]
        drawn = (at - found.draw[chain]).abs().sum(1).argmin()
        uniform.append(each[:drawn].sum() + torch.rand(()) * each[drawn])
    assert found.diverged.sum() >= failures
    assert kstest(torch.stack(uniform).numpy(), "uniform").pvalue > 1e-3
