"""What the traces of a model and a guide say about their sites: log-likelihood, KL and β."""

from contextlib import suppress
from typing import Any, NamedTuple

import torch
from pyro.distributions import Delta, Independent, Unit
from pyro.distributions.util import scale_and_mask
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.util import check_site_shape
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_bvae.beta import VECTORISATION_PLATES, Beta


class Site(NamedTuple):
    """A latent site.

    Attributes:
        kl: KL(q‖p) of each of its dimensions, or one for all, summed over the data.
        beta: what `tempered` noted on it.
        q: the guide's distribution.
        p: the model's, at the same draws; None for an auxiliary site.
        value: the guide's draw.
        data: the size of the plate of the data, if the site is in it; 0 for a global one.
        scale: of its log-probabilities, without β.
        mask: of its log-probabilities.
        dim: of the plate of the data, from the right of the batch shape; None for a global site.
    """

    kl: Tensor
    beta: Beta
    q: Any
    p: Any
    value: Tensor
    data: int
    scale: Any
    mask: Any
    dim: int | None


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


def data_plate(model_trace: Trace) -> CondIndepStackFrame | None:
    """Return the plate of the data; None where the data are in no plate.

    It is, of the plates of the first observed site that hold latent sites too, or of all of them
    where none does, the one with as many members as the first argument has rows, or else the
    outermost.
    """
    sites = [site for site in model_trace.nodes.values() if site["type"] == "sample"]
    observed = next(site for site in sites if site["is_observed"])
    frames = [f for f in observed["cond_indep_stack"] if f.name not in VECTORISATION_PLATES]
    latent = {f.name for site in sites if not site["is_observed"] for f in site["cond_indep_stack"]}
    frames = [f for f in frames if f.name in latent] or frames
    rows = _rows(model_trace)
    return next((f for f in frames if f.size == rows), frames[0] if frames else None)


def _rows(model_trace: Trace) -> int | None:
    """Return how many rows the first argument of the model has, if it is a tensor of such."""
    first = next(iter(model_trace.nodes["_INPUT"]["args"]), None)
    return len(first) if isinstance(first, Tensor) and first.dim() else None


def data_count(model_trace: Trace) -> int:
    """Return the full size of the plate of the data; 1 where the data are in no plate."""
    plate = data_plate(model_trace)
    return (plate.full_size or plate.size) if plate else 1


def check_pair(model_trace: Trace, guide_trace: Trace) -> None:
    """Check that model and guide have the same latent sites, and that the guide's carry gradients.

    Raises: ValueError if the guide lacks a latent site of the model, has one that the model
        lacks, or has one that is not reparameterised.
    """
    model, guide = latents_of(model_trace), latents_of(guide_trace, guide=True)
    missing = sorted(set(model) - set(guide))
    if missing:
        raise ValueError(
            f"guide: lacks the latent sites {missing} of the model, it has {sorted(guide)}; "
            "sample every latent site of the model in the guide"
        )
    for name, site in guide.items():
        if name not in model and not site["infer"].get("is_auxiliary"):
            raise ValueError(
                f"guide: site {name!r} is not a latent site of the model, which has "
                f'{sorted(model)}; remove it or mark it infer={{"is_auxiliary": True}}'
            )
        _check_reparameterised(name, site)


def check_shapes(trace: Trace, *, max_plate_nesting: Any) -> None:
    """Raise ValueError where a site's batch shape is not that of the plates it is in."""
    sites: list[Any] = [site for site in trace.nodes.values() if site["type"] == "sample"]
    for site in sites:
        batch = site["value"].shape[: site["value"].dim() - site["fn"].event_dim]
        shape = torch.broadcast_shapes(site["fn"].batch_shape, batch)
        log_prob = torch.empty(shape, device="meta")
        check_site_shape({**site, "log_prob": log_prob}, max_plate_nesting)


def latent_sites(model_trace: Trace, guide_trace: Trace, *, draws: int = 1) -> dict[str, Site]:
    """Return what the traces, of so many draws each, say of every latent site.

    The KL is the closed form where torch has one and model and guide draw their sites in the same
    order, so that a site's prior cannot depend on what the guide draws from it; else it is
    log q(z) − log p(z) at the guide's draw.

    Raises: ValueError if scale or β differ between the two.
    """
    model, guide = latents_of(model_trace), latents_of(guide_trace, guide=True)
    plate, data = data_plate(model_trace), data_count(model_trace)
    same_order = list(model) == [name for name in guide if name in model]
    sites = {}
    for name, guide_site in guide.items():
        if name in model:
            _check_same_scale(name, model[name], guide_site)
            kl = _kl(guide_site, model[name], exact=same_order)
        else:
            kl = _log_prob(guide_site["fn"], guide_site["value"])
        frames = {f.name: f.dim for f in guide_site["cond_indep_stack"]}
        local = plate is not None and plate.name in frames
        total = _sum(kl, guide_site)
        sites[name] = Site(
            kl=total if draws == 1 else total / draws,
            beta=guide_site.get("beta", 1.0),
            q=guide_site["fn"],
            p=model[name]["fn"] if name in model else None,
            value=guide_site["value"],
            data=data if local else 0,
            scale=guide_site["scale"],
            mask=guide_site["mask"],
            dim=frames[plate.name] if plate is not None and local else None,
        )
    return sites


def latents_of(trace: Trace, *, guide: bool = False) -> dict[str, Any]:
    """Return the latent sites; in a guide `pyro.factor`, a correction of log q, is one too."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and (not site["is_observed"] or (guide and isinstance(site["fn"], Unit)))
    }


def _kl(guide_site: Any, model_site: Any, *, exact: bool) -> Tensor:
    q, p = _per_dimension(guide_site["fn"], model_site["fn"])
    if exact and not _is_delta(q):
        with suppress(NotImplementedError):
            return kl_divergence(q, p)
    value = guide_site["value"]
    return q.log_prob(value) - p.log_prob(value)


def _is_delta(fn: Any) -> bool:
    """Whether q is a point, whose closed-form KL in Pyro leaves out its `log_density`."""
    return isinstance(fn.base_dist if isinstance(fn, Independent) else fn, Delta)


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
    scale, mask = _with_latents(site["scale"]), _with_latents(site["mask"])
    scaled = scale_and_mask(values.expand(*batch_shape, values.shape[-1]), scale, mask)
    return scaled.reshape(-1, values.shape[-1]).sum(0)


def _with_latents(value: Any) -> Any:
    """Give a tensor over the batch a last dimension for the latents."""
    return value.unsqueeze(-1) if isinstance(value, Tensor) else value


def _check_reparameterised(name: str, site: Any) -> None:
    if not getattr(site["fn"], "has_rsample", False):
        raise ValueError(
            f"guide: site {name!r} draws from {type(site['fn']).__name__}, which has no "
            "reparameterised draws; train such a pair by CompiledSVI(model, guide, optim, "
            "loss=TraceGraph_ELBO()), or TraceEnum_ELBO() where it is enumerated; for classes "
            "there is SemiSupervisedVAE"
        )


def _check_same_scale(name: str, model_site: Any, guide_site: Any) -> None:
    betas = [site.get("beta", 1.0) for site in (model_site, guide_site)]
    scales = [site["scale"] for site in (model_site, guide_site)]
    for what, values in (("β", betas), ("scale", scales)):
        if differ(*values):
            raise ValueError(
                f"site {name!r}: expected the same {what} in model and guide, got {values[0]} and "
                f"{values[1]}; apply tempered(pair, beta) and scale handlers to both"
            )


def differ(a: Any, b: Any) -> bool:
    """Whether two weights differ; tensors are compared only while Pyro's validation is on."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a is not b and is_validation_enabled() and bool((torch.as_tensor(a != b)).any())
    return a != b
