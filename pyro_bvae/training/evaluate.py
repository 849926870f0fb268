"""What a pair is worth on data: the ELBO at β = 1 and its parts, per datum."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_bvae.beta import Beta, SiteBetas, tempered
from pyro_bvae.checks import check_count
from pyro_bvae.datasets.arrays import as_source
from pyro_bvae.objectives import ELBO, Estimate, Objective
from pyro_bvae.training.source import (
    check_arguments,
    device_of,
    evaluating,
    own_randomness,
    read,
    takes_size,
)
from pyro_bvae.types import PairLike


def per_datum(estimate: Estimate) -> dict[str, Tensor]:
    """Return an estimate's loss, ELBO, reconstruction, KL, terms and KL per latent, per datum.

    The keys are "loss", "elbo", "reconstruction", "kl", the names of terms and measures, and
    "kl_per_latent.SITE" `[latents]` for every latent site; nats.
    """
    taken = sorted({"loss", "elbo", "kl"} & {*estimate.terms, *estimate.measures})
    if taken:
        raise ValueError(
            f"objective: expected names of its own for its terms, but {taken} have a fixed "
            "meaning in every history; rename these terms"
        )
    values = {
        "loss": estimate.loss,
        "elbo": estimate.elbo,
        "reconstruction": estimate.reconstruction,
        "kl": estimate.kl,
        **estimate.terms,
        **estimate.measures,
        **{f"kl_per_latent.{site}": kl for site, kl in estimate.kl_per_latent.items()},
    }
    return {name: value / estimate.data for name, value in values.items()}


@torch.no_grad()
def evaluate(
    pair: PairLike,
    data: Any,
    *,
    beta: Beta | SiteBetas = 1.0,
    objective: Objective | None = None,
    size: int | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> Mapping[str, float | np.ndarray]:
    """Average the loss, the ELBO at β = 1, reconstruction, KL and KL per latent over all the data.

    Modules are in evaluation mode meanwhile.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)`, tempered or not.
        data: a tensor, an array, a data set, or a tuple of them (see `datasets.as_source`).
        beta: of the loss, as `tempered` takes it; the rest is at β = 1 always.
        objective: whose loss; `ELBO()` by default.
        size: how many data the global latents were learnt from, over which their KL is spread;
            by default as many as `data`.
        batch_size: how many data at a time, at most; the batches differ by one datum at most.
        seed: of the draws from the guide; torch's own random state is left as it was.

    Returns: nats per datum: "loss", "elbo", "reconstruction", "kl", the objective's terms and
        what else it measures as numbers, and "kl_per_latent.SITE" as arrays `[latents]`.

    Raises: ValueError for empty or unfit data, or an unsound pair.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 1.0))
    >>> float(evaluate((model, guide), torch.tensor([2.0, 0.0]))["kl"])
    0.25
    """
    model, guide = tempered(pair, beta)
    source = as_source(data)
    check_count(batch_size, "batch_size")
    check_arguments(pair, source)
    objective = objective or ELBO()
    total: dict[str, Tensor] = {}
    keywords = {"size": size or len(source)} if takes_size(pair) else {}
    device = device_of(pair)
    with evaluating(pair), own_randomness(device, seed):
        for indices in torch.arange(len(source)).tensor_split(-(-len(source) // batch_size)):
            batch = read(source, indices, pair)
            values = per_datum(objective.estimate(model, guide, *batch, **keywords))
            share = len(indices) / len(source)
            for name, value in values.items():
                total[name] = total.get(name, torch.zeros_like(value)) + share * value
    return {
        name: value.cpu().numpy() if value.dim() else value.item() for name, value in total.items()
    }
