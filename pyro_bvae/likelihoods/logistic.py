"""A mixture of logistic distributions, made discrete: the likelihood of 8-bit values."""

from torch import Tensor, nn

from pyro_bvae.checks import check_count, check_range
from pyro_bvae.likelihoods.base import Likelihood
from pyro_bvae.likelihoods.logistic_mixture import STEPS, DiscretisedLogisticMixture
from pyro_bvae.types import Distribution


class LogisticMixtureLikelihood(Likelihood):
    """p(x|z) = Π_i Σ_k π_ik [F((x_i + δ − μ_ik)/s_ik) − F((x_i − δ − μ_ik)/s_ik)], δ = 1/510.

    F is the logistic function and x_i one of 0/255, 1/255, …, 255/255: an 8-bit value divided by
    255. The lowest value takes all of the mass below it and the highest all above, so that each
    x_i has a proper distribution over 256 values. Nats, summed over x's dimensions. The decoder
    gives for each x_i the logits of π, those of μ (within [0, 1]), and log 10s, which is at least
    −4.7, in this order: `[n, *shape, 3 · components]`.

    Args:
        decoder: a module from z `[n, latents]` to `[n, *shape, 3 · components]`.
        components: how many logistics are mixed, ≥ 1.

    Raises:
        ValueError: components < 1, or the decoder's last dimension is another; from `check`, an x
            that is none of the 256 values.

    References:
        Salimans, Karpathy, Chen, Kingma (2017), PixelCNN++: Improving the PixelCNN with
        Discretized Logistic Mixture Likelihood and Other Modifications. Here the channels are
        independent given z.

    >>> import torch
    >>> from pyro_bvae.networks import mlp_decoder
    >>> likelihood = LogisticMixtureLikelihood(mlp_decoder(2, (4, 4, 15)), components=5)
    >>> likelihood(torch.zeros(3, 2)).event_shape
    torch.Size([4, 4])
    """

    def __init__(self, decoder: nn.Module, *, components: int) -> None:
        super().__init__(decoder)
        self.components = check_count(components, "components")

    def forward(self, z: Tensor, *context: Tensor) -> Distribution:
        """Return p(x|z)."""
        numbers = self.decode(z, *context)
        if numbers.dim() <= z.dim() - 1 or numbers.shape[-1] != 3 * self.components:
            raise ValueError(
                f"decoder: expected [n, ..., {3 * self.components}], three numbers for each of "
                f"{self.components} components, got {['n', *numbers.shape[z.dim() - 1 :]]}"
            )
        logits, loc, log_scale = numbers.chunk(3, dim=-1)
        fn = DiscretisedLogisticMixture(logits, loc.sigmoid(), log_scale)
        return fn.to_event(numbers.dim() - z.dim())

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless all of `x` are k/255, k = 0 … 255."""
        super().check(x)
        check_range(x, "a LogisticMixtureLikelihood")
        off = ((x * STEPS).round() / STEPS - x).abs().max().item()
        if off > 1e-3 / STEPS:
            raise ValueError(
                "x: expected 8-bit values divided by 255 for a LogisticMixtureLikelihood, got one "
                f"that is {off * STEPS:.2g} / 255 off; round them: (x * 255).round() / 255"
            )
