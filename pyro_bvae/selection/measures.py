"""What a study measures of one trained pair."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from pyro_bvae.likelihoods.optimal import OptimalScale
from pyro_bvae.metrics import mig, r2_matrix
from pyro_bvae.scale import Scale
from pyro_bvae.selection.importance import importance_bound
from pyro_bvae.training import evaluate
from pyro_bvae.types import PairLike, as_pair

ACTIVE_ABOVE = 0.01
"""From how many nats of KL on a latent counts as active."""

_BATCH = 256


def measure(
    pair: PairLike, x: Tensor, *, factors: Mapping[str, Any], num_particles: int
) -> dict[str, Any]:
    """Measure a pair with one local latent site "z" on x: numbers, and lists `[latents]`.

    Numbers, in nats per datum: "elbo", "reconstruction" and "kl" at β = 1; "importance_bound", the
    mean of L_K; "active", how many latents have more than 0.01 nats; "likelihood_scale_after",
    σ_x as it is now, NaN if there is none; "r2.FACTOR", the R² of the best single active latent;
    "mig", the mutual information gap over the factors that are classes, where there are any.

    Lists, one entry per latent: "latent", its index; "kl_per_latent"; "posterior_variance", the
    mean of q's variance; "posterior_mean_square", the mean of its squared mean; "aggregate_mean"
    and "aggregate_variance" of the mixture of all q; "prior_scale_after", σ_z as it is now.

    Raises:
        ValueError: x is not a tensor of data, the guide has no site "z", or factors do not fit.
    """
    values = evaluate(pair, x, batch_size=_BATCH)
    mean, variance = (moment.double() for moment in posterior_moments(pair, x))
    kl = np.asarray(values["kl_per_latent.z"], dtype=float)
    bound = importance_bound(pair, x, num_particles=num_particles)
    scales = [_scale(pair, "prior"), _scale(pair, "likelihood")]
    return {
        **{name: float(values[name]) for name in ("elbo", "reconstruction", "kl")},
        "importance_bound": bound.mean().item(),
        "active": int((kl > ACTIVE_ABOVE).sum()),
        "likelihood_scale_after": scales[1].square().mean().sqrt().item(),
        **_best_r2(mean[:, torch.as_tensor(kl > ACTIVE_ABOVE)], factors),
        **_mig(mean, factors),
        "latent": list(range(len(kl))),
        "kl_per_latent": kl.tolist(),
        "posterior_variance": variance.mean(0).tolist(),
        "posterior_mean_square": mean.square().mean(0).tolist(),
        "aggregate_mean": mean.mean(0).tolist(),
        "aggregate_variance": (variance.mean(0) + mean.var(0, correction=0)).tolist(),
        "prior_scale_after": scales[0].expand(len(kl)).tolist(),
    }


@torch.no_grad()
def posterior_moments(pair: PairLike, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of q(z|x), each `[batch, latents]`.

    Raises:
        ValueError: the guide has no site "z".
    """
    guide = as_pair(pair).guide
    moments = []
    for part in x.split(_BATCH):
        sites = poutine.trace(guide).get_trace(part).nodes
        if "z" not in sites:
            raise ValueError(f"pair: expected a latent site 'z' in the guide, got {list(sites)}")
        posterior: Any = sites["z"]["fn"]
        moments.append((posterior.mean, posterior.variance))
    means, variances = zip(*moments, strict=True)
    return torch.cat(means), torch.cat(variances)


@torch.no_grad()
def _scale(pair: PairLike, part: str) -> Tensor:
    """Return the σ of a VAE's prior or likelihood, NaN where it has none of its own."""
    scale = getattr(getattr(pair, part, None), "scale", None)
    if isinstance(scale, Scale | OptimalScale):
        return scale().detach().double().cpu()
    return torch.tensor(float("nan"), dtype=torch.float64)


def _best_r2(codes: Tensor, factors: Mapping[str, Any]) -> dict[str, float]:
    if not factors:
        return {}
    columns = np.stack([np.asarray(values, dtype=float) for values in factors.values()], axis=1)
    if codes.shape[1] == 0:
        return {f"r2.{name}": 0.0 for name in factors}
    best = r2_matrix(codes.cpu().numpy(), columns).max(0)
    return {f"r2.{name}": float(value) for name, value in zip(factors, best, strict=True)}


def _mig(codes: Tensor, factors: Mapping[str, Any]) -> dict[str, float]:
    columns = [np.asarray(values) for values in factors.values()]
    classes = [c for c in columns if np.array_equal(c, np.round(c)) and np.ptp(c) > 0]
    if not classes or codes.shape[1] < 2:
        return {}
    return {"mig": mig(codes.cpu().numpy(), np.stack(classes, axis=1)).score}
