"""A normalising flow as a prior."""

import torch
from pyro.distributions import Normal, TransformedDistribution
from torch import Tensor

from pyro_bvae.networks.flow import Flow
from pyro_bvae.priors.base import Prior
from pyro_bvae.types import Distribution


class FlowPrior(Prior):
    """p(z) = N(T(z); 0, I) |det ∂T/∂z|, T a learned autoregressive flow of splines.

    The splines bend [−5, 5] and are the identity outside, so the prior starts close to N(0, I)
    and keeps its tails. A density takes one pass, which is what training needs; a draw takes as
    many passes as there are latents. Its KL is estimated from the posterior's draws.

    Args:
        latents: the number of latents, ≥ 1; ≥ 2 for `kind="affine"`.
        kind: `"spline"` (neural spline flow) or `"affine"` (masked autoregressive flow).
        layers: how many layers T has.
        hidden: the width of each layer's network.
        bins: of each spline.

    Returns (when called): event shape `[latents]`, batch shape `[]`.

    Raises:
        ValueError: `latents` < 1, or 1 for an affine flow; another kind; a number < 1.

    References:
        Papamakarios, Pavlakou, Murray (2017), Masked Autoregressive Flow for Density Estimation.
        Durkan, Bekasov, Murray, Papamakarios (2019), Neural Spline Flows.
        Chen et al. (2017), Variational Lossy Autoencoder, for a flow as the prior of a VAE.

    >>> FlowPrior(10)().event_shape
    torch.Size([10])
    """

    loc: Tensor

    def __init__(
        self,
        latents: int,
        *,
        kind: str = "spline",
        layers: int = 2,
        hidden: int = 32,
        bins: int = 8,
    ) -> None:
        super().__init__(latents)
        self.register_buffer("loc", torch.zeros(latents))
        self.flow = Flow(latents, kind=kind, layers=layers, hidden=hidden, bins=bins)

    def forward(self, *context: Tensor) -> Distribution:
        """Return p(z)."""
        base = Normal(self.loc, 1.0).to_event(1)
        back = [transform.inv for transform in reversed(self.flow.transforms())]
        return TransformedDistribution(base, back)
