"""The posterior itself, by Hamiltonian Monte Carlo with the decoder as it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.joint import LogJoint
from pyro_bvae.diagnostics.nuts import Density, nuts
from pyro_bvae.diagnostics.target import Target, as_target
from pyro_bvae.types import PairLike

_SCALING_DRAWS = 200


@dataclass(frozen=True)
class Reference:
    """Draws of chains from the target posterior of every datum.

    Attributes:
        draws: `[chains, draws, data, latents]`; latents of several sites or shapes side by side.
        names: of the latents: "z[0]", "z[1]", ...
        r_hat: split R̂ `[data, latents]`; above 1.01 the chains do not agree yet.
        effective: the effective sample size of all chains together `[data, latents]`.
        divergences: draws, of all chains, at which the integrator failed.
        target: the density they are drawn from.
    """

    draws: Tensor
    names: tuple[str, ...]
    r_hat: Tensor
    effective: Tensor
    divergences: int
    target: Target

    def __str__(self) -> str:
        chains, draws, data, _ = self.draws.shape
        return (
            f"{chains} chains of {draws} draws from {self.target} for {data} data: largest R̂ "
            f"{self.r_hat.max():.3f}, smallest effective sample size {self.effective.min():.0f}, "
            f"{self.divergences} divergences"
        )


@torch.no_grad()
def reference_posterior(
    pair: PairLike,
    x: Any,
    *,
    num_samples: int = 500,
    chains: int = 4,
    warmup: int = 300,
    target: str = "model",
    beta: float | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> Reference:
    """Draw z from the target posterior of all data at once with NUTS, the model fixed.

    All chains of all data run side by side, each with its own trajectory, step size and scales:
    one gradient of the model is a leapfrog step of every chain, and none waits for another to turn
    back, as data that shared a trajectory would. The covariance of a chain takes memory and time
    as the square of its latents: for hundreds lower `batch_size`. Chains start from draws of the
    guide that are possible under the model, and its spread scales them at first. The density is
    recorded as one graph where the model is static. A mode in which the guide has no draw may be
    missed: `log_evidence(method="annealed")` does not start there.

    Latents that are no datum's own are held at the medians of what the guide draws for them;
    discrete ones, such as classes, are summed over, and the others drawn whatever these may be.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)`; tempered or not, it is read at β = 1.
        x: data, as `datasets.as_source` takes them.
        num_samples: draws of each chain, ≥ 4.
        chains: how many.
        warmup: steps of each chain before, which set its step size and scales.
        target: "model", p(z|x), or "tempered", ∝ p(z) p(x|z)^{1/β}.
        beta: β > 0 of the tempered target.
        batch_size: the most chains × data that go through the model at once.
        seed: of the chains; torch's own random state is left as it was.

    Raises:
        ValueError: another target, no continuous latent, discrete ones of more than 256 values
            together, counts too small, a pair without a plate of the data, or a model without a
            finite density at as many of 200 draws of the guide as there are chains.

    References:
        Hoffman, Gelman (2014), The No-U-Turn Sampler.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 1.0))
    >>> found = reference_posterior((model, guide), torch.ones(2), num_samples=50, warmup=20)
    >>> found.draws.shape, found.names
    (torch.Size([4, 50, 2, 1]), ('z',))
    """
    against = as_target(target, beta)
    for count, name in ((chains, "chains"), (warmup, "warmup")):
        check_count(count, name)
    if check_count(num_samples, "num_samples") < 4:
        raise ValueError(f"num_samples: expected at least 4, got {num_samples}")
    sampler, parts = Sampler(pair, x, batch_size=batch_size), []
    with sampler.running(seed):
        for indices in torch.arange(len(sampler)).split(max(1, batch_size // chains)):
            joint = LogJoint(sampler, indices, chains)
            parts.append(_chains(joint, indices, num_samples, warmup, against.power))
    draws = torch.cat([some for some, _ in parts], 2).cpu()
    return Reference(
        draws=draws,
        names=latent_names(sampler.layout.continuous),
        r_hat=split_gelman_rubin(draws, chain_dim=0, sample_dim=1),
        effective=effective_sample_size(draws, chain_dim=0, sample_dim=1).clamp(min=1),
        divergences=sum(int(failed.sum()) for _, failed in parts),
        target=against.given(sampler.layout.observed),
    )


def _chains(
    joint: LogJoint, indices: Tensor, num_samples: int, warmup: int, power: float
) -> tuple[Tensor, Tensor]:
    """Run all chains of some data.

    Returns: latents `[chains, num_samples, data, latents]`, and the divergences of each chain.
    """
    drawn = guide_latents(joint.sampler, indices, _SCALING_DRAWS)
    guided = joint.flat({n: v.flatten(0, 1) for n, v in drawn.items()})
    guided = guided.reshape(_SCALING_DRAWS, joint.data, -1)
    spread = joint.copied(guided.std(0).clamp(min=1e-6))

    def density(u: Tensor) -> tuple[Tensor, Tensor]:
        value = joint(u, power)
        likely = (value.log_likelihood > -torch.inf).any(1)
        return torch.where(likely, value.at(power), -torch.inf), value.gradient

    start = _starts(density, guided, joint.copies)
    draws, failed = nuts(density, start, spread, num_samples=num_samples, warmup=warmup)
    latents = flat(joint.latents(draws.flatten(0, 1)))
    return latents.reshape(num_samples, joint.copies, joint.data, -1).transpose(0, 1), failed


def _starts(density: Density, guided: Tensor, chains: int) -> Tensor:
    """Take for every chain one of the draws `[draws, data, dim]`, with a density where any has.

    Returns: `[chains · data, dim]`.
    """
    each = torch.arange(-(-len(guided) // chains) * chains) % len(guided)
    start = guided[each[:chains]].flatten(0, 1)
    if density(start)[0].isfinite().all():
        return start
    values = [density(guided[some].flatten(0, 1))[0] for some in each.split(chains)]
    impossible = ~torch.cat(values).isfinite().reshape(len(each), -1)
    first = impossible.int().argsort(dim=0, stable=True)[:chains].cpu()
    return guided[each[first], torch.arange(guided.shape[1])].flatten(0, 1)


def guide_latents(sampler: Sampler, indices: Tensor, num_samples: int) -> dict[str, Tensor]:
    """Draw continuous latents from the guide for some data, `{site: [draws, data, *shape]}`."""
    at_once = max(1, sampler.batch_size // len(indices))
    some = torch.arange(num_samples).split(at_once)
    drawn = [sampler.draw(indices, len(part)).latents for part in some]
    return {n: torch.cat([part[n] for part in drawn]) for n in sampler.layout.continuous}


def flat(latents: dict[str, Tensor], *, dims: int = 1) -> Tensor:
    """Put latents side by side: `{site: [data, *shape]}` to `[data, latents]`.

    With `dims=2`, `{site: [draws, data, *shape]}` to `[draws, data, latents]`.
    """
    return torch.cat([v.reshape(*v.shape[:dims], -1) for v in latents.values()], dims)


def latent_names(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Return the names of what `flat` puts side by side: "z", or "z[0]", "z[1]", ...

    >>> latent_names({"y": (), "z": (2,)})
    ('y', 'z[0]', 'z[1]')
    """
    names: list[str] = []
    for site, shape in shapes.items():
        names += [f"{site}[{i}]" for i in range(prod(shape))] if shape else [site]
    return tuple(names)
