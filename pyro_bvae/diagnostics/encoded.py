"""What a guide says of a batch: its codes, their densities under every datum, and the prior's."""

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple, cast

import torch
from pyro.distributions import (
    Delta,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
)
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_bvae.checks import check_count
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.layout import Layout, log_prob, site_log_prob
from pyro_bvae.diagnostics.traces import Traces, run
from pyro_bvae.models.partly_known import PartlyKnown

_LARGEST = 2**25
_BATCHES = 4
_DRAWS = 500


class Encoded(NamedTuple):
    """One draw z ~ q(z|x) for every datum of a batch, and what guide and model say of it.

    Attributes:
        z: `[batch, latents]`.
        prior_draws: as many draws of the prior, `[batch, latents]`.
        mean, variance: of q(z|x), `[batch, latents]`.
        prior_mean, prior_variance: of p(z), `[batch, latents]`.
        kl: KL(q(z_j|x)‖p(z_j)) of each latent by itself, `[batch, latents]`, nats; log q − log p
            at the draw where p may depend on what the guide draws from z.
        joint: log q(z_i|x_k) `[batch i, batch k]`.
        pairs: log q(z_ij|x_k) of each latent `[batch i, batch k, latents]`.
        log_prior: log p(z) `[batch]`; log_priors: log p(z_j) of each latent `[batch, latents]`.
        others: log q − log p of all other latents of each datum `[batch]`; 0 where none is.
        log_likelihood: log p(x|z) `[batch]`.
        exact: whether the densities of single latents are known; else normals of their moments
            stand for them.
    """

    z: Tensor
    prior_draws: Tensor
    mean: Tensor
    variance: Tensor
    prior_mean: Tensor
    prior_variance: Tensor
    kl: Tensor
    joint: Tensor
    pairs: Tensor
    log_prior: Tensor
    log_priors: Tensor
    others: Tensor
    log_likelihood: Tensor
    exact: bool


def encoded_batches(
    sampler: Sampler, *, batch_size: int, seed: int, site: str | None = None
) -> Iterator[Encoded]:
    """Yield what the guide says of all data, in at least 4 batches of random data, equally large.

    At most `batch_size` data are in one, fewer where latents are many, so that memory is bounded;
    up to a batch's worth of data is left out so that the batches are equally large.

    Raises: ValueError as `code_site`, and if there are fewer than 8 data or fewer than 2 in a
        batch.
    """
    name, total = code_site(sampler.layout, site), len(sampler)
    if check_count(batch_size, "batch_size") < 2:
        raise ValueError("batch_size: expected at least 2, of which each is held against others")
    if total < 2 * _BATCHES:
        raise ValueError(f"x: expected at least {2 * _BATCHES} data, got {total}")
    latents = math.prod(sampler.layout.local[name])
    largest = min(batch_size, math.isqrt(_LARGEST // latents))
    size = max(2, total // max(_BATCHES, math.ceil(total / largest)))
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    for indices in order[: total // size * size].split(size):
        yield encode(sampler, indices, name)


def code_site(layout: Layout, site: str | None) -> str:
    """Return the latent site that is looked at: `site`, else the only one, or of several "z".

    Raises: ValueError if there is none of that name, several of other names, or it is discrete.
    """
    local = sorted(layout.local)
    if site is None and len(local) > 1 and "z" not in local:
        raise ValueError(
            f"site: expected the name of one of the latent sites {local} in the plate of the data, "
            f"as this is about the distribution of one code; pass site={local[0]!r}, say"
        )
    name = site or (local[0] if len(local) == 1 else "z")
    if name not in local:
        raise ValueError(
            f"site: no latent site in the plate of the data is named {name!r}; there are {local}"
        )
    if name in layout.discrete:
        raise ValueError(
            f"site: expected a continuous latent site, got {name!r}, which is discrete; there are "
            f"{sorted(layout.continuous)}"
        )
    return name


def encode(sampler: Sampler, indices: Tensor, name: str) -> Encoded:
    """Draw a code for each of the data at `indices`, and read all that `Encoded` holds of it."""
    args, layout, batch = sampler.arguments(indices), sampler.layout, len(indices)
    traces = run(sampler.pair, args, values=sampler.shared)
    guide, model, _ = traces
    drawn, stated = cast(Any, guide.nodes[name]), cast(Any, model.nodes[name])
    q, p, value = drawn["fn"], stated["fn"], drawn["value"]
    if q.event_dim > 1 or value.dim() > 2 or len(value) != batch:
        raise ValueError(
            f"guide: expected site {name!r} to draw codes of shape [batch, latents] in one plate, "
            f"got {list(value.shape)}"
        )
    if isinstance(q.base_dist if isinstance(q, Independent) else q, Delta | PartlyKnown):
        raise ValueError(
            f"guide: expected a density at site {name!r}, got {q}, which puts codes at points; "
            "give the data without what is known of this latent"
        )
    z = value.reshape(batch, -1)
    (q_marginal, q_exact), (p_marginal, p_exact) = marginals(q), marginals(p)
    joint, pairs = _pairs(q, q_marginal, value)
    return Encoded(
        z=z,
        prior_draws=p.sample().reshape(z.shape),
        mean=q_marginal.mean.expand(value.shape).reshape(z.shape),
        variance=q_marginal.variance.expand(value.shape).reshape(z.shape),
        prior_mean=p_marginal.mean.expand(value.shape).reshape(z.shape),
        prior_variance=p_marginal.variance.expand(value.shape).reshape(z.shape),
        kl=_kl(q_marginal, p_marginal, value, exact=_same_order(traces, layout)).reshape(z.shape),
        joint=joint,
        pairs=pairs.reshape(batch, batch, -1),
        log_prior=site_log_prob(name, stated, layout, batch, 1)[0],
        log_priors=p_marginal.log_prob(value).reshape(z.shape),
        others=_others(traces, layout, batch, name),
        log_likelihood=log_prob(model, layout, batch, observed=True, draws=1)[0],
        exact=q_exact and p_exact,
    )


def marginals(fn: Any) -> tuple[Any, bool]:
    """Return the distributions of the single latents of `fn`, and whether they are exact.

    They are known of independent latents and of normals; else they are normals of the same
    moments, which for a normal prior makes the KL of a latent too small, if anything.

    >>> normal = MultivariateNormal(torch.zeros(2), torch.tensor([[4.0, 1.0], [1.0, 1.0]]))
    >>> marginals(normal)[0].scale
    tensor([2., 1.])
    """
    if fn.event_dim == 0:
        return fn, True
    if isinstance(fn, Independent) and fn.event_dim == 1 and not fn.base_dist.event_dim:
        return fn.base_dist, True
    if isinstance(fn, MultivariateNormal | LowRankMultivariateNormal):
        return Normal(fn.mean, fn.variance.sqrt()), True
    try:
        mean, variance = fn.mean, fn.variance
    except NotImplementedError:
        draws = fn.sample(torch.Size([_DRAWS]))
        mean, variance = draws.mean(0), draws.var(0)
    return Normal(mean, variance.sqrt()), False


def _pairs(q: Any, marginal: Any, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return log q(z_i|x_k) `[i, k]`, and of each latent `[i, k, ...]`."""
    if value.dim() == 1:
        pairs = q.log_prob(value[:, None])
        return pairs, pairs
    pairs = marginal.log_prob(value[:, None])
    if q.event_dim == 0 or isinstance(q, Independent):
        return pairs.sum(-1), pairs
    return q.log_prob(value[:, None].expand(-1, len(value), -1)), pairs


def _others(traces: Traces, layout: Layout, batch: int, name: str) -> Tensor:
    """Return log q − log p of all latents of a datum but one, `[batch]`."""
    signs, total = zip(traces[:2], (1.0, -1.0), strict=True), torch.zeros(batch)
    for trace, sign in signs:
        for other in layout.local.keys() - {name}:
            part = site_log_prob(other, trace.nodes[other], layout, batch, 1)[0]
            total = total.to(part.device) + sign * part
    return total


def _same_order(traces: Traces, layout: Layout) -> bool:
    """Whether guide and model draw their sites in one order, so that no p depends on a later q."""
    guide, model = ([n for n in trace.nodes if n in layout.local] for trace in traces[:2])
    return guide == model


def _kl(q: Any, p: Any, value: Tensor, *, exact: bool) -> Tensor:
    if exact:
        with suppress(NotImplementedError):
            return kl_divergence(q, p)
    return q.log_prob(value) - p.log_prob(value)
