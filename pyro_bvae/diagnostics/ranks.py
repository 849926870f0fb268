"""Ranks of truths among draws: uniform where the draws are from the truth's own posterior."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor

_NULL, _POINTS = 9999, 200

Array = NDArray[np.float64]


def ranks(truth: Tensor, draws: Tensor) -> Tensor:
    """Count the draws below the truth, ties by lot: 0 to `num_samples`, the shape of the truth.

    Args:
        truth: `[...]`.
        draws: `[num_samples, ...]`.

    >>> ranks(torch.tensor([0.5, -1.0]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    tensor([1, 0])
    """
    below, equal = (draws < truth).sum(0), (draws == truth).sum(0)
    return below + (torch.rand(truth.shape, device=truth.device) * (equal + 1)).floor().long()


class Uniformity:
    """What the ranks of `simulations` truths among `num_samples` draws look like if uniform.

    The share F̂(i) of ranks below i is, if they are uniform, binomial at each i: n F̂(i) ~ Bin(n, z)
    with z = i/(num_samples + 1). The statistic γ is the smallest of all these two-sided p-values,
    2 min_i min{P(Bin ≤ n F̂(i)), P(Bin ≥ n F̂(i))}; its distribution for uniform ranks, simulated
    once, gives p-values and bands that hold for all i at once. Of more than 200 i, as many are
    looked at, evenly spaced.

    Args:
        simulations: n.
        num_samples: draws for each truth.
        seed: of the simulation.

    Attributes:
        points: the z, `[points]`.

    References:
        Säilynoja, Bürkner, Vehtari (2022), Graphical Test for Discrete Uniformity and Its
        Applications in Goodness-of-Fit Evaluation and Multiple Sample Comparison.

    >>> uniformity = Uniformity(100, 9)
    >>> even, all_low = torch.arange(100) % 10, torch.zeros(100, dtype=torch.long)
    >>> uniformity.p_values(torch.stack([even, all_low], 1)).tolist()
    [1.0, 0.0001]
    """

    def __init__(self, simulations: int, num_samples: int, *, seed: int = 0) -> None:
        self.simulations, self.num_samples = simulations, num_samples
        bins = num_samples + 1
        self._edges = np.unique(np.rint(np.linspace(0, bins, min(bins, _POINTS) + 1))).astype(int)
        self.points: Array = self._edges[1:-1] / bins
        count = np.arange(simulations + 1)[:, None]
        below = binom.cdf(count, simulations, self.points)
        above = binom.sf(count - 1, simulations, self.points)
        self._two_sided = 2 * np.minimum(below, above)
        random = np.random.default_rng(seed)
        drawn = random.multinomial(simulations, np.diff(self._edges) / bins, size=_NULL)
        self._null = np.sort(self._gamma(drawn.cumsum(1)[:, :-1]))

    def p_values(self, ranks: Tensor) -> Array:
        """Return a p-value for each column of `ranks` `[simulations, columns]`."""
        gamma = self._gamma(self.distribution(ranks).T * self.simulations)
        as_small = np.searchsorted(self._null, gamma * (1 + 1e-9), side="right")
        return (1 + as_small) / (1 + _NULL)

    def distribution(self, ranks: Tensor) -> Array:
        """Return F̂ at the `points` of every column of `ranks`, `[points, columns]`."""
        counts = [np.histogram(column, self._edges)[0] for column in ranks.cpu().numpy().T]
        return np.stack(counts, 1).cumsum(0)[:-1] / self.simulations

    def band(self, level: float = 0.95) -> tuple[Array, Array]:
        """Return what F̂ stays within at all points with probability `level`, `[points]`."""
        gamma = self._null[int(np.floor((1 - level) * _NULL))]
        low = binom.ppf(gamma / 2, self.simulations, self.points)
        high = binom.isf(gamma / 2, self.simulations, self.points)
        return low / self.simulations, high / self.simulations

    def _gamma(self, counts: Array) -> Array:
        """Return γ of every row of cumulated counts `[rows, points]`."""
        places = np.rint(counts).astype(np.int64)
        pointwise = self._two_sided[places, np.arange(len(self.points))]
        return np.minimum(pointwise.min(1), 1.0)


@lru_cache(maxsize=8)
def uniformity_of(simulations: int, num_samples: int) -> Uniformity:
    """Return the `Uniformity` of these numbers, simulated once."""
    return Uniformity(simulations, num_samples)
