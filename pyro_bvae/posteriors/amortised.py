"""Posteriors whose parameters are linear in an encoder's features."""

from abc import abstractmethod

from torch import Tensor, nn

from pyro_bvae.posteriors.base import Posterior
from pyro_bvae.types import Distribution


class AmortisedPosterior(Posterior):
    """q(z|x) = family(λ(x)): the parameters λ of a family are a linear map of features of x.

    A subclass says how many numbers λ has and, in `family`, which distribution they stand for.

    Args:
        encoder: a module from x `[batch, *shape]` to features `[batch, features]`.
        latents: the number of latents, ≥ 1.
        numbers: the width of λ.
        features: the encoder's width, where it has no `.features` of its own.

    Raises:
        ValueError: `latents` < 1, the width is unknown, or the encoder returns another shape.
    """

    def __init__(
        self, encoder: nn.Module, latents: int, *, numbers: int, features: int | None = None
    ) -> None:
        super().__init__(latents)
        width = features or getattr(encoder, "features", None)
        if not isinstance(width, int) or width < 1:
            raise ValueError(
                f"features: {type(encoder).__name__} has no .features to tell its width; pass "
                f"features=, the second dimension of what it returns (got {width!r})"
            )
        self.encoder = encoder
        self.head = nn.Linear(width, numbers)

    @abstractmethod
    def family(self, numbers: Tensor) -> Distribution:
        """Return the distribution that λ `[batch, numbers]` stands for."""

    def amortised(self, x: Tensor, *context: Tensor) -> Tensor:
        """Return λ(x) `[batch, numbers]`."""
        features = self.encoder(x, *context)
        expected = (len(x), self.head.in_features)
        if features.shape != expected:
            raise ValueError(
                f"encoder: expected features of shape {list(expected)}, "
                f"got {list(features.shape)}; check the encoder or features="
            )
        return self.head(features)

    def forward(self, x: Tensor, *context: Tensor) -> Distribution:
        """Return q(z|x)."""
        return self.family(self.amortised(x, *context))
