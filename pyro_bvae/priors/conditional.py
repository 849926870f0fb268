"""The conditional prior: a normal whose mean and scale depend on the context."""

from pyro.distributions import Normal
from torch import Tensor, nn

from pyro_bvae.networks.head import head_of, through
from pyro_bvae.priors.base import Prior
from pyro_bvae.types import Distribution


class ConditionalPrior(Prior):
    """p(z|c) = N(μ(c), diag σ²(c)), μ and log σ² linear in a network's features of c.

    Args:
        network: a module from the context `[batch, ...]` to features `[batch, features]`: an
            encoder, or `OneHot(classes)`, which gives every class a normal of its own.
        latents: the number of latents, ≥ 1.
        features: the network's width, where it has no `.features` of its own.

    Returns (when called on the context): batch shape `[batch]`, event shape `[latents]`.

    Raises:
        ValueError: `latents` < 1, the width is unknown, or the network returns another shape.
        TypeError: when called without context.

    References:
        Sohn, Lee, Yan (2015), Learning Structured Output Representation using Deep Conditional
        Generative Models.

    >>> import torch
    >>> from pyro_bvae.networks import OneHot
    >>> prior = ConditionalPrior(OneHot(10), latents=3)
    >>> prior(torch.tensor([0, 7])).batch_shape
    torch.Size([2])
    """

    def __init__(self, network: nn.Module, latents: int, *, features: int | None = None) -> None:
        super().__init__(latents)
        self.network = network
        self.head = head_of(network, 2 * latents, features=features)

    def family(self, numbers: Tensor) -> Distribution:
        """Return the normal that `[..., 2 latents]` numbers, μ and log σ², stand for."""
        loc, log_variance = numbers.chunk(2, dim=-1)
        return Normal(loc, (0.5 * log_variance).exp()).to_event(1)

    def amortised(self, *context: Tensor) -> Tensor:
        """Return the numbers `[batch, 2 latents]`."""
        if not context:
            raise TypeError("context: a ConditionalPrior needs one, got none; use ConditionalVAE")
        return through(self.network, self.head, *context, name="network")

    def forward(self, *context: Tensor) -> Distribution:
        """Return p(z|c)."""
        return self.family(self.amortised(*context))
