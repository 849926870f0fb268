"""The one gate to ArviZ: a pair's prior, posterior and predictions as its labelled groups."""

import importlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.diagnostics.draws import Latents, Sampler
from pyro_bvae.diagnostics.groups import given_data, posterior_draws, prior_draws
from pyro_bvae.diagnostics.pareto import smooth
from pyro_bvae.diagnostics.scored import Draws
from pyro_bvae.diagnostics.target import Target, as_target
from pyro_bvae.types import PairLike

Arrays = dict[str, tuple[tuple[str, ...], NDArray[Any]]]
"""Variables by name: the names of their dimensions, and their values."""

_LIBRARY = "pyro_bvae"


@torch.no_grad()
def to_inference_data(
    pair: PairLike,
    x: Any,
    *,
    num_samples: int = 500,
    target: str = "model",
    beta: float | None = None,
    resample: bool = False,
    factors: Mapping[str, Any] | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> Any:
    """Draw from guide, prior and both predictives, and label it all for ArviZ.

    Groups: "posterior", draws from the guide, and "prior", each latent with dimensions (chain,
    draw, datum, latent), and shared ones such as a prior's σ without a datum;
    "posterior_predictive" and "prior_predictive", (chain, draw, datum, ...), images with channel,
    height, width; "log_likelihood", log p(x|z) per datum; "sample_stats", `log_weight`
    log p(z) p(x|z)^{1/β} / q(z|x), `log_prior`, `log_guide`, nats; "observed_data"; and
    "constant_data": factors, and what else the pair is given. Draws are independent: one chain.
    The predictives are as large as num_samples × data.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)`; tempered or not, it is read at β = 1.
        x: data, as `datasets.as_source` takes them.
        num_samples: draws, ≥ 1; ≥ 25 to resample.
        target: of the weights: "model", p(z|x), or "tempered", ∝ p(z) p(x|z)^{1/β}.
        beta: β > 0 of the tempered target.
        resample: replace the guide's draws, datum by datum, by draws of them with their smoothed
            importance weights: draws from the target where k̂ < 0.7.
        factors: what is known of the data: name → array `[data]` or `[data, ...]`.
        batch_size: the most draws × data that go through the pair at once.
        seed: of the draws; torch's own random state is left as it was.

    Returns: an `arviz.InferenceData` (ArviZ 0.23) or `xarray.DataTree` (ArviZ 1); both have
        `.to_netcdf(path)`, and `arviz.from_netcdf(path)` reads it back.

    Raises:
        ValueError: another target, factors of another length, counts too small, or a pair without
            a plate of the data.
        TypeError: factors without names.

    References:
        Kumar, Carroll, Hartikainen, Martin (2019), ArviZ: a Unified Library for Exploratory
        Analysis of Bayesian Models in Python.
        Smith, Gelfand (1992), Bayesian Statistics without Tears, for resampling.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
    >>> data = to_inference_data((model, guide), torch.zeros(3), num_samples=10)
    >>> dict(data["posterior"]["z"].sizes)
    {'chain': 1, 'draw': 10, 'datum': 3}
    """
    against = as_target(target, beta)
    check_count(num_samples, "num_samples")
    factors = {} if factors is None else factors
    if not isinstance(factors, Mapping):
        raise TypeError(
            "factors: expected a mapping of names to arrays, got "
            f'{type(factors).__name__}; name them: factors={{"shape": ...}}'
        )
    sampler = Sampler(pair, x, batch_size=batch_size, hold_shared=False)
    _constants(factors, [], len(sampler))
    with sampler.running(seed):
        draws = posterior_draws(sampler, num_samples)
        prior = prior_draws(sampler, num_samples)
        observed, others = given_data(sampler)
    if resample:
        draws = resampled(draws, against, seed=seed)
    constant = _constants(factors, others, len(sampler))
    datasets = {
        "posterior": _latents(draws.latents, draws.shared),
        "prior": _latents(*prior[:2]),
        "posterior_predictive": _sampled(draws.predicted),
        "prior_predictive": _sampled(prior[2]),
        "log_likelihood": {"_".join(observed): _per_draw(draws.log_likelihood)},
        "sample_stats": {
            "log_weight": _per_draw(draws.log_weights(against)),
            "log_prior": _per_draw(draws.log_prior),
            "log_guide": _per_draw(draws.log_guide),
        },
        "observed_data": _data(observed),
        **({"constant_data": constant} if constant else {}),
    }
    attributes = {
        "inference_library": _LIBRARY,
        "target": str(against.given(sampler.layout.observed)),
        "beta": against.beta,
        "resampled": int(resample),
    }
    return _container(datasets, attributes)


def resampled(draws: Draws, target: Target, *, seed: int = 0) -> Draws:
    """Draw from draws, datum by datum, by their Pareto-smoothed weights; shared latents stay."""
    weights = smooth(draws.log_weights(target).cpu()).log_weights.exp()
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.multinomial(weights.T, len(weights), replacement=True, generator=generator).T

    def pick(values: Tensor) -> Tensor:
        index = chosen.to(values.device).reshape(*chosen.shape, *[1] * (values.dim() - 2))
        return values.gather(0, index.expand(*chosen.shape, *values.shape[2:]))

    return Draws(
        latents={name: pick(value) for name, value in draws.latents.items()},
        shared=draws.shared,
        log_prior=pick(draws.log_prior),
        log_likelihood=pick(draws.log_likelihood),
        log_guide=pick(draws.log_guide),
        predicted={name: pick(value) for name, value in draws.predicted.items()},
    )


def load_arviz() -> Any:
    """Import ArviZ without what it says about its own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("arviz")


def _container(datasets: Mapping[str, Arrays], attributes: Mapping[str, Any]) -> Any:
    """Label the groups as what the installed ArviZ works on."""
    arviz = load_arviz()
    xarray = importlib.import_module("xarray")
    groups = {
        name: xarray.Dataset(
            variables,
            coords={
                dim: np.arange(size)
                for dims, values in variables.values()
                for dim, size in zip(dims, values.shape, strict=True)
            },
            attrs=dict(attributes),
        )
        for name, variables in datasets.items()
    }
    if hasattr(arviz, "InferenceData"):
        return arviz.InferenceData(**groups)
    return xarray.DataTree.from_dict(groups)


def _latents(local: Latents, shared: Latents) -> Arrays:
    """Label latents: those of one dimension by "latent", where one site has it."""
    vectors = [name for name, value in local.items() if value.dim() == 3]
    own = "z" if "z" in vectors or not vectors else vectors[0]
    size = local[own].shape[-1] if own in vectors else None
    arrays: Arrays = {}
    for name, value in local.items():
        last = ("latent",) if name == own else (f"{name}_latent",)
        dims = last if value.dim() == 3 else _dims(name, value.dim() - 2, short=False)
        arrays[name] = (("chain", "draw", "datum", *dims), _array(value[None]))
    for name, value in shared.items():
        one_each = value.dim() == 2 and value.shape[1] == size
        dims = ("latent",) if one_each else _dims(name, value.dim() - 1, short=False)
        arrays[name] = (("chain", "draw", *dims), _array(value[None]))
    return arrays


def _sampled(data: Latents) -> Arrays:
    """Label data `[draws, data, *shape]` that were drawn."""
    arrays = _data({name: value[0] for name, value in data.items()})
    return {
        name: (("chain", "draw", *dims), _array(data[name][None]))
        for name, (dims, _) in arrays.items()
    }


def _data(data: Latents) -> Arrays:
    """Label data `[data, *shape]`."""
    short = len(data) == 1
    return {
        name: (("datum", *_dims(name, value.dim() - 1, short=short)), _array(value))
        for name, value in data.items()
    }


def _dims(name: str, count: int, *, short: bool) -> tuple[str, ...]:
    """Name the dimensions of one datum: images have channel, height and width."""
    known = {1: ("feature",), 3: ("channel", "height", "width")}
    if short and count in known:
        return known[count]
    return tuple(f"{name}_dim_{i}" for i in range(count))


def _constants(factors: Mapping[str, Any], others: Sequence[Tensor], data: int) -> Arrays:
    """Label what is known of the data."""
    arrays: Arrays = {}
    arguments = {f"argument_{i}": other for i, other in enumerate(others)}
    taken = sorted(arguments.keys() & factors.keys())
    if taken:
        raise ValueError(
            f"factors: expected other names than {taken}, which the arguments of the pair that it "
            "does not observe have; rename them"
        )
    for name, values in {**factors, **arguments}.items():
        value = _array(values) if isinstance(values, Tensor) else np.asarray(values)
        if value.ndim == 0 or len(value) != data:
            raise ValueError(
                f"factors: expected an array of {data} for {name!r}, one for each datum, got "
                f"shape {list(value.shape)}"
            )
        arrays[name] = (("datum", *_dims(name, value.ndim - 1, short=False)), value)
    return arrays


def _per_draw(values: Tensor) -> tuple[tuple[str, ...], NDArray[Any]]:
    return ("chain", "draw", "datum"), _array(values[None])


def _array(values: Tensor) -> NDArray[Any]:
    return values.detach().cpu().numpy()
