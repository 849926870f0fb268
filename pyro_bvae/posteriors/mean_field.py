"""The mean-field posterior: a normal with independent latents."""

from pyro.distributions import Normal
from torch import Tensor, nn

from pyro_bvae.posteriors.base import Posterior
from pyro_bvae.types import Distribution


class MeanFieldPosterior(Posterior):
    """q(z|x) = N(μ(x), diag σ²(x)), μ and log σ² linear in the encoder's features.

    Args:
        encoder: a module from x `[batch, *shape]` to features `[batch, features]`.
        latents: the number of latents, ≥ 1.
        features: the encoder's width, where it has no `.features` of its own.

    Returns (when called): batch shape `[batch]`, event shape `[latents]`.

    Raises:
        ValueError: `latents` < 1, the width is unknown, or the encoder returns another shape.

    References:
        Kingma, Welling (2014), Auto-Encoding Variational Bayes.

    >>> import torch
    >>> from pyro_bvae.networks import mlp_encoder
    >>> q = MeanFieldPosterior(mlp_encoder((1, 8, 8)), latents=10)
    >>> q(torch.rand(5, 1, 8, 8)).event_shape
    torch.Size([10])
    """

    def __init__(self, encoder: nn.Module, latents: int, *, features: int | None = None) -> None:
        super().__init__(latents)
        width = features or getattr(encoder, "features", None)
        if not isinstance(width, int) or width < 1:
            raise ValueError(
                f"features: {type(encoder).__name__} has no .features to tell its width; pass "
                f"features=, the second dimension of what it returns (got {width!r})"
            )
        self.encoder = encoder
        self.head = nn.Linear(width, 2 * latents)

    def forward(self, x: Tensor) -> Distribution:
        """Return q(z|x)."""
        features = self.encoder(x)
        expected = (len(x), self.head.in_features)
        if features.shape != expected:
            raise ValueError(
                f"encoder: expected features of shape {list(expected)}, "
                f"got {list(features.shape)}; check the encoder or features="
            )
        loc, log_variance = self.head(features).chunk(2, dim=-1)
        return Normal(loc, (0.5 * log_variance).exp()).to_event(1)
