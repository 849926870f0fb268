"""The low-rank posterior: a normal whose latents are correlated in a few directions."""

from torch import Tensor, nn

from pyro_bvae.checks import check_count, check_latents
from pyro_bvae.posteriors.amortised import AmortisedPosterior
from pyro_bvae.posteriors.gaussian import LowRankNormal
from pyro_bvae.types import Distribution


class LowRankPosterior(AmortisedPosterior):
    """q(z|x) = N(μ(x), F(x) F(x)ᵀ + diag d(x)), F `[latents, rank]`, linear in features.

    The head gives μ, log d and the rows of F.

    Args:
        encoder: a module from x `[batch, *shape]` to features `[batch, features]`.
        latents: the number of latents, ≥ 1.
        rank: the number of columns of F, ≥ 1.
        features: the encoder's width, where it has no `.features` of its own.

    Returns (when called): batch shape `[batch]`, event shape `[latents]`.

    Raises:
        ValueError: `latents` or `rank` < 1, the width is unknown, or the encoder returns another
            shape.

    References:
        Rezende, Mohamed, Wierstra (2014), Stochastic Backpropagation and Approximate Inference
        in Deep Generative Models.

    >>> import torch
    >>> from pyro_bvae.networks import mlp_encoder
    >>> q = LowRankPosterior(mlp_encoder((1, 8, 8)), latents=10, rank=2)
    >>> q(torch.rand(5, 1, 8, 8)).cov_factor.shape
    torch.Size([5, 10, 2])
    """

    def __init__(
        self, encoder: nn.Module, latents: int, *, rank: int = 1, features: int | None = None
    ) -> None:
        numbers = check_latents(latents) * (2 + check_count(rank, "rank"))
        super().__init__(encoder, latents, numbers=numbers, features=features)

    def family(self, numbers: Tensor) -> Distribution:
        """Return N(μ, F Fᵀ + diag d), λ being μ, log d and F."""
        loc, log_diagonal, factor = numbers.tensor_split([self.latents, 2 * self.latents], dim=-1)
        factor = factor.reshape(*factor.shape[:-1], self.latents, -1)
        return LowRankNormal(loc, factor, log_diagonal.exp())
