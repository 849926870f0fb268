"""Real numbers of which some are known: a point where they are, a distribution where not."""

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from pyro.poutine.util import is_validation_enabled
from torch import Tensor
from torch.distributions import Normal, kl_divergence, register_kl

from pyro_bvae.types import Distribution


class PartlyKnown(TorchDistribution):
    """q(y), independent over its batch: the known value where there is one, elsewhere `base`.

    log q(y) is 0 where y is known, so that KL(q‖p) is −log p(y) there: what it costs to tell y.

    Args:
        base: a distribution of one number each, of any batch shape.
        value: what y is where it is known; elsewhere any finite number.
        known: whether it is, of `value`'s shape, that of `base`'s last batch dimensions.

    >>> base = Normal(torch.zeros(2), 1.0)
    >>> PartlyKnown(base, torch.tensor([7.0, 0.0]), torch.tensor([True, False])).sample()[0]
    tensor(7.)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support: Any = constraints.real
    has_rsample = True

    def __init__(self, base: Distribution, value: Tensor, known: Tensor) -> None:
        self.base, self.value, self.known = base, value, known
        super().__init__(base.batch_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The known values, and the base's mean."""
        return torch.where(self.known, self.value, self.base.mean)

    @property
    def variance(self) -> Tensor:
        """0 where y is known, elsewhere the base's."""
        return torch.where(self.known, 0.0, self.base.variance)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw what is not known."""
        return torch.where(self.known, self.value, self.base.rsample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log q(y), 0 where y is known."""
        return torch.where(self.known, 0.0, self.base.log_prob(value))

    def expand(self, batch_shape: Any, _instance: Any = None) -> "PartlyKnown":
        """Return the same for a larger batch."""
        return PartlyKnown(self.base.expand(torch.Size(batch_shape)), self.value, self.known)


@register_kl(PartlyKnown, Normal)
def _kl(q: PartlyKnown, p: Normal) -> Tensor:
    return torch.where(q.known, -p.log_prob(q.value), kl_divergence(q.base, p))


def check_factors(factors: Tensor, shape: torch.Size) -> None:
    """Raise unless these are numbers `[batch, factors]`, with Pyro's validation finite ones."""
    if not isinstance(factors, Tensor) or not factors.is_floating_point():
        got = factors.dtype if isinstance(factors, Tensor) else type(factors).__name__
        raise TypeError(f"factors: expected a tensor of floating-point numbers, got {got}")
    if factors.shape != shape:
        raise ValueError(
            f"factors: expected shape {list(shape)}, a row for each x, got {list(factors.shape)}"
        )
    if is_validation_enabled() and not torch.isfinite(factors).all():
        raise ValueError(
            "factors: expected finite numbers, got NaN or infinity; where they are unknown pass "
            "factors.nan_to_num(), and ~factors.isnan() as known"
        )


def check_known(known: Tensor, shape: torch.Size) -> None:
    """Raise unless there is a boolean for every factor."""
    if not isinstance(known, Tensor) or known.dtype != torch.bool:
        got = known.dtype if isinstance(known, Tensor) else type(known).__name__
        raise TypeError(f"known: expected a tensor of booleans, got {got}; compare it with 0")
    if known.shape != shape:
        raise ValueError(
            f"known: expected shape {list(shape)}, a boolean for each factor, got "
            f"{list(known.shape)}"
        )
