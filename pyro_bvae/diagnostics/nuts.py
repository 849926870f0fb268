"""The no-U-turn sampler for many chains at once, none of which waits for another."""

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_bvae.diagnostics.warmup import Warmup

Density = Callable[[Tensor], tuple[Tensor, Tensor]]

_MAX_DEPTH = 10
_MAX_ENERGY = 1000.0


def nuts(
    density: Density, start: Tensor, spread: Tensor, *, num_samples: int, warmup: int
) -> tuple[Tensor, Tensor]:
    """Draw chains, one for each row, with step sizes, scales and trajectories of their own.

    One call of the density is one leapfrog step of every chain: a chain whose trajectory has
    turned starts its next while others still grow theirs.

    Args:
        density: of rows u `[chains, dim]`, the log density of each and its gradient.
        start: `[chains, dim]`.
        spread: about the standard deviation of every coordinate, `[chains, dim]`.
        num_samples: draws of each chain.
        warmup: steps of each chain before, ≥ 1, which set its step size and scales.

    Returns: draws `[num_samples, chains, dim]`, and for each chain at how many of them the
        integrator failed.

    Raises: ValueError if the density is not finite at a start.

    References:
        Hoffman, Gelman (2014), The No-U-Turn Sampler.
        Betancourt (2017), A Conceptual Introduction to Hamiltonian Monte Carlo.
        Phan, Pradhan, Jankowiak (2019), Composable Effects for Flexible and Accelerated
        Probabilistic Programming in NumPyro, for trees without recursion.

    >>> start = torch.zeros(3, 2)
    >>> draws, failed = nuts(lambda u: (-u.square().sum(1) / 2, -u), start, start + 1,
    ...                      num_samples=50, warmup=20)
    >>> draws.shape, failed.tolist()
    (torch.Size([50, 3, 2]), [0, 0, 0])
    """
    trees, tuning = Trees(density, start), Warmup(spread, warmup)
    draws = start.new_empty(num_samples, *start.shape)
    done = torch.zeros(len(start), dtype=torch.long, device=start.device)
    failed = torch.zeros_like(done)
    while (done < warmup + num_samples).any():
        ended, diverged = trees.grow(tuning.step, tuning.scale)
        here = ended.nonzero()[:, 0]
        tuning.learn(here, done, trees.draw, trees.acceptance)
        kept = here[(done[here] >= warmup) & (done[here] < warmup + num_samples)]
        draws[done[kept] - warmup, kept] = trees.draw[kept]
        failed[kept] += diverged[kept]
        done[here] += 1
        trees.begin(here)
    return draws, failed


class Trees:
    """A trajectory of every chain, doubled in a random direction until it turns back.

    Its points are weighed by exp(−energy); of the half that is being added, one is drawn in
    proportion, and preferred to the draw so far when the half is whole. Momenta are in units of
    the scales, so that their density is a standard normal's.

    Attributes:
        draw: the point drawn from each trajectory so far `[chains, dim]`.
    """

    def __init__(self, density: Density, start: Tensor) -> None:
        self._density = density
        value, gradient = density(start)
        wrong = int((~value.isfinite()).sum())
        if wrong:
            raise ValueError(
                f"pair: expected draws of the guide at which the model has a finite density, got "
                f"{wrong} of {len(value)} at which it has none; give the guide the model's support"
            )
        chains, self.dim = start.shape
        integers = torch.zeros(chains, dtype=torch.long, device=start.device)
        self._every = torch.arange(chains, device=start.device)
        self._levels = torch.arange(_MAX_DEPTH, device=start.device)
        self._point = torch.cat([start, gradient, value[:, None]], 1)
        self._candidate = self._point
        self._ends = start.new_zeros(2, chains, 3, self.dim)
        self._side, self._leaf, self._depth = (integers.clone() for _ in range(3))
        self._energy, self._weight, self._new_weight = start.new_zeros(3, chains)
        self._total, self._new_total = start.new_zeros(2, chains, self.dim)
        self._accepted, self._steps = start.new_zeros(2, chains)
        self._marks = start.new_zeros(chains, _MAX_DEPTH, 2, self.dim)
        self.begin(self._every)

    @property
    def draw(self) -> Tensor:
        """The point drawn from each trajectory so far."""
        return self._point[:, : self.dim]

    @property
    def acceptance(self) -> Tensor:
        """The mean acceptance probability of each trajectory's points `[chains]`."""
        return self._accepted / self._steps

    def begin(self, chains: Tensor) -> None:
        """Start new trajectories of some chains at their draws, with momenta drawn afresh."""
        u, gradient, value = self._point[chains].split([self.dim, self.dim, 1], 1)
        momentum = torch.randn_like(u)
        self._ends[:, chains] = torch.stack([u, momentum, gradient], 1)
        self._energy[chains] = momentum.square().sum(1) / 2 - value[:, 0]
        self._total[chains] = momentum
        for zero in (self._weight, self._depth, self._accepted, self._steps):
            zero[chains] = 0
        self._double(chains)

    def grow(self, step: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Take one leapfrog step in every chain.

        Returns: which trajectories have ended, and which of them because the integrator failed.
        """
        momentum, point = self._leapfrog(step, scale)
        gain = self._energy + point[:, -1] - momentum.square().sum(1) / 2
        gain = torch.where(gain.isfinite(), gain, -torch.inf)
        self._accepted += gain.clamp(max=0).exp()
        self._steps += 1
        self._new_weight = torch.logaddexp(self._new_weight, gain)
        taken = torch.rand_like(gain) < (gain - self._new_weight).exp()
        self._candidate = torch.where(taken[:, None], point, self._candidate)
        self._new_total += momentum
        diverged = gain < -_MAX_ENERGY
        broken = diverged | self._turned_within(momentum)
        self._leaf += 1
        whole = (self._leaf == 1 << self._depth) & ~broken
        self._join(whole)
        backward, forward = self._ends[:, :, 1]
        turned = turns(backward, forward, self._total)
        ended = broken | whole & (turned | (self._depth == _MAX_DEPTH))
        self._double((whole & ~ended).nonzero()[:, 0])
        return ended, diverged

    def _double(self, chains: Tensor) -> None:
        """Begin another half of some trajectories, on a side drawn for each."""
        self._side[chains] = torch.randint_like(chains, 2)
        self._leaf[chains] = 0
        self._new_weight[chains] = -torch.inf
        self._new_total[chains] = 0

    def _leapfrog(self, step: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Move one end of each trajectory; return its momentum and all else there."""
        u, momentum, gradient = self._ends[self._side, self._every].unbind(1)
        size = (step * (2 * self._side - 1))[:, None]
        momentum = momentum + size / 2 * times(scale.mT, gradient)
        u = u + size * times(scale, momentum)
        value, gradient = self._density(u)
        momentum = momentum + size / 2 * times(scale.mT, gradient)
        self._ends[self._side, self._every] = torch.stack([u, momentum, gradient], 1)
        return momentum, torch.cat([u, gradient, value[:, None]], 1)

    def _turned_within(self, momentum: Tensor) -> Tensor:
        """Whether one of the balanced trees that the newest point completes has turned.

        Marks hold the first momentum, and the sum up to it, of each tree yet to be completed:
        those of the even points, at the level that is the number of ones in the half of theirs.
        """
        digits = self._leaf[:, None] >> self._levels & 1
        level = digits[:, 1:].sum(1)
        trees = digits.cumprod(1).sum(1)
        mark = torch.stack([momentum, self._new_total], 1)
        even = (trees == 0)[:, None, None]
        self._marks[self._every, level] = torch.where(even, mark, self._marks[self._every, level])
        first, before = self._marks.unbind(2)
        total = self._new_total[:, None] - before + first
        below = level[:, None] - self._levels
        completed = (below >= 0) & (below < trees[:, None])
        return (turns(first, momentum[:, None], total) & completed).any(1)

    def _join(self, whole: Tensor) -> None:
        """Add the new halves that are whole to their trajectories."""
        moved = whole & (torch.rand_like(self._weight) < (self._new_weight - self._weight).exp())
        self._point = torch.where(moved[:, None], self._candidate, self._point)
        joint = torch.logaddexp(self._weight, self._new_weight)
        self._weight = torch.where(whole, joint, self._weight)
        self._total = self._total + whole[:, None] * self._new_total
        self._depth += whole


def times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Multiply matrices `[chains, dim, dim]` and vectors `[chains, dim]`."""
    return torch.einsum("cij,cj->ci", matrices, vectors)


def turns(first: Tensor, last: Tensor, total: Tensor) -> Tensor:
    """Whether a trajectory turns back at an end, from its momenta there and the sum of all.

    >>> turns(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.1]), torch.tensor([0.0, 0.2]))
    tensor(True)
    """
    inner = total - (first + last) / 2
    return ((first * inner).sum(-1) <= 0) | ((last * inner).sum(-1) <= 0)
