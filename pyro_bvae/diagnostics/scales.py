"""Scales that a density knows nothing of: sites weighed one by one, as in a sum over classes."""

from typing import Any

import torch

from pyro_bvae.diagnostics.layout import Layout, holds_data, samples
from pyro_bvae.diagnostics.traces import Traces


def check_scales(traces: Traces, layout: Layout, batch: int) -> None:
    """Raise ValueError where a tensor weighs the sites of the data, and not all of them alike.

    Numbers are a plate's share of the data, a β, or a unit of the loss: what is read off densities
    is the same without. So it is with one weight for each datum around all of its sites.
    """
    scales = {
        name: _without_beta(site)
        for trace in traces[:2]
        for name, site in samples(trace).items()
        if holds_data(site, layout, batch)
    }
    weighed = sorted(name for name, scale in scales.items() if torch.as_tensor(scale).numel() > 1)
    values = list(scales.values())
    if weighed and not all(_same(values[0], other) for other in values[1:]):
        raise ValueError(
            f"pair: the sites {weighed} are weighed by tensors of scales, which are no part of a "
            "density, so that what is read off these would be of another model; for missing data "
            "use poutine.mask; where the loss sums a latent out inside, give an object with a "
            "model, a guide, and `drawn`, the Pair that draws this latent once for each datum: a "
            "SemiSupervisedVAE has one, so give it as it is, not tempered"
        )


def _without_beta(site: Any) -> Any:
    beta = site.get("beta", 1.0)
    return site["scale"] / beta if float(beta) else site["scale"]


def _same(one: Any, other: Any) -> bool:
    a, b = torch.as_tensor(one), torch.as_tensor(other)
    return a.shape == b.shape and bool(torch.isclose(a, b).all())
