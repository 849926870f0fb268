"""The information bottleneck of jointly Gaussian x and y, in closed form."""

from typing import NamedTuple

import torch
from torch import Tensor


class GaussianBottleneck(NamedTuple):
    """The optimum at one price β, in nats.

    Attributes:
        information: I(X;Z), what the code keeps of x.
        relevance: I(Y;Z), what it tells of y.
        active: how many dimensions of the code carry something.
    """

    information: Tensor
    relevance: Tensor
    active: int


def gaussian_bottleneck(correlations: Tensor, *, beta: float) -> GaussianBottleneck:
    r"""Maximise I(Y;Z) − β I(X;Z) over codes z of x, for jointly Gaussian x and y.

    With ρ_i the canonical correlations of x and y, dimension i is active iff β < ρ_i², and then

        I(X;Z) = Σ ½ ln[(1 − β) ρ_i² / (β (1 − ρ_i²))],
        I(Y;Z) = Σ ½ ln[(1 − β) / (1 − ρ_i²)].

    Chechik et al. maximise I(Y;Z) · (1/β) − I(X;Z), so their β is one over this one, and their
    eigenvalues λ_i = 1 − ρ_i².

    Args:
        correlations: ρ `[dimensions]`, each in [0, 1).
        beta: what a nat of I(X;Z) costs, in (0, 1).

    Raises: ValueError for correlations outside [0, 1) or β outside (0, 1).

    References:
        Chechik, Globerson, Tishby, Weiss (2005), Information Bottleneck for Gaussian Variables.

    >>> gaussian_bottleneck(torch.tensor([0.9, 0.5]), beta=0.5).active
    1
    """
    if correlations.dim() != 1 or not ((correlations >= 0) & (correlations < 1)).all():
        raise ValueError(
            f"correlations: expected numbers in [0, 1) of shape [dimensions], got {correlations}"
        )
    if not 0 < beta < 1:
        raise ValueError(
            f"beta: expected a price in (0, 1), got {beta}; from 1 on nothing is worth its price"
        )
    squared = correlations[correlations**2 > beta] ** 2
    relevance = 0.5 * torch.log((1 - beta) / (1 - squared)).sum()
    information = 0.5 * torch.log((1 - beta) * squared / (beta * (1 - squared))).sum()
    return GaussianBottleneck(information, relevance, len(squared))


def canonical_correlations(x: Tensor, y: Tensor) -> Tensor:
    """Return the canonical correlations of x `[n, k]` and y `[n, m]`, largest first, min(k, m).

    Raises: ValueError if the two are not matrices of equally many rows, more than columns.

    References:
        Hotelling (1936), Relations Between Two Sets of Variates.

    >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> canonical_correlations(x, -2 * x).round(decimals=3)
    tensor([1.])
    """
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y) or len(x) <= max(x.shape[1], y.shape[1]):
        raise ValueError(
            "x, y: expected matrices [n, k] and [n, m] with more rows than columns, got "
            f"{list(x.shape)} and {list(y.shape)}"
        )
    bases = [torch.linalg.qr(part - part.mean(0)).Q for part in (x, y)]
    return torch.linalg.svdvals(bases[0].mT @ bases[1]).clamp(max=1.0)
