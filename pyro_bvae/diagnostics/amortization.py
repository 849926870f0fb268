"""What a guide loses because one network serves all data, and what its family loses anyway."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.importance import log_mean
from pyro_bvae.diagnostics.likelihood import METHODS, log_evidence
from pyro_bvae.diagnostics.refinement import Refined
from pyro_bvae.diagnostics.target import Target, as_target
from pyro_bvae.types import PairLike

_COPIES = 16


@dataclass(frozen=True)
class AmortizationGap:
    """log p(x) − ELBO of every datum, in two parts. Nats; of a tempered target, its own.

    Attributes:
        guide: the ELBO of the guide `[data]`.
        refined: the ELBO of the refined guide, the best of its families for each datum `[data]`.
        log_evidence: the estimate of log p(x) `[data]`, from below on average.
        amortization: refined − guide `[data]`: what a better network could gain.
        approximation: log evidence − refined `[data]`: what only another family could.
        errors: standard errors `[data]`, by the name of the attribute.
        method: how the evidence was estimated.
        target: the density that the guide is held against.
    """

    guide: Tensor
    refined: Tensor
    log_evidence: Tensor
    amortization: Tensor
    approximation: Tensor
    errors: dict[str, Tensor]
    method: str
    target: Target

    def mean(self, name: str) -> tuple[float, float]:
        """Return the mean of an attribute over the data, and its standard error, nats."""
        errors = self.errors[name]
        return getattr(self, name).mean().item(), errors.norm().item() / len(errors)

    def table(self) -> pd.DataFrame:
        """Return the means over the data and their errors: a row for each attribute."""
        rows = {name: self.mean(name) for name in self.errors}
        return pd.DataFrame.from_dict(rows, orient="index", columns=["nats per datum", "error"])

    def __str__(self) -> str:
        return f"guide against {self.target}, {len(self.guide)} data, evidence {self.method}\n" + (
            self.table().to_string(float_format="%.4f")
        )


@torch.no_grad()
def amortization_gap(
    pair: PairLike,
    x: Any,
    *,
    num_samples: int = 1000,
    method: str = "importance",
    target: str = "model",
    beta: float | None = None,
    steps: int = 500,
    learning_rate: float = 0.02,
    batch_size: int = 1024,
    seed: int = 0,
    **annealing: Any,
) -> AmortizationGap:
    """Split log p(x) − ELBO into what amortisation costs and what the family of the guide costs.

    The refined guide of a datum is the guide with offsets of the datum's own, added to the
    unconstrained parameters of each distribution it draws from: to the numbers λ of an
    `AmortisedPosterior`; to means, log scales, logits of another. Where a distribution depends on
    other draws, as in an upper layer or given a class, they are added to what the network gives
    for these. What all data share stays: weights of networks and of a flow. So do points, such as
    known factors. The offsets are optimised from where the guide is; what that gains is the
    amortisation gap, what is left the approximation gap. Both ELBOs come from the same noise, so
    that their difference is sharper than either. Of a class the offsets learn only where it is
    drawn: one that the guide hardly draws takes more steps, or counts as approximation.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)`; tempered or not, it is read at β = 1.
        x: data, as `datasets.as_source` takes them.
        num_samples: draws for each ELBO of each datum, ≥ 2; for "importance" for the evidence too.
        method: the evidence from the refined guide's draws ("importance") or "annealed".
        target: "model", p(z|x), or "tempered", ∝ p(z) p(x|z)^{1/β}.
        beta: β > 0 of the tempered target.
        steps, learning_rate: of Adam, its rate falling to 0.
        batch_size: the most draws × data that go through the model at once.
        seed: of the draws; torch's own random state is left as it was.
        annealing: more for `log_evidence`, such as `temperatures`, `leapfrogs`.

    Raises:
        ValueError: a guide with a distribution that cannot be refined: one that is not made of
            tensor parameters its constructor takes, or whose parameters bound its draws (a
            `Uniform`): for these `log_evidence` less the ELBO is the gap as a whole; a guide
            without an ELBO: points alone (`Delta`), or a density where the model has classes (a
            relaxed one); another target or method; counts too small.
        TypeError: options of annealing for another method.

    References:
        Cremer, Li, Duvenaud (2018), Inference Suboptimality in Variational Autoencoders.
        Roeder, Wu, Duvenaud (2017), Sticking the Landing: Simple, Lower-Variance Gradient
        Estimators for Variational Inference.
        Kool, van Hoof, Welling (2019), Buy 4 REINFORCE Samples, Get a Baseline for Free!

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(torch.zeros(len(x)), 0.5**0.5))  # KL ¼
    >>> gap = amortization_gap((model, guide), torch.ones(2), num_samples=100)
    >>> [round(gap.mean(name)[0], 1) for name in ("amortization", "approximation")]
    [0.2, 0.0]
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {tuple(METHODS)}, got {method!r}")
    if check_count(num_samples, "num_samples") < 2:
        raise ValueError(f"num_samples: expected at least 2, got {num_samples}")
    if annealing and method != "annealed":
        raise TypeError(f"method: expected 'annealed' with {sorted(annealing)}, got {method!r}")
    check_count(steps, "steps")
    against = as_target(target, beta)
    sampler, parts = Sampler(pair, x, batch_size=batch_size), []
    with sampler.running(seed):
        for indices in torch.arange(len(sampler)).split(max(1, batch_size // _COPIES)):
            family = Refined(sampler, indices, _COPIES, against)
            best = family.optimise(steps=steps, learning_rate=learning_rate)
            parts.append([_weights(family, o, num_samples, seed) for o in (None, best)])
    guide, refined = (torch.cat(weights, 1).cpu() for weights in zip(*parts, strict=True))
    value, error = log_mean(refined)
    if method == "annealed":
        options: Any = {"target": target, "beta": beta, "batch_size": batch_size, "seed": seed}
        found = log_evidence(pair, x, method=method, **options, **annealing)
        value, error = found.values, found.errors
    return _split(guide, refined, value, error, method, against.given(sampler.layout.observed))


def _weights(family: Refined, offsets: list[Tensor] | None, num_samples: int, seed: int) -> Tensor:
    """Return log weights `[num_samples, data]`, of the same noise whatever the offsets."""
    torch.manual_seed(seed + 1)
    runs = -(-num_samples // family.copies)
    return torch.cat([family.log_weights(offsets) for _ in range(runs)])[:num_samples]


def _split(
    guide: Tensor, refined: Tensor, evidence: Tensor, error: Tensor, method: str, target: Target
) -> AmortizationGap:
    elbos = {"guide": guide, "refined": refined, "amortization": refined - guide}
    errors = {name: draws.std(0) / len(draws) ** 0.5 for name, draws in elbos.items()}
    means = {name: draws.mean(0) for name, draws in elbos.items()}
    errors["log_evidence"] = error
    errors["approximation"] = (errors["refined"].square() + error.square()).sqrt()
    return AmortizationGap(
        **means,
        log_evidence=evidence,
        approximation=evidence - means["refined"],
        errors=errors,
        method=method,
        target=target,
    )
