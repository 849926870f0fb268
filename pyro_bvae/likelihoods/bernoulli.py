"""The Bernoulli likelihood of binary and grey images."""

from pyro.distributions import Bernoulli
from torch import Tensor

from pyro_bvae.checks import check_range
from pyro_bvae.likelihoods.base import Likelihood
from pyro_bvae.types import Distribution


class BernoulliLikelihood(Likelihood):
    """p(x|z) = Π_i Bernoulli(x_i; sigmoid(f(z)_i)), the decoder f giving logits.

    log p(x|z) = Σ_i x_i log p_i + (1 − x_i) log(1 − p_i), nats, summed over x's dimensions. Grey
    values in [0, 1] are accepted, as the literature does; for them it is a cross-entropy, not the
    logarithm of a normalised density.

    Raises (from `check`):
        ValueError: a value outside [0, 1], NaN or infinite.

    References:
        Kingma, Welling (2014), Auto-Encoding Variational Bayes.

    >>> import torch
    >>> from pyro_bvae.networks import mlp_decoder
    >>> BernoulliLikelihood(mlp_decoder(10, (1, 8, 8)))(torch.zeros(5, 10)).event_shape
    torch.Size([1, 8, 8])
    """

    def forward(self, z: Tensor, *context: Tensor) -> Distribution:
        """Return p(x|z)."""
        logits = self.decode(z, *context)
        return Bernoulli(logits=logits, validate_args=False).to_event(logits.dim() - z.dim() + 1)

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless all of `x` lies in [0, 1]."""
        super().check(x)
        check_range(x, "a BernoulliLikelihood")
