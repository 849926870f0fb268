"""The Laplace prior, which favours codes of few large numbers."""

from pyro.distributions import Laplace
from torch import Tensor

from pyro_bvae.priors.scaled import ScaledPrior
from pyro_bvae.types import Distribution


class LaplacePrior(ScaledPrior):
    """p(z) = Π_j Laplace(z_j; 0, b_j), of variance 2b².

    Unlike a normal it is not the same in all directions: a rotation of the latents changes it.

    Args:
        latents: the number of latents, ≥ 1.
        scale: b. A number > 0 (fixed); `"learned"` (one, from 1); `"per_latent"` (learned, one
            each); or a positive `pyro.distributions` hyperprior p(b), which makes b a latent site
            "prior_scale" with a posterior.

    Returns (when called): event shape `[latents]`, batch shape `[]`.

    Raises:
        ValueError: `latents` < 1, b not positive, or a hyperprior of the wrong shape or support.

    References:
        Park, Casella (2008), The Bayesian Lasso. Barello, Charles, Pillow (2018), Sparse-Coding
        Variational Auto-Encoders.

    >>> LaplacePrior(10, scale=0.5)().event_shape
    torch.Size([10])
    """

    def family(self, loc: Tensor, scale: Tensor) -> Distribution:
        """Return Laplace(0, b)."""
        return Laplace(loc, scale)
