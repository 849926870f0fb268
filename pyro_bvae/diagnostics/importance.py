"""How well the guide serves as a proposal for the posterior, datum by datum."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.pareto import are_constant, smooth
from pyro_bvae.diagnostics.target import Target, as_target
from pyro_bvae.diagnostics.weights import log_weights
from pyro_bvae.types import PairLike

GOOD, USABLE = 0.5, 0.7
"""Below the first k̂ the variance of the weights is finite; above the second they are useless."""
VERDICTS = ("exact", "good", "usable", "bad")


@dataclass(frozen=True)
class Importance:
    """What importance weights w = p(z) p(x|z)^{1/β} / q(z|x) say of the guide, for every datum.

    Attributes:
        k: the Pareto shape k̂ of the largest weights `[data]`, NaN where they are constant.
        exact: where they are: the guide is the target, `[data]`.
        effective: the effective sample size of the smoothed weights `[data]`, of `num_samples`.
        log_evidence: log of the mean weight `[data]`, nats: log p̂(x), or of a tempered target
            log ∫ p(z) p(x|z)^{1/β} dz.
        error: its standard error `[data]`, nats; worthless where k̂ > 0.7.
        target: the density that the guide is held against.
        num_samples: draws for each datum.
    """

    k: Tensor
    exact: Tensor
    effective: Tensor
    log_evidence: Tensor
    error: Tensor
    target: Target
    num_samples: int

    def worst(self, count: int | None = None) -> Tensor:
        """Return the indices of the data with the largest k̂, the worst first, exact ones last."""
        order = torch.where(self.exact, -torch.inf, self.k).argsort(descending=True, stable=True)
        return order[:count]

    def table(self) -> pd.DataFrame:
        """Return a row for every datum: "k", "verdict", "effective", "log_evidence", "error"."""
        columns = ("k", "effective", "log_evidence", "error")
        table = pd.DataFrame({name: getattr(self, name).numpy() for name in columns})
        table.insert(1, "verdict", self.verdicts())
        return table.rename_axis("datum")

    def verdicts(self) -> list[str]:
        """Return "exact", "good" (k̂ < 0.5), "usable" (< 0.7) or "bad" for every datum."""
        level = (self.k >= GOOD).long() + (self.k >= USABLE).long() + 1
        return [VERDICTS[0 if e else int(i)] for e, i in zip(self.exact, level, strict=True)]

    def __str__(self) -> str:
        found = self.verdicts()
        counts = ", ".join(f"{found.count(word)} {word}" for word in VERDICTS if word in found)
        return (
            f"guide against {self.target}, {self.num_samples} draws for each of {len(found)} "
            f"data: {counts}; mean log evidence {self.log_evidence.mean():.4g} nats"
        )


def importance(
    pair: PairLike,
    x: Any,
    *,
    num_samples: int = 1000,
    target: str = "model",
    beta: float | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> Importance:
    """Weigh draws from the guide by target over guide: Pareto k̂, effective sample size, log p̂(x).

    k̂ < 0.5: the guide covers the target. k̂ < 0.7: its draws can be reweighted. Above: the target
    has mass where the guide hardly goes, and the ELBO does not tell. Latents that are no datum's
    own, such as a prior's σ, are held at the medians of what the guide draws for them.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)`; tempered or not, it is read at β = 1.
        x: data, as `datasets.as_source` takes them.
        num_samples: draws from the guide for each datum, ≥ 25.
        target: "model", p(z|x), or "tempered", ∝ p(z) p(x|z)^{1/β}.
        beta: β > 0 of the tempered target.
        batch_size: the most draws × data that go through the pair at once.
        seed: of the draws; torch's own random state is left as it was.

    Raises:
        ValueError: another target, fewer than 25 draws, or a pair without a plate of the data.

    References:
        Yao, Vehtari, Simpson, Gelman (2018), Yes, but Did It Work?: Evaluating Variational
        Inference.
        Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto Smoothed Importance Sampling.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
    >>> found = importance((model, guide), torch.zeros(2))
    >>> found.verdicts(), found.log_evidence
    (['exact', 'exact'], tensor([-1.2655, -1.2655], dtype=torch.float64))
    """
    against = as_target(target, beta)
    if check_count(num_samples, "num_samples") < 25:
        raise ValueError(f"num_samples: expected at least 25, got {num_samples}")
    sampler = Sampler(pair, x, batch_size=batch_size)
    weights = log_weights(sampler, num_samples, against, seed=seed).cpu()
    return weigh(weights, against.given(sampler.layout.observed))


def weigh(weights: Tensor, target: Target) -> Importance:
    """Summarise log weights `[draws, data]`, as `importance` does for a pair's."""
    smoothed = smooth(weights)
    value, error = log_mean(weights)
    return Importance(
        k=smoothed.k,
        exact=are_constant(weights),
        effective=1 / (2 * smoothed.log_weights).exp().sum(0),
        log_evidence=value,
        error=error,
        target=target,
        num_samples=len(weights),
    )


def log_mean(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return log (1/K) Σ_k w_k of `[draws, data]` and its standard error, both `[data]`, nats.

    The error is the weights' relative standard deviation over √K, to first order.
    """
    draws, values = len(log_weights), log_weights.double()
    mean = values.logsumexp(0) - math.log(draws)
    if draws == 1:
        return mean, torch.full_like(mean, torch.nan)
    relative = (values - mean).exp().std(0)
    return mean, relative / draws**0.5
