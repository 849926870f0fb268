"""Draws from a guide and what model and guide say of each, read off their traces."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pyro_bvae.diagnostics.layout import (
    Layout,
    latent_values,
    log_prob,
    predicted_values,
    shared_values,
)
from pyro_bvae.diagnostics.target import Target
from pyro_bvae.diagnostics.traces import Traces


@dataclass(frozen=True)
class Draws:
    """Latents drawn from the guide, and what model and guide say of them, at β = 1.

    Attributes:
        latents: of every latent site in the plate of the data, `[draws, batch, *shape]`.
        shared: of every other latent site, such as a prior's σ, `[draws, *shape]`.
        log_prior, log_likelihood, log_guide: log p(z), log p(x|z) and log q(z|x) of the former,
            given the latter, `[draws, batch]`, nats.
        predicted: of every observed site, what the model draws there, `[draws, batch, *shape]`;
            empty unless asked for.
    """

    latents: dict[str, Tensor]
    shared: dict[str, Tensor]
    log_prior: Tensor
    log_likelihood: Tensor
    log_guide: Tensor
    predicted: dict[str, Tensor] = field(default_factory=dict)

    def log_weights(self, target: Target) -> Tensor:
        """Return log p(z) + (1/β) log p(x|z) − log q(z|x), `[draws, batch]`, nats."""
        return self.log_prior + target.power * self.log_likelihood - self.log_guide


def concatenated(parts: list[Draws], dim: int) -> Draws:
    """Join draws of the same data (`dim=0`), or of other data (`dim=1`)."""
    first = parts[0]
    shared = {n: torch.cat([p.shared[n] for p in parts]) for n in first.shared}
    return Draws(
        latents={n: torch.cat([p.latents[n] for p in parts], dim) for n in first.latents},
        shared=first.shared if dim else shared,
        log_prior=torch.cat([p.log_prior for p in parts], dim),
        log_likelihood=torch.cat([p.log_likelihood for p in parts], dim),
        log_guide=torch.cat([p.log_guide for p in parts], dim),
        predicted={n: torch.cat([p.predicted[n] for p in parts], dim) for n in first.predicted},
    )


def scored(traces: Traces, layout: Layout, batch: int, draws: int) -> Draws:
    """Read draws and their log-probabilities off the traces of one run on `batch` data."""
    guide, model, free = traces
    return Draws(
        latents=latent_values(guide, layout, batch, draws),
        shared=shared_values(guide, layout, draws),
        log_prior=log_prob(model, layout, batch, observed=False, draws=draws),
        log_likelihood=log_prob(model, layout, batch, observed=True, draws=draws),
        log_guide=log_prob(guide, layout, batch, observed=None, draws=draws),
        predicted=predicted_values(free, layout, draws) if free is not None else {},
    )
