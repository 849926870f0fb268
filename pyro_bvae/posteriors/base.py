"""What every posterior is: a module whose call returns q(z|x)."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from pyro_bvae.checks import check_latents
from pyro_bvae.types import Distribution


class Posterior(nn.Module, ABC):
    """An amortised posterior q(z|x) over `latents` dimensions.

    Calling it on x `[batch, *shape]` returns a reparameterised `pyro.distributions` object of
    batch shape `[batch]` and event shape `[latents]`. Context tensors `[batch, ...]`, such as
    labels, are passed on to the encoder: `encoder(x, *context)`.
    """

    latents: int

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.latents = check_latents(latents)

    @abstractmethod
    def forward(self, x: Tensor, *context: Tensor) -> Distribution:
        """Return q(z|x), or q(z|x, context)."""

    def code(self, x: Tensor, *context: Tensor) -> Tensor:
        """Return the point `[batch, latents]` that stands for x: `point` of q(z|x)."""
        return self.point(self(x, *context))

    def point(self, q: Distribution) -> Tensor:
        """Return the point `[batch, latents]` that stands for a q(z|x) of this family: its mean."""
        return q.mean

    def check_parts(self, prior: nn.Module, likelihood: nn.Module) -> None:
        """Raise ValueError if the posterior was built for another prior or likelihood."""
