"""log p(x) of each datum: by importance sampling, by annealing, and bracketed from both sides."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.diagnostics.annealing import TUNING_CHAINS, anneal, ladder, tuned_steps
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.importance import log_mean
from pyro_bvae.diagnostics.joint import LogJoint
from pyro_bvae.diagnostics.target import Target, as_target
from pyro_bvae.diagnostics.weights import log_weights
from pyro_bvae.types import PairLike

METHODS = {"importance": 1000, "annealed": 16}
"""The methods, and how many draws or chains each takes by default."""


@dataclass(frozen=True)
class LogEvidence:
    """An estimate of log p(x), from below on average, for every datum.

    Attributes:
        values: `[data]`, nats.
        errors: their standard errors from the spread of the weights `[data]`, nats.
        method: "importance" or "annealed".
        target: the density whose normaliser is estimated; p(z|x) has p(x).
    """

    values: Tensor
    errors: Tensor
    method: str
    target: Target

    @property
    def mean(self) -> float:
        """The mean over the data, nats per datum."""
        return self.values.mean().item()

    @property
    def mean_error(self) -> float:
        """The standard error of that mean as an estimate for these data, nats."""
        return (self.errors.square().sum().sqrt() / len(self.errors)).item()

    def __str__(self) -> str:
        return (
            f"log evidence, {self.method}, {self.target}: {self.mean:.4f} ± {self.mean_error:.4f} "
            f"nats per datum, {len(self.values)} data"
        )


@dataclass(frozen=True)
class Sandwich:
    """Bounds on log p(x*) of simulated data x*, which hold on average.

    Attributes:
        lower, upper: `[data]`, nats; annealed from the prior, and from the z* that made x*.
        x: the simulated data, as the arguments of the pair.
    """

    lower: Tensor
    upper: Tensor
    x: tuple[Tensor, ...]

    @property
    def gap(self) -> float:
        """The mean of upper − lower, nats: how far off annealing is, and where, no further."""
        return (self.upper - self.lower).mean().item()

    def __str__(self) -> str:
        return (
            f"log p(x) of {len(self.lower)} simulated data: {self.lower.mean():.4f} to "
            f"{self.upper.mean():.4f} nats per datum, {self.gap:.4f} apart"
        )


@torch.no_grad()
def log_evidence(
    pair: PairLike,
    x: Any,
    *,
    method: str = "importance",
    num_samples: int | None = None,
    target: str = "model",
    beta: float | None = None,
    temperatures: int = 200,
    leapfrogs: int = 10,
    batch_size: int = 256,
    seed: int = 0,
) -> LogEvidence:
    """Estimate log p(x) = log ∫ p(z) p(x|z) dz of each datum.

    "importance": log of the mean of K weights p(z, x)/q(z|x); cheap, and as good as the guide,
    since a guide that misses a part of the posterior misses its mass. "annealed": chains go from
    the prior to the posterior through p(z) p(x|z)^t by Hamiltonian steps whose sizes are tuned in
    a run before; dearer, and independent of the guide. Both are below log p(x) on average.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)`; tempered or not, it is read at β = 1.
        x: data, as `datasets.as_source` takes them.
        method: "importance" or "annealed".
        num_samples: draws K (1000), or chains (16), for each datum.
        target: "model", or "tempered" for log ∫ p(z) p(x|z)^{1/β} dz.
        beta: β > 0 of the tempered target.
        temperatures: values of t, ≥ 3 ("annealed").
        leapfrogs: steps between two of them ("annealed").
        batch_size: the most draws × data that go through the pair at once; the chains of one datum
            always do together.
        seed: of the draws; torch's own random state is left as it was.

    Raises:
        ValueError: another method or target, counts too small, no continuous latent, or discrete
            ones of more than 256 values together ("annealed"), or a pair without a plate of the
            data.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance Weighted Autoencoders.
        Neal (2001), Annealed Importance Sampling.
        Wu, Burda, Salakhutdinov, Grosse (2017), On the Quantitative Analysis of Decoder-Based
        Generative Models.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 1.0))
    >>> exact = dist.Normal(0.0, 2**0.5).log_prob(torch.tensor(1.0))
    >>> found = log_evidence((model, guide), torch.ones(1), method="annealed", temperatures=20)
    >>> bool((found.values - exact).abs() < 0.2)
    True
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {tuple(METHODS)}, got {method!r}")
    against = as_target(target, beta)
    draws = METHODS[method] if num_samples is None else check_count(num_samples, "num_samples")
    if method == "importance":
        sampler = Sampler(pair, x, batch_size=batch_size)
        weights = log_weights(sampler, draws, against, seed=seed).cpu()
        return LogEvidence(*log_mean(weights), method, against.given(sampler.layout.observed))
    powers = _powers(temperatures, against)
    check_count(leapfrogs, "leapfrogs")
    sampler = Sampler(pair, x, batch_size=batch_size)
    parts = []
    with sampler.running(seed):
        for indices in _split(len(sampler), draws, batch_size):
            steps = tuned_steps(sampler, indices, powers, leapfrogs)
            joint = LogJoint(sampler, indices, draws)
            parts.append(anneal(joint, joint.prior(), powers, steps, leapfrogs=leapfrogs))
    weights = torch.cat(parts, 1).cpu()
    return LogEvidence(*log_mean(weights), method, against.given(sampler.layout.observed))


@torch.no_grad()
def evidence_sandwich(
    pair: PairLike,
    x: Any,
    *,
    num_samples: int = METHODS["annealed"],
    temperatures: int = 200,
    leapfrogs: int = 10,
    batch_size: int = 256,
    seed: int = 0,
) -> Sandwich:
    """Bracket log p(x*) of data x* that the model simulates, to see how good annealing is.

    One draw (z*, x*) from the model for each datum of `x`, which only lends its shape: z* is an
    exact draw from p(z|x*). Chains from the prior to the posterior bound log p(x*) from below;
    chains from z* back to the prior bound it from above. The better annealing works, the closer
    the two.

    Args: as `log_evidence`; always of the model itself, as z* is no draw from a tempered target.

    Raises:
        ValueError: as `log_evidence`; a model that does not observe its arguments as they are.

    References:
        Grosse, Ghahramani, Adams (2015), Sandwiching the Marginal Likelihood Using Bidirectional
        Monte Carlo.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 1.0))
    >>> found = evidence_sandwich((model, guide), torch.zeros(16), temperatures=20)
    >>> abs(found.gap) < 0.1
    True
    """
    chains = check_count(num_samples, "num_samples")
    powers = _powers(temperatures, Target())
    check_count(leapfrogs, "leapfrogs")
    template = Sampler(pair, x, batch_size=batch_size)
    with template.running(seed):
        drawn = [template.simulate(i) for i in torch.arange(len(template)).split(batch_size)]
    data = tuple(torch.cat(parts) for parts in zip(*(args for _, args in drawn), strict=True))
    latents = {n: torch.cat([z[n] for z, _ in drawn]) for n in drawn[0][0]}
    sampler = Sampler(pair, data if len(data) > 1 else data[0], batch_size=batch_size)
    sampler.shared = template.shared
    bounds = []
    with sampler.running(seed + 1):
        for indices in _split(len(sampler), chains, batch_size):
            steps = tuned_steps(sampler, indices, powers, leapfrogs)
            joint = LogJoint(sampler, indices, chains)
            there = anneal(joint, joint.prior(), powers, steps, leapfrogs=leapfrogs)
            u = joint.flat({n: joint.copied(v[indices]) for n, v in latents.items()})
            back = anneal(joint, u, powers.flip(0), steps.flip(0), leapfrogs=leapfrogs)
            bounds.append((log_mean(there)[0], -log_mean(back)[0]))
    lower, upper = (torch.cat(parts).cpu() for parts in zip(*bounds, strict=True))
    return Sandwich(lower, upper, data)


def _powers(temperatures: int, target: Target) -> Tensor:
    if check_count(temperatures, "temperatures") < 3:
        raise ValueError(f"temperatures: expected at least 3, got {temperatures}")
    return ladder(temperatures, target.power)


def _split(data: int, chains: int, batch_size: int) -> Iterator[Tensor]:
    yield from torch.arange(data).split(max(1, batch_size // max(chains, TUNING_CHAINS)))
