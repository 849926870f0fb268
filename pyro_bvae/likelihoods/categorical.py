"""The categorical likelihood: tokens, and pixels of a few values."""

import torch
from pyro.distributions import Categorical
from torch import Tensor

from pyro_bvae.likelihoods.base import Likelihood
from pyro_bvae.types import Distribution


class CategoricalLikelihood(Likelihood):
    """p(x|z) = Π_i softmax(f(z)_i)[x_i], the decoder f giving logits `[n, *shape, classes]`.

    x holds the numbers of classes, 0 … classes − 1, as integers of any dtype or as whole
    floating-point numbers. log p(x|z) in nats, summed over x's dimensions. The point that stands
    for p(x|z) is the most probable class of each.

    Args:
        decoder: a module from z `[n, latents]` to logits `[n, *shape, classes]`.
        classes: how many there are, ≥ 2.

    Raises:
        ValueError: classes < 2, the decoder's last dimension is another; from `check`, an x that
            is no class.

    References:
        Bowman et al. (2016), Generating Sentences from a Continuous Space, for tokens.

    >>> from pyro_bvae.networks import mlp_decoder
    >>> likelihood = CategoricalLikelihood(mlp_decoder(2, (7, 20)), classes=20)
    >>> likelihood(torch.zeros(3, 2)).sample().shape, likelihood.point(torch.zeros(3, 2)).dtype
    (torch.Size([3, 7]), torch.int64)
    """

    integers = True

    def __init__(self, decoder: torch.nn.Module, *, classes: int) -> None:
        super().__init__(decoder)
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
            raise ValueError(f"classes: expected a whole number >= 2, got {classes!r}")
        self.classes = classes

    def logits(self, z: Tensor, *context: Tensor) -> Tensor:
        """Return the logits `[..., *shape, classes]`."""
        logits = self.decode(z, *context)
        if logits.dim() <= z.dim() - 1 or logits.shape[-1] != self.classes:
            raise ValueError(
                f"decoder: expected logits [n, ..., {self.classes}], got "
                f"{['n', *logits.shape[z.dim() - 1 :]]}; give it the classes as last dimension"
            )
        return logits

    def forward(self, z: Tensor, *context: Tensor) -> Distribution:
        """Return p(x|z)."""
        logits = self.logits(z, *context)
        return Categorical(logits=logits, validate_args=False).to_event(logits.dim() - z.dim())

    def point(self, z: Tensor, *context: Tensor) -> Tensor:
        """Return the most probable class of each, an integer."""
        return self.logits(z, *context).argmax(-1)

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless all of `x` are whole numbers from 0 to classes − 1."""
        if x.is_floating_point():
            super().check(x)
        low, high = x.min().item(), x.max().item()
        if low < 0 or high > self.classes - 1 or (x.is_floating_point() and (x % 1 != 0).any()):
            raise ValueError(
                f"x: expected whole numbers from 0 to {self.classes - 1}, the classes of a "
                f"CategoricalLikelihood, got {low:g} to {high:g} of {x.dtype}; number the classes "
                "from 0 or set classes="
            )
