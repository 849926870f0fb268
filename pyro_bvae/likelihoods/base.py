"""What every likelihood is: a module whose call returns p(x|z)."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from pyro_bvae.checks import check_finite
from pyro_bvae.types import Distribution


class Likelihood(nn.Module, ABC):
    """A likelihood p(x|z) around a decoder.

    Calling it on z `[..., latents]` returns a `pyro.distributions` object of batch shape `[...]`
    and event shape the shape of one x. The decoder maps `[n, latents]` to `[n, *shape]`. Context
    tensors `[batch, ...]`, such as labels, are passed on to the decoder: `decoder(z, *context)`.
    """

    integers = False
    """Whether x may be a tensor of integers."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        if not callable(decoder):
            raise TypeError(
                f"decoder: expected a module from z [n, latents] to [n, *shape], got "
                f"{type(decoder).__name__}"
            )
        self.decoder = decoder

    @abstractmethod
    def forward(self, z: Tensor, *context: Tensor) -> Distribution:
        """Return p(x|z), or p(x|z, context)."""

    def decode(self, z: Tensor, *context: Tensor) -> Tensor:
        """Run the decoder on z `[..., latents]`, under any batch dimensions: `[..., *shape]`.

        Context `[batch, ...]` belongs to z's last batch dimension and is repeated over those
        before it (particles).

        Raises: ValueError if a context has another length than z's last batch dimension.
        """
        flat = [_repeated(one, z) for one in context]
        out = self.decoder(z.reshape(-1, z.shape[-1]), *flat)
        return out.reshape(z.shape[:-1] + out.shape[1:])

    def point(self, z: Tensor, *context: Tensor) -> Tensor:
        """Return what stands for p(x|z), `[..., *shape]`: the mean of x."""
        return self(z, *context).mean

    def check(self, x: Tensor) -> None:
        """Raise ValueError if `x` holds values the likelihood cannot draw."""
        check_finite(x)


def _repeated(context: Tensor, z: Tensor) -> Tensor:
    """Repeat context `[batch, ...]` for every row of z `[..., batch, latents]` flattened."""
    batch = z.shape[:-1] or (1,)
    if context.dim() == 0 or len(context) != batch[-1]:
        raise ValueError(
            f"context: expected shape [{batch[-1]}, ...], a row for each of z {list(z.shape)}, "
            f"got {list(context.shape)}"
        )
    return context.expand(*batch[:-1], *context.shape).reshape(-1, *context.shape[1:])
