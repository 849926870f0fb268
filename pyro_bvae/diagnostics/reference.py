"""The posterior itself, by Hamiltonian Monte Carlo with the decoder as it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import MCMC, NUTS
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.joint import LogJoint
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
    seed: int = 0,
) -> Reference:
    """Draw z from the target posterior of all data at once with Pyro's NUTS, the model fixed.

    The log densities of the data are summed, so that one trajectory moves all of them; chains run
    one after another and start from draws of the guide, in coordinates that its mean and spread
    scale. The potential is recorded as one graph where the model is static. A mode in which the
    guide has no draw may be missed: `log_evidence(method="annealed")` does not start there.
    Latents that are no datum's own are held at the medians of what the guide draws for them;
    discrete ones, such as classes, are summed over, and the others drawn whatever these may be.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)`; tempered or not, it is read at β = 1.
        x: data, as `datasets.as_source` takes them: some tens.
        num_samples: draws of each chain, ≥ 4.
        chains: how many.
        warmup: steps of each chain before, which set step size and mass matrix.
        target: "model", p(z|x), or "tempered", ∝ p(z) p(x|z)^{1/β}.
        beta: β > 0 of the tempered target.
        seed: of the chains; torch's own random state is left as it was.

    Raises:
        ValueError: another target, no continuous latent, discrete ones of more than 256 values
            together, counts too small, or a pair without a plate of the data.

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
    sampler = Sampler(pair, x)
    indices = torch.arange(len(sampler))
    found, divergences = [], 0
    with sampler.running(seed):
        joint = LogJoint(sampler, indices)
        drawn = guide_latents(sampler, _SCALING_DRAWS)
        rows = [{n: v[i] for n, v in drawn.items()} for i in range(_SCALING_DRAWS)]
        guided = torch.stack([joint.flat(row) for row in rows])
        for chain in range(chains):
            draws, failed = _chain(joint, guided, chain, num_samples, warmup, against.power)
            kept = [joint.latents(u) for u in draws]
            found.append(flat({n: torch.stack([z[n] for z in kept]) for n in drawn}, dims=2))
            divergences += failed
        names = latent_names(rows[0])
    draws = torch.stack(found).cpu()
    return Reference(
        draws=draws,
        names=names,
        r_hat=split_gelman_rubin(draws, chain_dim=0, sample_dim=1),
        effective=effective_sample_size(draws, chain_dim=0, sample_dim=1).clamp(min=1),
        divergences=divergences,
        target=against,
    )


def guide_latents(sampler: Sampler, num_samples: int) -> dict[str, Tensor]:
    """Draw continuous latents from the guide for all data, `{site: [draws, data, *shape]}`."""
    indices, at_once = torch.arange(len(sampler)), max(1, sampler.batch_size // len(sampler))
    some = torch.arange(num_samples).split(at_once)
    drawn = [sampler.draw(indices, len(part)).latents for part in some]
    return {n: torch.cat([part[n] for part in drawn]) for n in sampler.layout.continuous}


def flat(latents: dict[str, Tensor], *, dims: int = 1) -> Tensor:
    """Put latents side by side: `{site: [data, *shape]}` to `[data, latents]`.

    With `dims=2`, `{site: [draws, data, *shape]}` to `[draws, data, latents]`.
    """
    return torch.cat([v.reshape(*v.shape[:dims], -1) for v in latents.values()], dims)


def latent_names(latents: dict[str, Tensor]) -> tuple[str, ...]:
    """Return the names of what `flat` puts side by side: "z", or "z[0]", "z[1]", ..."""
    names: list[str] = []
    for site, value in latents.items():
        size = value[0].numel()
        names += [site] if value.dim() == 1 else [f"{site}[{i}]" for i in range(size)]
    return tuple(names)


def _chain(
    joint: LogJoint, guided: Tensor, chain: int, num_samples: int, warmup: int, power: float
) -> tuple[Tensor, int]:
    """Run one chain: rows `[num_samples, data, dim]` and the number of divergences."""
    centre, spread = guided.mean(0), guided.std(0).clamp(min=1e-6)

    def potential(parameters: dict[str, Tensor]) -> Tensor:
        return _Potential.apply(parameters["v"], lambda v: _value(joint, centre, spread, power, v))

    start = (guided[chain % len(guided)] - centre) / spread
    with torch.enable_grad():
        mcmc = MCMC(
            NUTS(potential_fn=potential),
            num_samples=num_samples,
            warmup_steps=warmup,
            initial_params={"v": start},
            disable_progbar=True,
        )
        mcmc.run()
    failed = sum(len(steps) for steps in mcmc.diagnostics()["divergences"].values())
    return centre + spread * mcmc.get_samples()["v"], failed


def _value(
    joint: LogJoint, centre: Tensor, spread: Tensor, power: float, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Return −Σ log density of the data at centre + spread · v, and its gradient."""
    value = joint(centre + spread * v, power)
    return -value.at(power).sum(), -spread * value.gradient


class _Potential(torch.autograd.Function):
    """A function that gives its own gradient."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, function: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        value, gradient = function(v.detach())
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, output: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return output * gradient, None
