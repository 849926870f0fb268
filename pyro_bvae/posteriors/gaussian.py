"""Normals with correlated latents, whose KL to an independent normal is known exactly."""

import math

from pyro.distributions import Independent, LowRankMultivariateNormal, MultivariateNormal, Normal
from torch import Tensor
from torch.distributions import register_kl


class FullRankNormal(MultivariateNormal):
    """N(μ, L Lᵀ)."""


class LowRankNormal(LowRankMultivariateNormal):
    """N(μ, F Fᵀ + diag d)."""


@register_kl(FullRankNormal, Independent)
@register_kl(LowRankNormal, Independent)
def kl_to_independent_normal(q: FullRankNormal | LowRankNormal, p: Independent) -> Tensor:
    """Return KL(q‖p) = −H(q) + ½ Σ_j [log 2πσ_j² + (E(z_j − m_j)²)/σ_j²], p = N(m, diag σ²)."""
    base = p.base_dist
    if not isinstance(base, Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    square = q.variance + (q.mean - base.loc) ** 2
    cross = (2 * math.pi * base.scale**2).log() + square / base.scale**2
    return cross.sum(-1) / 2 - q.entropy()
