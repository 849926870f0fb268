"""What every likelihood is: a module whose call returns p(x|z)."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from pyro_bvae.checks import check_finite
from pyro_bvae.types import Distribution


class Likelihood(nn.Module, ABC):
    """A likelihood p(x|z) around a decoder.

    Calling it on z `[..., latents]` returns a `pyro.distributions` object of batch shape `[...]`
    and event shape the shape of one x. The decoder maps `[n, latents]` to `[n, *shape]`.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    @abstractmethod
    def forward(self, z: Tensor) -> Distribution:
        """Return p(x|z)."""

    def decode(self, z: Tensor) -> Tensor:
        """Run the decoder on z `[..., latents]`, under any batch dimensions: `[..., *shape]`."""
        out = self.decoder(z.reshape(-1, z.shape[-1]))
        return out.reshape(z.shape[:-1] + out.shape[1:])

    def check(self, x: Tensor) -> None:
        """Raise ValueError if `x` holds values the likelihood cannot draw."""
        check_finite(x)
