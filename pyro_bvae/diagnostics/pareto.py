"""The tail of importance weights: Pareto smoothing, for many data at once."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_PRIOR_STRENGTH, _PRIOR_SHAPE = 10, 0.5
_AT_ONCE = 256
EXACT_BELOW = 1e-6
"""The standard deviation of log weights, in nats, below which they are constant."""


class Smoothed(NamedTuple):
    """`k` `[data]`, NaN where the weights are constant, and log weights `[draws, data]`.

    The weights are smoothed and sum to one for every datum.
    """

    k: Tensor
    log_weights: Tensor


def smooth(log_weights: Tensor) -> Smoothed:
    """Fit a generalised Pareto distribution to the largest weights and put its quantiles there.

    The tail is the min(S/5, 3√S) largest of S weights. Its shape k says how many moments the
    weights have, 1/k: below ½ the variance is finite; above .7 no estimate from them is to be
    trusted; constant weights have no tail.

    Args:
        log_weights: `[draws, data]`, nats, unnormalised.

    Raises:
        ValueError: fewer than 25 draws, which leave too few in the tail, or weights not finite.

    References:
        Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto Smoothed Importance Sampling.
        Zhang, Stephens (2009), A New and Efficient Estimation Method for the Generalized Pareto
        Distribution.

    >>> torch.manual_seed(0) and None
    >>> pareto = -0.5 * torch.rand(10_000, 1).log()  # the logarithm of weights with k = ½
    >>> round(smooth(pareto).k.item(), 1)
    0.5
    """
    if log_weights.dim() != 2 or len(log_weights) < 25 or not torch.isfinite(log_weights).all():
        raise ValueError(
            "log_weights: expected finite numbers [draws, data] of at least 25 draws, got shape "
            f"{list(log_weights.shape)}"
        )
    parts = [_smooth(part) for part in log_weights.split(_AT_ONCE, 1)]
    return Smoothed(torch.cat([k for k, _ in parts]), torch.cat([w for _, w in parts], 1))


def are_constant(log_weights: Tensor) -> Tensor:
    """Whether the weights `[draws, data]` of each datum are all the same, up to rounding."""
    rounding = 4 * torch.finfo(log_weights.dtype).eps * log_weights.abs().amax(0)
    return log_weights.std(0) < rounding.clamp(min=EXACT_BELOW)


def _smooth(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    constant = are_constant(log_weights)
    draws = len(log_weights)
    tail = math.ceil(min(draws / 5, 3 * draws**0.5))
    scaled = (log_weights - log_weights.amax(0)).double()
    largest, places = scaled.topk(tail + 1, dim=0)
    cutoff = largest[-1].clamp(min=math.log(torch.finfo(torch.float64).tiny)).exp()
    exceedances = (largest[:-1].exp() - cutoff).flip(0).clamp(min=0)
    k, sigma = fit_tail(exceedances)
    good = torch.isfinite(k) & ~constant
    ranks = (torch.arange(tail, dtype=torch.float64, device=k.device) + 0.5) / tail
    quantiles = sigma * torch.expm1(-k * torch.log1p(-ranks)[:, None]) / k
    smoothed = (quantiles + cutoff).log().clamp(max=0).flip(0)
    smoothed = torch.where(good, smoothed, largest[:-1])
    result = scaled.scatter(0, places[:-1], smoothed)
    k = torch.where(constant, torch.nan, torch.where(torch.isfinite(k), k, torch.inf))
    return k, result - result.logsumexp(0)


def fit_tail(exceedances: Tensor) -> tuple[Tensor, Tensor]:
    """Return shape k and scale σ `[data]` of generalised Pareto tails `[n, data]`, rising.

    The posterior mean of Zhang and Stephens, drawn towards k = ½ as by ten observations.
    """
    n = len(exceedances)
    grid = 30 + int(n**0.5)
    steps = torch.arange(1, grid + 1, dtype=torch.float64, device=exceedances.device)
    quartile, largest = exceedances[int(n / 4 + 0.5) - 1], exceedances[-1]
    theta = (1 - (grid / (steps - 0.5)).sqrt())[:, None] / (3 * quartile) + 1 / largest
    shape = torch.log1p(-theta[:, None] * exceedances).mean(1)
    likelihood = n * ((-theta / shape).log() - shape - 1)
    weights = likelihood.softmax(0)
    mean = (weights * theta).sum(0)
    k = torch.log1p(-mean * exceedances).mean(0)
    sigma = -k / mean
    k = (n * k + _PRIOR_STRENGTH * _PRIOR_SHAPE) / (n + _PRIOR_STRENGTH)
    return k, sigma
