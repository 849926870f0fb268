"""The importance-weighted bound on log p(x), of the pair as it is, at β = 1."""

import math
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_bvae.beta import untempered
from pyro_bvae.types import PairLike, as_pair


@torch.no_grad()
def importance_bound(pair: PairLike, x: Tensor, *, num_particles: int, seed: int = 0) -> Tensor:
    """Return L_K of each datum: a bound on log p(x) that rises with K, `[batch]`, nats.

    L_K = log (1/K) Σ_k p(x, z_k)/q(z_k|x), z_k ~ q(z|x). At K = 1 it is one draw of the ELBO; its
    mean over draws tends to log p(x), with K as slowly as q is far from the posterior. β plays no
    part: a tempered pair is read untempered.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)` of one argument, all sites in one plate.
        x: `[batch, *shape]`.
        num_particles: K ≥ 1.
        seed: of the draws; torch's own random state is left as it was.

    Raises:
        ValueError: K < 1, or a site that has not one log-probability per datum.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance Weighted Autoencoders.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def posterior(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
    >>> importance_bound((model, posterior), torch.zeros(2), num_particles=3)
    tensor([-1.2655, -1.2655])
    """
    if isinstance(num_particles, bool) or not isinstance(num_particles, int) or num_particles < 1:
        raise ValueError(f"num_particles: expected a whole number >= 1, got {num_particles!r}")
    model, guide = as_pair(pair)
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []), untempered():
        torch.manual_seed(seed)
        weights = []
        for _ in range(num_particles):
            drawn = poutine.trace(guide).get_trace(x)
            joint = poutine.trace(poutine.replay(model, trace=drawn)).get_trace(x)
            weights.append(_log_probability(joint, len(x)) - _log_probability(drawn, len(x)))
    return torch.stack(weights).logsumexp(0) - math.log(num_particles)


def _log_probability(trace: Any, batch: int) -> Tensor:
    """Return the sum of the log-probabilities of all sites, per datum `[batch]`."""
    trace.compute_log_prob(lambda _, site: not poutine.util.site_is_subsample(site))
    found = {name: site["log_prob"] for name, site in trace.nodes.items() if "log_prob" in site}
    for name, value in found.items():
        if value.shape != (batch,):
            raise ValueError(
                f"pair: expected site {name!r} to have a log-probability for each of the {batch} "
                f"data, got shape {list(value.shape)}; global sites have no importance bound"
            )
    return torch.stack(list(found.values())).sum(0)
