"""The distribution of an 8-bit value that a mixture of logistics gives."""

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import Categorical, TorchDistribution, constraints
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

STEPS = 255
_SMALLEST, _START = -7.0, math.log(0.1)


class DiscretisedLogisticMixture(TorchDistribution):
    """P(x) = Σ_k π_k [F((x + δ − μ_k)/s_k) − F((x − δ − μ_k)/s_k)] for x = 0, 1/255, …, 1.

    F(a) − F(b) = F(a) F(−b) (1 − e^{b − a}) has a logarithm without cancellation. log s is its
    number plus log(1/10), and at least −7.

    Args:
        logits: of π, `[..., components]`.
        loc: μ, `[..., components]`.
        log_scale: log s − log(1/10), `[..., components]`.

    >>> two = torch.zeros(2)
    >>> fn = DiscretisedLogisticMixture(two, two + 0.5, two)
    >>> round(float(fn.log_prob(torch.arange(256) / 255).exp().sum()), 5)
    1.0
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.unit_interval
    has_rsample = False

    def __init__(self, logits: Tensor, loc: Tensor, log_scale: Tensor) -> None:
        self.log_weights = log_softmax(logits, dim=-1)
        self.loc = loc
        self.log_scale = (log_scale + _START).clamp(min=_SMALLEST)
        super().__init__(batch_shape=loc.shape[:-1], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """Return the same for a larger batch."""
        new = self._get_checked_instance(DiscretisedLogisticMixture, _instance)
        for name in ("log_weights", "loc", "log_scale"):
            value = getattr(self, name)
            setattr(new, name, value.expand(*batch_shape, value.shape[-1]))
        super(DiscretisedLogisticMixture, new).__init__(torch.Size(batch_shape))
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log P of a value, rounded to the nearest of the 256."""
        steps = (value * STEPS).round().unsqueeze(-1)
        inverse = (-self.log_scale).exp()
        above = ((steps + 0.5) / STEPS - self.loc) * inverse
        below = ((steps - 0.5) / STEPS - self.loc) * inverse
        width = torch.log(-torch.expm1(-inverse / STEPS))
        inner = logsigmoid(above) + logsigmoid(-below) + width
        log_mass = torch.where(steps <= 0, logsigmoid(above), inner)
        log_mass = torch.where(steps >= STEPS, logsigmoid(-below), log_mass)
        return torch.logsumexp(self.log_weights + log_mass, dim=-1)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw values k/255."""
        chosen = Categorical(logits=self.log_weights).sample(sample_shape).unsqueeze(-1)
        uniform = torch.rand_like(self.loc.expand(*sample_shape, *self.loc.shape))
        draws = self.loc + self.log_scale.exp() * torch.logit(uniform, eps=1e-7)
        drawn = draws.gather(-1, chosen).squeeze(-1)
        return (drawn * STEPS).round().clamp(0, STEPS) / STEPS

    @property
    def mean(self) -> Tensor:
        """Σ_{k < 255} P(x > k/255) / 255."""
        inverse, weights = (-self.log_scale).exp(), self.log_weights.exp()
        total = torch.zeros_like(self.loc[..., 0])
        for k in range(STEPS):
            tail = torch.sigmoid((self.loc - (k + 0.5) / STEPS) * inverse)
            total = total + (weights * tail).sum(-1)
        return total / STEPS
