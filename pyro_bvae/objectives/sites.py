"""What the traces of a model and a guide say about their sites: log-likelihood, KL and β."""

from typing import Any, NamedTuple

import torch
from pyro.distributions import Independent
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_bvae.beta import VECTORISATION_PLATES, Beta


class Site(NamedTuple):
    """A latent site: KL(q‖p) of each of its dimensions, summed over the batch, and its β."""

    kl: Tensor
    beta: Beta


def reconstruction(model_trace: Trace) -> Tensor:
    """Return −Σ log p of the observed sites, in nats, 0-dim."""
    model_trace.compute_log_prob(lambda _, site: site["is_observed"])
    observed = [
        site["log_prob_sum"]
        for site in model_trace.nodes.values()
        if site["type"] == "sample" and site["is_observed"]
    ]
    if not observed:
        raise ValueError(
            "model: expected at least one observed site, got none; pass the data as obs= or "
            "condition the model on it"
        )
    return -torch.stack([torch.as_tensor(log_prob) for log_prob in observed]).sum()


def data_count(model_trace: Trace) -> int:
    """Return the full size of the plate that holds the observed sites; 1 where there is none."""
    for site in model_trace.nodes.values():
        if site["type"] == "sample" and site["is_observed"]:
            for frame in site["cond_indep_stack"]:
                if frame.name not in VECTORISATION_PLATES:
                    return frame.full_size or frame.size
    return 1


def latent_sites(model_trace: Trace, guide_trace: Trace) -> dict[str, Site]:
    """Return the KL and β of every latent site, checking that model and guide fit together.

    The KL is the closed form where torch has one, else log q(z) − log p(z) at the guide's draw.

    Raises: ValueError if the guide lacks a latent site of the model or is not reparameterised,
        or if scale or β differ between the two.
    """
    model, guide = _latents(model_trace), _latents(guide_trace)
    missing = sorted(set(model) - set(guide))
    if missing:
        raise ValueError(
            f"guide: lacks the latent sites {missing} of the model, it has {sorted(guide)}; "
            "sample every latent site of the model in the guide"
        )
    sites = {}
    for name, guide_site in guide.items():
        _check_reparameterised(name, guide_site)
        if name in model:
            _check_same_scale(name, model[name], guide_site)
            kl = _kl(guide_site, model[name])
        elif guide_site["infer"].get("is_auxiliary"):
            kl = _sum(_log_prob(guide_site["fn"], guide_site["value"]), guide_site)
        else:
            raise ValueError(
                f"guide: site {name!r} is not a latent site of the model, which has "
                f'{sorted(model)}; remove it or mark it infer={{"is_auxiliary": True}}'
            )
        sites[name] = Site(kl, guide_site["infer"].get("beta", 1.0))
    return sites


def _latents(trace: Trace) -> dict[str, Any]:
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"]
    }


def _kl(guide_site: Any, model_site: Any) -> Tensor:
    q, p = _per_dimension(guide_site["fn"], model_site["fn"])
    try:
        kl = kl_divergence(q, p)
    except NotImplementedError:
        value = guide_site["value"]
        kl = q.log_prob(value) - p.log_prob(value)
    return _sum(kl, guide_site)


def _per_dimension(q: Any, p: Any) -> tuple[Any, Any]:
    """Strip both of `to_event`, where both have independent dimensions, so the KL is split."""
    if all(isinstance(fn, Independent) and fn.event_dim == 1 for fn in (q, p)) and not (
        q.base_dist.event_dim or p.base_dist.event_dim
    ):
        return q.base_dist, p.base_dist
    return q, p


def _log_prob(fn: Any, value: Tensor) -> Tensor:
    return _per_dimension(fn, fn)[0].log_prob(value)


def _sum(values: Tensor, site: Any) -> Tensor:
    """Scale, mask and sum over the batch what has shape `batch` or `batch + [latents]`."""
    batch_shape = site["fn"].batch_shape
    values = values.reshape(*values.shape, 1) if values.dim() == len(batch_shape) else values
    mask = site["mask"]
    if isinstance(mask, Tensor):
        mask = mask.unsqueeze(-1)
    scaled = scale_and_mask(values.expand(*batch_shape, values.shape[-1]), site["scale"], mask)
    return scaled.reshape(-1, values.shape[-1]).sum(0)


def _check_reparameterised(name: str, site: Any) -> None:
    if not getattr(site["fn"], "has_rsample", False):
        raise ValueError(
            f"guide: site {name!r} draws from {type(site['fn']).__name__}, which has no "
            "reparameterised draws; use pyro.infer.TraceGraph_ELBO or TraceEnum_ELBO for it"
        )


def _check_same_scale(name: str, model_site: Any, guide_site: Any) -> None:
    betas = [site["infer"].get("beta", 1.0) for site in (model_site, guide_site)]
    scales = [site["scale"] for site in (model_site, guide_site)]
    for what, values in (("β", betas), ("scale", scales)):
        if not any(isinstance(value, Tensor) for value in values) and values[0] != values[1]:
            raise ValueError(
                f"site {name!r}: expected the same {what} in model and guide, got {values[0]} and "
                f"{values[1]}; apply tempered(pair, beta) and scale handlers to both"
            )
