"""Importance weights of draws from the guide."""

import torch
from torch import Tensor

from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.target import Target


@torch.no_grad()
def log_weights(
    sampler: Sampler, num_samples: int, target: Target | None = None, *, seed: int = 0
) -> Tensor:
    """Return log p(z) + (1/β) log p(x|z) − log q(z|x) of draws from the guide, `[draws, data]`.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
    >>> log_weights(Sampler((model, guide), torch.zeros(1)), num_samples=2)
    tensor([[-1.2655],
            [-1.2655]])
    """
    columns: dict[int, list[Tensor]] = {}
    with sampler.running(seed):
        for indices, draws in sampler.parts(num_samples):
            weights = draws.log_weights(target or Target())
            columns.setdefault(int(indices[0]), []).append(weights)
    return torch.cat([torch.cat(parts) for parts in columns.values()], 1)
