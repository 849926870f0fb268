"""The full-rank posterior: a normal with any covariance."""

import torch
from torch import Tensor, nn

from pyro_bvae.checks import check_latents
from pyro_bvae.posteriors.amortised import AmortisedPosterior
from pyro_bvae.posteriors.gaussian import FullRankNormal
from pyro_bvae.types import Distribution


class FullRankPosterior(AmortisedPosterior):
    """q(z|x) = N(μ(x), L(x) L(x)ᵀ), L lower triangular: μ, log L_jj² and L_jk linear in features.

    For a linear decoder and a normal prior it can be the exact posterior, where a mean-field one
    loses ½ [Σ_j ln P_jj − ln det P], P the posterior's precision.

    Args:
        encoder: a module from x `[batch, *shape]` to features `[batch, features]`.
        latents: the number of latents, ≥ 1.
        features: the encoder's width, where it has no `.features` of its own.

    Returns (when called): batch shape `[batch]`, event shape `[latents]`.

    Raises:
        ValueError: `latents` < 1, the width is unknown, or the encoder returns another shape.

    References:
        Kucukelbir et al. (2017), Automatic Differentiation Variational Inference.

    >>> from pyro_bvae.networks import mlp_encoder
    >>> q = FullRankPosterior(mlp_encoder((1, 8, 8)), latents=10)
    >>> q(torch.rand(5, 1, 8, 8)).covariance_matrix.shape
    torch.Size([5, 10, 10])
    """

    def __init__(self, encoder: nn.Module, latents: int, *, features: int | None = None) -> None:
        numbers = 2 * check_latents(latents) + latents * (latents - 1) // 2
        super().__init__(encoder, latents, numbers=numbers, features=features)

    def family(self, numbers: Tensor) -> Distribution:
        """Return N(μ, L Lᵀ), λ being μ, log L_jj² and the rows of L below its diagonal."""
        d = self.latents
        loc, log_squares, below = numbers.split([d, d, d * (d - 1) // 2], dim=-1)
        lower = torch.diag_embed((0.5 * log_squares).exp())
        rows, columns = torch.tril_indices(d, d, offset=-1, device=numbers.device)
        lower[..., rows, columns] = below
        return FullRankNormal(loc, scale_tril=lower)
