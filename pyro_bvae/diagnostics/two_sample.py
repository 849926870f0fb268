"""Two-sample tests: are two sets of draws of one distribution? Exact, by permuting who is whose."""

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.objectives.mmd import SCALES


class TwoSample(NamedTuple):
    """A `statistic`, 0 in expectation for one distribution, and the `p_value` of as large a one."""

    statistic: float
    p_value: float


def mmd_test(a: Tensor, b: Tensor, *, permutations: int = 999, seed: int = 0) -> TwoSample:
    """Test whether a and b are draws of one distribution by their maximum mean discrepancy.

    MMD² = E k(a, a') + E k(b, b') − 2 E k(a, b), without bias, k the mean over s of
    sC / (sC + ‖·‖²) with C the mean squared distance of all draws. The p-value is the share of
    permutations of the pooled draws, this one included, with as large an MMD²: under independent
    draws of one distribution it is at most α with probability at most α, exactly.

    Args:
        a: draws `[n, dimensions]`, n ≥ 2; memory and time are of order (n + m)².
        b: draws `[m, dimensions]`, m ≥ 2.
        permutations: how many.
        seed: of the permutations.

    Raises:
        ValueError: draws that are not finite, of other shapes, or fewer than two.

    References:
        Gretton, Borgwardt, Rasch, Schölkopf, Smola (2012), A Kernel Two-Sample Test.

    >>> _ = torch.manual_seed(0)
    >>> a, b = torch.randn(100, 2), torch.randn(100, 2)
    >>> mmd_test(a, b).p_value > 0.05, mmd_test(a, b + 1).p_value
    (True, 0.001)
    """
    squared = _distances(a, b).square()
    scale = squared.sum() / (len(squared) * (len(squared) - 1))
    if scale == 0:
        return TwoSample(0.0, 1.0)
    kernel = torch.stack([s * scale / (s * scale + squared) for s in SCALES]).mean(0)
    return _permuted(kernel, len(a), permutations=permutations, seed=seed)


def energy_test(a: Tensor, b: Tensor, *, permutations: int = 999, seed: int = 0) -> TwoSample:
    """Test whether a and b are draws of one distribution by the energy distance.

    2 E‖a − b‖ − E‖a − a'‖ − E‖b − b'‖, without bias, in the units of the draws; its p-value is as
    that of `mmd_test`. It has no scale to choose, and is led by where most of the mass is.

    Args and Raises: as `mmd_test`.

    References:
        Székely, Rizzo (2004), Testing for Equal Distributions in High Dimension.

    >>> energy_test(torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0], [6.0]])).statistic
    8.0
    """
    return _permuted(-_distances(a, b), len(a), permutations=permutations, seed=seed)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the distances of the pooled draws, `[n + m, n + m]`, float64."""
    for name, draws in (("a", a), ("b", b)):
        if draws.dim() != 2 or len(draws) < 2 or draws.shape[1] != a.shape[1]:
            raise ValueError(
                f"{name}: expected at least 2 draws of one length, [n, dimensions], got shapes "
                f"{list(a.shape)} and {list(b.shape)}"
            )
        if not torch.isfinite(draws).all():
            raise ValueError(f"{name}: expected finite draws, got NaN or infinity")
    pooled = torch.cat([a, b]).double()
    # Without the matrix product, whose rounding would keep a draw from being at distance 0 of
    # itself.
    return torch.cdist(pooled, pooled, compute_mode="donot_use_mm_for_euclid_dist")


def _permuted(kernel: Tensor, first: int, *, permutations: int, seed: int) -> TwoSample:
    """Compare E k(a, a') + E k(b, b') − 2 E k(a, b) with its values under permutations."""
    check_count(permutations, "permutations")
    kernel = kernel.clone().fill_diagonal_(0.0)
    size = len(kernel)
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(permutations, size, generator=generator).to(kernel.device).argsort(1)
    mine = torch.cat([torch.arange(size, device=kernel.device)[None], order]) < first
    values = _discrepancy(kernel, mine.to(kernel))
    # Sums in another order round differently: what differs by less is equal.
    as_large = values >= values[0] - 1e-12 * kernel.abs().mean()
    return TwoSample(values[0].item(), as_large.double().mean().item())


def _discrepancy(kernel: Tensor, mine: Tensor) -> Tensor:
    """Return the statistic of every assignment `mine` `[assignments, draws]`, 1 for a, 0 for b."""
    n = int(mine[0].sum())
    m = len(kernel) - n
    own = ((mine @ kernel) * mine).sum(1)
    between = mine @ kernel.sum(1) - own
    other = kernel.sum() - own - 2 * between
    return own / (n * (n - 1)) + other / (m * (m - 1)) - 2 * between / (n * m)
