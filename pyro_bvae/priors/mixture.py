"""A learned mixture of normals as a prior: clusters of codes."""

import torch
from pyro.distributions import Categorical, MixtureSameFamily, Normal
from torch import Tensor, nn

from pyro_bvae.checks import check_count
from pyro_bvae.priors.base import Prior
from pyro_bvae.types import Distribution


class MixturePrior(Prior):
    """p(z) = Σ_k π_k N(z; m_k, diag s_k²), with π, m and s learned.

    It starts with equal weights, m_k ~ N(0, I) and s = 1. Its KL is estimated from the draws.

    Args:
        latents: the number of latents, ≥ 1.
        components: how many normals are mixed, ≥ 1.

    Returns (when called): event shape `[latents]`, batch shape `[]`.

    Raises:
        ValueError: `latents` or `components` < 1.

    References:
        Dilokthanakul et al. (2016), Deep Unsupervised Clustering with Gaussian Mixture
        Variational Autoencoders.

    >>> MixturePrior(10, components=5)().sample().shape
    torch.Size([10])
    """

    def __init__(self, latents: int, *, components: int = 10) -> None:
        super().__init__(latents)
        check_count(components, "components")
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, latents))
        self.log_scale = nn.Parameter(torch.zeros(components, latents))

    def forward(self, *context: Tensor) -> Distribution:
        """Return p(z)."""
        components = Normal(self.loc, self.log_scale.exp()).to_event(1)
        return MixtureSameFamily(Categorical(logits=self.logits), components)
