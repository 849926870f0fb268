"""The importance-weighted bound on log p(x), of the pair as it is, at β = 1."""

from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.diagnostics import log_evidence
from pyro_bvae.types import PairLike


def importance_bound(pair: PairLike, x: Tensor, *, num_particles: int, seed: int = 0) -> Tensor:
    """Return L_K of each datum: a bound on log p(x) that rises with K, `[batch]`, nats.

    L_K = log (1/K) Σ_k p(x, z_k)/q(z_k|x), z_k ~ q(z|x): the values of `log_evidence` by
    importance. At K = 1 it is one draw of the ELBO; its mean over draws tends to log p(x), with K
    as slowly as q is far from the posterior. β plays no part: a tempered pair is read untempered.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)` of one argument, its latents in a plate of
            the data; latents outside it are held at the medians of what the guide draws for them.
        x: `[batch, *shape]`.
        num_particles: K ≥ 1.
        seed: of the draws; torch's own random state is left as it was.

    Raises:
        ValueError: K < 1, or a pair without a plate of the data.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance Weighted Autoencoders.

    >>> import torch
    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def posterior(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
    >>> importance_bound((model, posterior), torch.zeros(2), num_particles=3)
    tensor([-1.2655, -1.2655], dtype=torch.float64)
    """
    check_count(num_particles, "num_particles")
    return log_evidence(pair, x, num_samples=num_particles, seed=seed).values
