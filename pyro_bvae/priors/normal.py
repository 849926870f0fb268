"""The normal prior, with its σ a number, a parameter, or a latent variable."""

import torch
from pyro.distributions import Normal
from torch import Tensor

from pyro_bvae.priors.base import Prior
from pyro_bvae.priors.hyperprior import HyperpriorScale
from pyro_bvae.scale import Scale
from pyro_bvae.types import Distribution


class NormalPrior(Prior):
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

    loc: Tensor

    def __init__(self, latents: int, *, scale: float | str | Distribution = 1.0) -> None:
        super().__init__(latents)
        self.register_buffer("loc", torch.zeros(latents))
        self.scale: Scale | HyperpriorScale
        if isinstance(scale, Distribution):
            self.scale = HyperpriorScale(scale, latents=latents)
        else:
            self.scale = Scale(scale, learned={"learned": (), "per_latent": (latents,)})

    def forward(self, *context: Tensor) -> Distribution:
        """Return p(z) given σ."""
        return Normal(self.loc, self.scale()).to_event(1)

    def guide(self) -> None:
        """Sample σ from its posterior, where it has a hyperprior."""
        self.scale.guide()
