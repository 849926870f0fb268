"""Posteriors whose parameters are linear in an encoder's features."""

from abc import abstractmethod

from torch import Tensor, nn

from pyro_bvae.networks.head import head_of, through
from pyro_bvae.posteriors.base import Posterior
from pyro_bvae.posteriors.noted import made_of
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
        self.encoder = encoder
        self.head = head_of(encoder, numbers, features=features)

    @abstractmethod
    def family(self, numbers: Tensor) -> Distribution:
        """Return the distribution that λ `[batch, numbers]` stands for."""

    def amortised(self, x: Tensor, *context: Tensor) -> Tensor:
        """Return λ(x) `[batch, numbers]`."""
        return through(self.encoder, self.head, x, *context, name="encoder")

    def forward(self, x: Tensor, *context: Tensor) -> Distribution:
        """Return q(z|x)."""
        return made_of(self.family, self.amortised(x, *context))
