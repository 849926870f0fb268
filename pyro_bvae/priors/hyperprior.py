"""σ as a latent variable: drawn from a hyperprior in the model, with a guide of its own."""

import copy
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.distributions import Normal, TransformedDistribution
from torch import Tensor, nn
from torch.distributions import biject_to

from pyro_bvae.types import Distribution

SITE = "prior_scale"


class HyperpriorScale(nn.Module):
    """A scale σ ~ p(σ), sampled at the site "prior_scale"; `guide` samples q(σ).

    q(σ) is a Normal carried to the hyperprior's support, σ = T(ε), ε ~ N(m, s²), with m and s
    learned: a LogNormal for a hyperprior on (0, ∞). One σ is shared by all latents if the
    hyperprior's event shape is `[]`; each latent has its own if it is `[latents]`.

    Raises:
        ValueError: the hyperprior has another event or batch shape, or can draw σ ≤ 0.

    >>> import pyro.distributions as dist
    >>> HyperpriorScale(dist.HalfNormal(2.0), latents=3).posterior().sample() > 0
    tensor(True)
    """

    def __init__(self, hyperprior: Distribution, *, latents: int) -> None:
        super().__init__()
        if hyperprior.batch_shape or hyperprior.event_shape not in ((), (latents,)):
            raise ValueError(
                f"scale: expected a hyperprior of batch shape [] and event shape [] (one σ) or "
                f"[{latents}] (a σ per latent; use .expand([{latents}]).to_event(1)), got batch "
                f"shape {list(hyperprior.batch_shape)}, event shape {list(hyperprior.event_shape)}"
            )
        if not _is_scale(hyperprior):
            raise ValueError(
                "scale: expected a continuous hyperprior on σ > 0, such as HalfNormal, got "
                f"{hyperprior}"
            )
        self.hyperprior = hyperprior
        self.loc = nn.Parameter(torch.zeros(hyperprior.event_shape))
        self.log_scale = nn.Parameter(torch.full(hyperprior.event_shape, -2.0))

    def posterior(self) -> Distribution:
        """Return q(σ)."""
        normal = Normal(self.loc, self.log_scale.exp()).to_event(self.loc.dim())
        return TransformedDistribution(normal, [biject_to(self.hyperprior.support)])

    def forward(self) -> Tensor:
        """Sample σ in the model: shape `[..., 1]` (one σ) or `[..., latents]`."""
        scale = pyro.sample(SITE, self.hyperprior)
        return scale if self.hyperprior.event_shape else scale.unsqueeze(-1)

    def guide(self) -> None:
        """Sample σ in the guide."""
        pyro.sample(SITE, self.posterior())

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "HyperpriorScale":
        """Move and cast the hyperprior's own tensors with the module's."""
        super()._apply(fn, recurse)
        self.hyperprior = _map_tensors(self.hyperprior, fn)
        return self


def _is_scale(hyperprior: Distribution) -> bool:
    """Whether each of its variables has a support of its own within [0, ∞)."""
    try:
        transform = biject_to(hyperprior.support)
    except NotImplementedError:
        return False
    shape = hyperprior.event_shape
    extremes = torch.stack([torch.full(shape, -40.0), torch.full(shape, 40.0)])
    return transform.forward_shape(shape) == shape and bool((transform(extremes) >= 0).all())


def _map_tensors(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """Copy a distribution with `fn` applied to every tensor it holds."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_map_tensors(item, fn) for item in value)
    if isinstance(value, (torch.distributions.Distribution, torch.distributions.Transform)):
        copied = copy.copy(value)
        copied.__dict__ = {name: _map_tensors(item, fn) for name, item in vars(value).items()}
        return copied
    return value
