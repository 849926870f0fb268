"""Joint draws for all data, in which what the data share is the same for all of them."""

import torch
from torch import Tensor

from pyro_bvae.diagnostics.draws import Latents, Sampler
from pyro_bvae.diagnostics.layout import observed_values
from pyro_bvae.diagnostics.scored import Draws, concatenated
from pyro_bvae.diagnostics.traces import arguments_observed, run


def posterior_draws(sampler: Sampler, num_samples: int) -> Draws:
    """Draw from the guide for all data, and predict data from each draw.

    Where latents are shared, each draw has its own of these, and takes a run of its own.
    """
    if not sampler.layout.shared:
        by_part: dict[int, list[Draws]] = {}
        for indices, draws in sampler.parts(num_samples, predict=True):
            by_part.setdefault(int(indices[0]), []).append(draws)
        return concatenated([concatenated(d, dim=0) for d in by_part.values()], dim=1)
    rows, parts = [], torch.arange(len(sampler)).split(sampler.batch_size)
    for _ in range(num_samples):
        sampler.shared, drawn = {}, []
        for indices in parts:
            drawn.append(sampler.draw(indices, 1, predict=True))
            sampler.shared = {name: value[0] for name, value in drawn[0].shared.items()}
        rows.append(concatenated(drawn, dim=1))
    sampler.shared = {}
    return concatenated(rows, dim=0)


def prior_draws(sampler: Sampler, num_samples: int) -> tuple[Latents, Latents, Latents]:
    """Draw from the model alone: latents, shared latents, and data, as `Sampler.prior` does."""
    at_once = 1 if sampler.layout.shared else max(1, int(sampler.batch_size**0.5))
    parts, rows = torch.arange(len(sampler)).split(max(1, sampler.batch_size // at_once)), []
    for some in torch.arange(num_samples).split(at_once):
        sampler.shared, drawn = {}, []
        for indices in parts:
            drawn.append(sampler.prior(indices, len(some)))
            sampler.shared = {name: value[0] for name, value in drawn[0][1].items()}
        latents, shared, data = zip(*drawn, strict=True)
        rows.append((_join(latents, 1), shared[0], _join(data, 1)))
    sampler.shared = {}
    latents, shared, data = zip(*rows, strict=True)
    return _join(latents, 0), _join(shared, 0), _join(data, 0)


def given_data(sampler: Sampler) -> tuple[Latents, list[Tensor]]:
    """Return what the model observes, `[data, *shape]`, and what else it is given."""
    observed, given, places = [], [], []
    for indices in torch.arange(len(sampler)).split(sampler.batch_size):
        args = sampler.arguments(indices)
        seen = observed_values(run(sampler.pair, args).model, sampler.layout)
        observed.append(seen)
        given.append(args)
        places.append({i for value in seen.values() for i in arguments_observed(args, value)})
    always = set.intersection(*places)
    wholes = enumerate(zip(*given, strict=True))
    return _join(observed, 0), [torch.cat(parts) for i, parts in wholes if i not in always]


def _join(parts: "tuple[Latents, ...] | list[Latents]", dim: int) -> Latents:
    return {name: torch.cat([part[name] for part in parts], dim) for name in parts[0]}
