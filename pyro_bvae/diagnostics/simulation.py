"""Truths and data drawn from a pair's own model, and the guide's draws for these data."""

import torch
from pyro import poutine
from torch import Tensor

from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.layout import held, latent_values
from pyro_bvae.diagnostics.ranks import ranks
from pyro_bvae.diagnostics.reference import flat, latent_names
from pyro_bvae.diagnostics.traces import plate_of
from pyro_bvae.training.source import device_of, evaluating, own_randomness
from pyro_bvae.types import PairLike, as_pair

_EXAMPLES = 3


def names_of(sampler: Sampler, site: str | None = None) -> tuple[str, ...]:
    """Return the names of all continuous latents, or a site's: "z", or "z[0]", "z[1]", ..."""
    shapes = sampler.layout.continuous
    wanted = shapes if site is None else {site: shapes[site]}
    return latent_names(wanted)


def truths(sampler: Sampler, indices: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Draw latents from the prior, `[data, latents]`, and arguments with data drawn from them.

    The latents are the continuous ones. Raises: ValueError if there is none.
    """
    if not sampler.layout.continuous:
        raise ValueError(
            "pair: expected a continuous latent site, whose truth has a rank among draws, got "
            f"{sorted(sampler.layout.discrete)} alone, which are discrete; take importance"
        )
    latents, args = sampler.simulate(indices)
    return flat({name: latents[name] for name in sampler.layout.continuous}), args


def ranked(
    sampler: Sampler, indices: Tensor, num_samples: int, reference: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the ranks of fresh truths `[data, latents]`, and those of their distances `[data]`."""
    truth, args = truths(sampler, indices)
    draws = _guide_draws(sampler, args, num_samples)
    if not (torch.isfinite(truth).all() and torch.isfinite(draws).all()):
        raise ValueError(
            "pair: expected finite draws, got NaN or infinity from "
            f"{'the guide' if torch.isfinite(truth).all() else 'the prior'}"
        )
    spread = reference.std(0).clamp(min=torch.finfo(truth.dtype).tiny)
    points = reference[torch.randint(len(reference), (len(truth),), device=reference.device)]
    far, nearer = (((z - points) / spread).square().sum(-1) for z in (truth, draws))
    return ranks(truth, draws), ranks(far, nearer)


def _guide_draws(sampler: Sampler, args: tuple[Tensor, ...], num_samples: int) -> Tensor:
    """Draw from the guide alone for the data in `args`, `[num_samples, data, latents]`."""
    layout, batch = sampler.layout, len(args[0])
    guide = held(sampler.pair.guide, sampler.shared)
    if sampler.stacks:
        guide = plate_of(num_samples, layout)(guide)
    runs = [
        latent_values(poutine.trace(guide).get_trace(*args), layout, batch, draws)
        for draws in ([num_samples] if sampler.stacks else [1] * num_samples)
    ]
    return torch.cat([flat({n: run[n] for n in layout.continuous}, dims=2) for run in runs])


def example(pair: PairLike) -> Tensor:
    """Draw a datum from a model that runs without data, a few times over."""
    with evaluating(pair), own_randomness(device_of(pair), 0):
        try:
            drawn = as_pair(pair).model()
        except TypeError as error:
            raise TypeError(
                "x: the model of this pair takes its data as an argument; give some example "
                f"data, calibration(pair, x): {error}"
            ) from error
    if not isinstance(drawn, Tensor) or not drawn.dim():
        raise TypeError(
            "x: expected the model to return data [batch, ...] where it runs without any, got "
            f"{type(drawn).__name__}; give some example data, calibration(pair, x)"
        )
    return torch.cat([drawn[:1]] * _EXAMPLES)
