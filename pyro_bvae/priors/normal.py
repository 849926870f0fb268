"""The normal prior, with its σ a number, a parameter, or a latent variable."""

from pyro.distributions import Normal
from torch import Tensor

from pyro_bvae.priors.scaled import ScaledPrior
from pyro_bvae.types import Distribution


class NormalPrior(ScaledPrior):
    """p(z) = N(0, σ² I), or N(0, diag σ²).

    Args:
        latents: the number of latents, ≥ 1.
        scale: σ. A number > 0 (fixed); `"learned"` (one σ, from 1); `"per_latent"` (learned, one
            each: automatic relevance determination); or a positive `pyro.distributions`
            hyperprior p(σ), which makes σ a latent site "prior_scale" with a posterior.

    Returns (when called): event shape `[latents]`, batch shape `[]`.

    Raises:
        ValueError: `latents` < 1, σ not positive, or a hyperprior of the wrong shape or support.

    References:
        Kingma, Welling (2014), Auto-Encoding Variational Bayes.
        MacKay (1995), Probable Networks and Plausible Predictions, for relevance determination.

    >>> NormalPrior(10, scale=0.5)().event_shape
    torch.Size([10])
    """

    def family(self, loc: Tensor, scale: Tensor) -> Distribution:
        """Return N(0, σ²)."""
        return Normal(loc, scale)
