"""The Laplace likelihood: absolute instead of squared error."""

from pyro.distributions import Laplace
from torch import Tensor

from pyro_bvae.likelihoods.scaled import ScaledLikelihood
from pyro_bvae.types import Distribution


class LaplaceLikelihood(ScaledLikelihood):
    """p(x|z) = Π_i Laplace(x_i; f(z)_i, b), or with a b for every pixel; f is the decoder.

    log p(x|z) = −D log 2b − Σ_i |x_i − f(z)_i| / b, nats, summed over the D dimensions of x: the
    absolute error, which minds outliers less than the squared one.

    Args:
        decoder: a module from z `[n, latents]` to medians `[n, *shape]`.
        scale: b. A number > 0 (fixed), `"learned"` (one, from 1) or `"per_pixel"` (learned).
        shape: the shape of one x, needed for `"per_pixel"` where the decoder has no `.shape`.

    Raises:
        ValueError: b not positive, or `"per_pixel"` without a shape.

    References:
        Kotz, Kozubowski, Podgórski (2001), The Laplace Distribution and Generalizations.

    >>> import torch
    >>> from pyro_bvae.networks import mlp_decoder
    >>> likelihood = LaplaceLikelihood(mlp_decoder(2, (5,)), scale=0.1)
    >>> likelihood(torch.zeros(3, 2)).event_shape
    torch.Size([5])
    """

    def family(self, loc: Tensor) -> Distribution:
        """Return Laplace(f(z), b)."""
        return Laplace(loc, self.scale())
