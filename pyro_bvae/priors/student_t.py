"""Student's t as a prior: heavier tails than the normal's."""

import math
from numbers import Real

from pyro.distributions import StudentT
from torch import Tensor

from pyro_bvae.priors.scaled import ScaledPrior
from pyro_bvae.types import Distribution


class StudentTPrior(ScaledPrior):
    """p(z) = Π_j t(z_j; 0, σ_j) with `df` degrees of freedom: ∝ (1 + z²/(σ² df))^{−(df+1)/2}.

    Its variance is σ² df / (df − 2) for df > 2; it becomes the normal prior as df grows.

    Args:
        latents: the number of latents, ≥ 1.
        df: the degrees of freedom, a number > 0; below 2 the variance is infinite.
        scale: σ. A number > 0 (fixed); `"learned"` (one σ, from 1); `"per_latent"` (learned, one
            each); or a positive `pyro.distributions` hyperprior p(σ), which makes σ a latent site
            "prior_scale" with a posterior.

    Returns (when called): event shape `[latents]`, batch shape `[]`.

    Raises:
        ValueError: `latents` < 1, df or σ not positive, or a hyperprior of the wrong shape or
            support.

    References:
        Takahashi et al. (2018), Student-t Variational Autoencoder for Robust Density Estimation.

    >>> StudentTPrior(10, df=5)().event_shape
    torch.Size([10])
    """

    def __init__(
        self, latents: int, *, df: float = 5.0, scale: float | str | Distribution = 1.0
    ) -> None:
        super().__init__(latents, scale=scale)
        if isinstance(df, bool) or not isinstance(df, Real) or not 0 < df < math.inf:
            raise ValueError(f"df: expected a finite number > 0, got {df!r}")
        self.df: float = float(df)

    def family(self, loc: Tensor, scale: Tensor) -> Distribution:
        """Return t(0, σ)."""
        return StudentT(self.df, loc, scale)
