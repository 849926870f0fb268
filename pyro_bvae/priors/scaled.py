"""Priors around 0 with independent latents, whose σ is a number, a parameter, or a latent."""

from abc import abstractmethod

import torch
from torch import Tensor

from pyro_bvae.priors.base import Prior
from pyro_bvae.priors.hyperprior import HyperpriorScale
from pyro_bvae.scale import Scale
from pyro_bvae.types import Distribution


class ScaledPrior(Prior):
    """p(z) = Π_j family(z_j; 0, σ_j), a location–scale family around 0.

    A subclass says in `family` which distribution it is.

    Args:
        latents: the number of latents, ≥ 1.
        scale: σ. A number > 0 (fixed); `"learned"` (one σ, from 1); `"per_latent"` (learned, one
            each: automatic relevance determination); or a positive `pyro.distributions`
            hyperprior p(σ), which makes σ a latent site "prior_scale" with a posterior.

    Raises:
        ValueError: `latents` < 1, σ not positive, or a hyperprior of the wrong shape or support.
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

    @abstractmethod
    def family(self, loc: Tensor, scale: Tensor) -> Distribution:
        """Return the distribution of each latent, of batch shape `[latents]`."""

    def forward(self, *context: Tensor) -> Distribution:
        """Return p(z) given σ."""
        return self.family(self.loc, self.scale()).to_event(1)

    def guide(self) -> None:
        """Sample σ from its posterior, where it has a hyperprior."""
        self.scale.guide()
