"""Where a pair keeps its data, its latents and their log-probabilities, read off its traces."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.distributions import Unit
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor

from pyro_bvae.diagnostics.supports import is_discrete

DRAWS = "num_particles_vectorized"
"""The name of the plate of the draws, by which `tempered` knows it holds no data."""

Values = Mapping[str, Tensor]


class Layout(NamedTuple):
    """How the sites of a pair lie in its plates.

    Attributes:
        plate: the name of the plate of the data.
        dim: its dimension, negative.
        nesting: how many dimensions the pair's plates take.
        local: the latent sites in that plate, each with the shape of one datum's value.
        event_dims: of the same sites.
        shared: the latent sites outside it, such as a prior's σ.
        observed: the observed sites in it.
        discrete: the local sites of countably many values, such as classes.
        elsewhere: the names of the model's other plates.
    """

    plate: str
    dim: int
    nesting: int
    local: dict[str, tuple[int, ...]]
    event_dims: dict[str, int]
    shared: tuple[str, ...]
    observed: tuple[str, ...]
    discrete: tuple[str, ...]
    elsewhere: frozenset[str]

    @property
    def continuous(self) -> dict[str, tuple[int, ...]]:
        """The local sites with a density, each with the shape of one datum's value."""
        return {name: shape for name, shape in self.local.items() if name not in self.discrete}


def data_plates(model_trace: Trace, batch: int) -> list[Any]:
    """Return the plates of `batch` that hold latent and observed sites of a model.

    One is the plate of the data; another of the same size is told from it by other data.

    Raises: ValueError if there is none.
    """
    sites = samples(model_trace).values()
    observed = {f for site in sites if _is_data(site) for f in site["cond_indep_stack"]}
    latent = [f for s in sites if not s["is_observed"] for f in s["cond_indep_stack"]]
    frames = [f for f in latent if f.vectorized and f.size == batch and f in observed]
    if not frames:
        raise ValueError(
            f"pair: expected a plate of the {batch} data around latent sites and observed ones, "
            f'as `with pyro.plate("data", len(x))` does; the plates of the model are '
            f"{sorted({(f.name, f.size) for f in latent})} around latent sites and "
            f"{sorted({(f.name, f.size) for f in observed})} around observed ones; what has as "
            "many parameters as there are data, such as an AutoNormal, must take the data's "
            'places as well: `pyro.plate("data", number, subsample=places)`'
        )
    return frames


def layout_of(model_trace: Trace, frame: Any) -> Layout:
    """Read the layout of a model from a trace of it whose plate of the data is given."""
    sites = samples(model_trace)
    latent = {name: site for name, site in sites.items() if not site["is_observed"]}
    observed = {name: site for name, site in sites.items() if _is_data(site)}
    frames = [f for site in sites.values() for f in site["cond_indep_stack"] if f.vectorized]
    inside = {name: site for name, site in latent.items() if frame in site["cond_indep_stack"]}
    return Layout(
        plate=frame.name,
        dim=frame.dim,
        nesting=max(-f.dim for f in frames),
        local={
            name: datum_first(site["value"], site["fn"].event_dim, frame.dim).shape[1:]
            for name, site in inside.items()
        },
        event_dims={name: site["fn"].event_dim for name, site in inside.items()},
        shared=tuple(name for name in latent if name not in inside),
        observed=tuple(n for n, s in observed.items() if frame in s["cond_indep_stack"]),
        discrete=tuple(name for name, site in inside.items() if is_discrete(site["fn"])),
        elsewhere=frozenset(f.name for f in frames if f != frame),
    )


def datum_first(value: Tensor, event_dim: int, dim: int) -> Tensor:
    """Move the dimension of the data, `dim` of the batch shape, to the front."""
    return value.movedim(value.dim() - event_dim + dim, 0)


def as_sampled(values: Values, layout: Layout) -> dict[str, Tensor]:
    """Give latents `[batch, *shape of one]` the shape that the pair's sites have."""
    places = {n: layout.event_dims.get(n, 0) - layout.dim for n in values}
    return {
        name: value.movedim(0, value.dim() - places[name]) if name in layout.local else value
        for name, value in values.items()
    }


def held(function: Callable[..., Any], values: Values) -> Callable[..., Any]:
    """Return a Pyro function whose sites in `values` take these values and stay latent."""
    if not values:
        return function
    trace = Trace()
    for name, value in values.items():
        trace.add_node(
            name, name=name, type="sample", value=value, is_observed=False, infer={}, fn=Unit
        )
    return poutine.replay(function, trace=trace)


def log_prob(trace: Trace, layout: Layout, batch: int, *, observed: bool | None, draws: int) -> Any:
    """Sum the log-probabilities of the sites in the plate of the data, `[draws, batch]`, nats.

    Of the observed sites (`observed=True`), the latent ones (False), or all (None). Masks count,
    scales do not: a density is wanted, not a term of a loss.
    """
    total = torch.zeros(())
    for name, site in samples(trace).items():
        wanted = observed is None or observed is bool(site["is_observed"])
        if wanted and not _is_deterministic(site) and holds_data(site, layout, batch):
            total = total + site_log_prob(name, site, layout, batch, draws)
    return total


def holds_data(site: Any, layout: Layout, batch: int) -> bool:
    """Whether a site lies in the plate of the data, which the guide may name as it likes."""
    frames = [
        f for f in site["cond_indep_stack"] if f.vectorized and f.name not in layout.elsewhere
    ]
    return any(frame.dim == layout.dim and frame.size == batch for frame in frames)


def check_guide(guide_trace: Trace, layout: Layout, batch: int) -> None:
    """Raise ValueError unless the guide has the model's latents, the local ones in a plate."""
    sites = samples(guide_trace)
    missing = sorted({*layout.local, *layout.shared} - set(sites))
    if missing:
        raise ValueError(
            f"guide: lacks the latent sites {missing} of the model, it has {sorted(sites)}; "
            "sample every latent site of the model in the guide"
        )
    for name in layout.local:
        if not holds_data(sites[name], layout, batch):
            raise ValueError(
                f"guide: expected site {name!r} in a plate of the {batch} data, as in the model; "
                f'sample it in `with pyro.plate("{layout.plate}", len(x))`'
            )


def latent_values(trace: Trace, layout: Layout, batch: int, draws: int) -> dict[str, Tensor]:
    """Return the latents in the plate of the data, `[draws, batch, *shape of one]`."""
    values = {}
    for name, shape in layout.local.items():
        site = samples(trace)[name]
        values[name] = site_value(site, layout).reshape(draws, batch, *shape)
    return values


def site_value(site: Any, layout: Layout) -> Tensor:
    """Return a site's value with the draws first and the data second, `[draws, batch, ...]`."""
    value, event_dim = site["value"], site["fn"].event_dim
    if DRAWS not in _frames(site):
        return datum_first(value, event_dim, layout.dim)[None]
    value = value.movedim(value.dim() - event_dim - 1 - layout.nesting, 0)
    return value.movedim(value.dim() - event_dim + layout.dim, 1)


def shared_values(trace: Trace, layout: Layout, draws: int) -> dict[str, Tensor]:
    """Return the latents outside the plate of the data, `[draws, *shape]`."""
    values = {}
    for name in layout.shared:
        site = samples(trace)[name]
        value = site["value"].expand(site["fn"].shape())
        values[name] = value.reshape(draws, -1, *site["fn"].event_shape).squeeze(1)
    return values


def observed_values(trace: Trace, layout: Layout) -> dict[str, Tensor]:
    """Return what a model observes of the data, `[batch, *shape]`."""
    sites = {name: samples(trace)[name] for name in layout.observed}
    return {
        name: datum_first(site["value"], site["fn"].event_dim, layout.dim)
        for name, site in sites.items()
    }


def predicted_values(trace: Trace, layout: Layout, draws: int) -> dict[str, Tensor]:
    """Return what an unconditioned model drew for its observed sites, `[draws, batch, *shape]`."""
    values = {}
    for name in layout.observed:
        site = samples(trace)[name]
        shape = datum_first(site["infer"]["obs"], site["fn"].event_dim, layout.dim).shape
        values[name] = site_value(site, layout).reshape(draws, *shape)
    return values


def site_log_prob(name: str, site: Any, layout: Layout, batch: int, draws: int) -> Tensor:
    """Sum a site's log-probabilities over all but draws and data, `[draws, batch]`, nats."""
    value = scale_and_mask(site["fn"].log_prob(site["value"]), 1.0, site["mask"])
    if value.dim() < -layout.dim or value.shape[layout.dim] != batch:
        raise ValueError(
            f"pair: expected site {name!r} to have a log-probability for each of the {batch} "
            f"data in plate {layout.plate!r}, got shape {list(value.shape)}"
        )
    if DRAWS in _frames(site):
        front = value.movedim((value.dim() - 1 - layout.nesting, layout.dim), (0, 1))
        return front.reshape(draws, batch, -1).sum(-1)
    return value.movedim(layout.dim, 0).reshape(batch, -1).sum(-1)[None]


def samples(trace: Trace) -> dict[str, Any]:
    """Return the sample sites of a trace, but those that draw a plate's subsample."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not poutine.util.site_is_subsample(site)
    }


def _frames(site: Any) -> set[str]:
    return {frame.name for frame in site["cond_indep_stack"]}


def _is_deterministic(site: Any) -> bool:
    return bool(site["infer"].get("_deterministic"))


def _is_data(site: Any) -> bool:
    return bool(site["is_observed"]) and not _is_deterministic(site)
