"""The mean-field posterior: independent latents, normal or Laplace."""

from pyro.distributions import Laplace, Normal
from torch import Tensor, nn

from pyro_bvae.checks import check_latents
from pyro_bvae.posteriors.amortised import AmortisedPosterior
from pyro_bvae.types import Distribution

FAMILIES = {"normal": Normal, "laplace": Laplace}


class MeanFieldPosterior(AmortisedPosterior):
    """q(z|x) = N(μ(x), diag σ²(x)), μ and log σ² linear in the encoder's features.

    With `family="laplace"` each latent is Laplace(μ_j, σ_j), of variance 2σ_j².

    Args:
        encoder: a module from x `[batch, *shape]` to features `[batch, features]`.
        latents: the number of latents, ≥ 1.
        family: `"normal"` or `"laplace"`.
        features: the encoder's width, where it has no `.features` of its own.

    Returns (when called): batch shape `[batch]`, event shape `[latents]`.

    Raises:
        ValueError: `latents` < 1, another family, the width is unknown, or the encoder returns
            another shape.

    References:
        Kingma, Welling (2014), Auto-Encoding Variational Bayes.

    >>> import torch
    >>> from pyro_bvae.networks import mlp_encoder
    >>> q = MeanFieldPosterior(mlp_encoder((1, 8, 8)), latents=10)
    >>> q(torch.rand(5, 1, 8, 8)).event_shape
    torch.Size([10])
    """

    def __init__(
        self,
        encoder: nn.Module,
        latents: int,
        *,
        family: str = "normal",
        features: int | None = None,
    ) -> None:
        numbers = 2 * check_latents(latents)
        super().__init__(encoder, latents, numbers=numbers, features=features)
        if family not in FAMILIES:
            raise ValueError(f"family: expected one of {sorted(FAMILIES)}, got {family!r}")
        self.distribution = FAMILIES[family]

    def family(self, numbers: Tensor) -> Distribution:
        """Return the distribution, λ being μ and log σ²."""
        loc, log_variance = numbers.chunk(2, dim=-1)
        return self.distribution(loc, (0.5 * log_variance).exp()).to_event(1)
