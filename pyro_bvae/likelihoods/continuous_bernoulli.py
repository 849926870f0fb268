"""The continuous Bernoulli likelihood of grey values: a density on [0, 1]."""

from pyro.distributions import ContinuousBernoulli
from torch import Tensor

from pyro_bvae.checks import check_range
from pyro_bvae.likelihoods.base import Likelihood
from pyro_bvae.types import Distribution


class ContinuousBernoulliLikelihood(Likelihood):
    """p(x|z) = Π_i C(λ_i) λ_i^{x_i} (1 − λ_i)^{1 − x_i}, λ = sigmoid(f(z)), x in [0, 1].

    The cross-entropy of the Bernoulli likelihood plus log C(λ), which makes it a density of grey
    values; C(λ) = 2 artanh(1 − 2λ) / (1 − 2λ). Nats, summed over x's dimensions. The mean of x is
    not λ: it lies between λ and ½.

    Raises (from `check`):
        ValueError: a value outside [0, 1], NaN or infinite.

    References:
        Loaiza-Ganem, Cunningham (2019), The continuous Bernoulli: fixing a pervasive error in
        variational autoencoders.

    >>> import torch
    >>> from pyro_bvae.networks import mlp_decoder
    >>> likelihood = ContinuousBernoulliLikelihood(mlp_decoder(10, (1, 8, 8)))
    >>> likelihood(torch.zeros(5, 10)).event_shape
    torch.Size([1, 8, 8])
    """

    def forward(self, z: Tensor, *context: Tensor) -> Distribution:
        """Return p(x|z)."""
        logits = self.decode(z, *context)
        return ContinuousBernoulli(logits=logits).to_event(logits.dim() - z.dim() + 1)

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless all of `x` lies in [0, 1]."""
        super().check(x)
        check_range(x, "a ContinuousBernoulliLikelihood")
