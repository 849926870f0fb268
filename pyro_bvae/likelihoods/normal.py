"""The normal likelihood, with its σ a number or a parameter."""

from pyro.distributions import Normal
from torch import Tensor, nn

from pyro_bvae.likelihoods.base import Likelihood
from pyro_bvae.scale import Scale
from pyro_bvae.types import Distribution


class NormalLikelihood(Likelihood):
    """p(x|z) = N(f(z), σ² I), or with a σ for every pixel; f is the decoder.

    log p(x|z) = −(D/2) log 2πσ² − ‖x − f(z)‖²/2σ², nats, summed over the D dimensions of x. A
    loss of half the squared error is σ = 1; of the squared error, σ² = ½.

    Args:
        decoder: a module from z `[n, latents]` to means `[n, *shape]`.
        scale: σ. A number > 0 (fixed), `"learned"` (one, from 1) or `"per_pixel"` (learned).
        shape: the shape of one x, needed for `"per_pixel"` where the decoder has no `.shape`.

    Raises:
        ValueError: σ not positive, or `"per_pixel"` without a shape.

    References:
        Rybkin, Daniilidis, Levine (2021), Simple and Effective VAE Training with Calibrated
        Decoders, for the learned σ.

    >>> import torch
    >>> from pyro_bvae.networks import mlp_decoder
    >>> likelihood = NormalLikelihood(mlp_decoder(2, (5,)), scale="learned")
    >>> likelihood(torch.zeros(3, 2)).batch_shape
    torch.Size([3])
    """

    def __init__(
        self,
        decoder: nn.Module,
        *,
        scale: float | str = 1.0,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(decoder)
        learned: dict[str, tuple[int, ...]] = {"learned": ()}
        pixels = shape or getattr(decoder, "shape", None)
        if pixels is not None:
            learned["per_pixel"] = tuple(pixels)
        elif scale == "per_pixel":
            raise ValueError(
                f"shape: {type(decoder).__name__} has no .shape; pass shape=, the shape of one x"
            )
        self.scale = Scale(scale, learned=learned)

    def forward(self, z: Tensor, *context: Tensor) -> Distribution:
        """Return p(x|z)."""
        mean = self.decode(z, *context)
        return Normal(mean, self.scale()).to_event(mean.dim() - z.dim() + 1)
