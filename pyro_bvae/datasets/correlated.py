"""Two factors that go together, because independent factors are the easy case."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_bvae.datasets.combinations import Rows
from pyro_bvae.datasets.factors import FactorDataset


class Correlated(FactorDataset):
    r"""As many images as `data` has, repeated and left out so that two factors go together.

    An image of classes $a$ and $b$ of the two factors has the weight

    $$p(a, b) \propto \exp\left(-\frac{(c_1 - c_2)^2}{2σ^2}\right), \quad
      c_1 = \frac{a}{A - 1},\; c_2 = \frac{b}{B - 1}$$

    with $A$ and $B$ the sizes of the factors; the other factors keep their distribution. Each
    pair of classes has its share of the images but for one, each image of it equally often but
    for one, and which have the one more is drawn from the seed. So a pair whose share is below
    one image is missing. Small σ correlates strongly, σ → ∞ not at all.

    Args:
        data: where the images come from.
        first, second: the two factors, by name or position.
        sigma: width σ of the band, in units of the factors' whole range.
        seed: of the choice.

    Raises:
        ValueError: one factor twice, or one of a single class; sigma that is not positive.

    Reference:
        Träuble, Creager, Kilbertus, Locatello, Dittadi, Goyal, Schölkopf, Bauer 2021, "On
        disentangled representations learned from correlated data", with the factors scaled to
        [0, 1] as in Roth, Ibrahim, Akata, Vincent, Bouchacourt 2023, "Disentanglement of
        correlated factors via Hausdorff factorized support".

    Example:
        >>> from pyro_bvae.datasets import Sprites
        >>> data = Correlated(Sprites(), "scale", "posX", sigma=0.1, seed=0)
        >>> rows = data.factors(torch.arange(len(data)))
        >>> bool(torch.corrcoef(rows[:, [2, 4]].T.double())[0, 1] > 0.9)
        True
    """

    def __init__(
        self,
        data: FactorDataset,
        first: str | int,
        second: str | int,
        *,
        sigma: float,
        seed: int,
    ) -> None:
        pair = (data.position(first), data.position(second))
        sizes = [data.factor_sizes[at] for at in pair]
        if pair[0] == pair[1] or min(sizes) < 2:
            raise ValueError(
                "first and second: expected two factors of two classes or more, got "
                f"{first!r} and {second!r} of sizes {sizes}."
            )
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma: expected a positive number, got {sigma!r}.")
        rows = data.factors(torch.arange(len(data)))
        first_class, second_class = rows[:, pair[0]], rows[:, pair[1]]
        weights = _band(sizes, sigma)[first_class, second_class]
        cells = first_class * sizes[1] + second_class
        self._chosen = _shares(weights, cells, torch.Generator().manual_seed(seed))
        super().__init__(
            data.factor_names,
            data.factor_sizes,
            data.shape,
            factor_values=data.factor_values,
            combinations=Rows(rows[self._chosen], data.factor_sizes),
        )
        self.parent = data

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, *shape]` at `indices` `[n]`."""
        return self.parent.images(self.parent_indices(indices))

    def parent_indices(self, indices: Tensor) -> Tensor:
        """Where the images at `indices` `[n]` lie in the parent."""
        return self._chosen[self._checked(indices)]


def _band(sizes: list[int], sigma: float) -> Tensor:
    """The weights `[A, B]`, the largest 1, at the distance from the diagonal in units of σ."""
    first, second = (torch.linspace(0, 1, size, dtype=torch.float64) for size in sizes)
    return torch.exp(-(first[:, None] - second).square() / (2 * sigma**2))


def _shares(weights: Tensor, cells: Tensor, generator: torch.Generator) -> Tensor:
    """As many indices as weights, each near its share: evenly spaced along the summed weights.

    The images of a cell lie next to each other, in an order drawn at random, so that the
    spacing selects among them without regard to their other factors.
    """
    shuffled = torch.randperm(len(cells), generator=generator)
    order = shuffled[torch.argsort(cells[shuffled], stable=True)]
    ends = weights[order].cumsum(0)
    places = (torch.arange(len(cells), dtype=torch.float64) + 0.5) / len(cells) * ends[-1]
    return order[torch.searchsorted(ends, places, right=True)].sort().values
