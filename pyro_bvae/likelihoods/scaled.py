"""Likelihoods of a location and a scale: f(z) from the decoder, σ a number or a parameter."""

from abc import abstractmethod

from torch import Tensor, nn

from pyro_bvae.likelihoods.base import Likelihood
from pyro_bvae.scale import Scale
from pyro_bvae.types import Distribution


class ScaledLikelihood(Likelihood):
    """p(x|z) = Π_i family(x_i; f(z)_i, σ), or with a σ for every pixel; f is the decoder.

    A subclass says in `family` which distribution it is.

    Args:
        decoder: a module from z `[n, latents]` to locations `[n, *shape]`.
        scale: σ. A number > 0 (fixed), `"learned"` (one, from 1) or `"per_pixel"` (learned).
        shape: the shape of one x, needed for `"per_pixel"` where the decoder has no `.shape`.

    Raises:
        ValueError: σ not positive, or `"per_pixel"` without a shape.
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
        known = getattr(decoder, "shape", None)
        pixels = known if shape is None else shape
        if known is not None and shape is not None and tuple(known) != tuple(shape):
            raise ValueError(f"shape: expected the decoder's {tuple(known)}, got {tuple(shape)}")
        if pixels is not None:
            learned["per_pixel"] = tuple(pixels)
        elif scale == "per_pixel":
            raise ValueError(
                f"shape: {type(decoder).__name__} has no .shape; pass shape=, the shape of one x"
            )
        self.scale = self._scale(scale, learned)

    def _scale(self, scale: float | str, learned: dict[str, tuple[int, ...]]) -> nn.Module:
        return Scale(scale, learned=learned)

    @abstractmethod
    def family(self, loc: Tensor) -> Distribution:
        """Return the distribution of each number of x, of batch shape that of `loc`."""

    def forward(self, z: Tensor, *context: Tensor) -> Distribution:
        """Return p(x|z)."""
        loc = self.decode(z, *context)
        return self.family(loc).to_event(loc.dim() - z.dim() + 1)
