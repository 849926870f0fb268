"""The normal likelihood, with its σ a number, a parameter, or the best one for each batch."""

from pyro.distributions import Normal
from torch import Tensor, nn

from pyro_bvae.likelihoods.optimal import OptimalScale, ProfileNormal
from pyro_bvae.likelihoods.scaled import ScaledLikelihood
from pyro_bvae.types import Distribution


class NormalLikelihood(ScaledLikelihood):
    """p(x|z) = N(f(z), σ² I), or with a σ for every pixel; f is the decoder.

    log p(x|z) = −(D/2) log 2πσ² − ‖x − f(z)‖²/2σ², nats, summed over the D dimensions of x. A
    loss of half the squared error is σ = 1; of the squared error, σ² = ½.

    With `scale="optimal"` (the σ-VAE) a module in training mode puts into log p(x|z) the σ² that
    is best for the x it is given, σ̂² = mean over batch and dimensions of (x − f(z))², but at
    least e⁻¹²: the sum over the batch is then −(BD/2)(log 2πσ̂² + 1). It has the gradient of that
    sum, σ̂ being its maximum. Such values are no densities of x; in evaluation mode, and for
    draws, σ is fixed: that of the batches it was trained on, the last ones weighing most (1
    before any).

    Args:
        decoder: a module from z `[n, latents]` to means `[n, *shape]`.
        scale: σ. A number > 0 (fixed), `"learned"` (one, from 1), `"per_pixel"` (learned) or
            `"optimal"`.
        shape: the shape of one x, needed for `"per_pixel"` where the decoder has no `.shape`.

    Raises:
        ValueError: σ not positive, or `"per_pixel"` without a shape.

    References:
        Rybkin, Daniilidis, Levine (2021), Simple and Effective VAE Training with Calibrated
        Decoders, for the learned and the optimal σ.

    >>> import torch
    >>> from pyro_bvae.networks import mlp_decoder
    >>> likelihood = NormalLikelihood(mlp_decoder(2, (5,)), scale="learned")
    >>> likelihood(torch.zeros(3, 2)).batch_shape
    torch.Size([3])
    """

    def _scale(self, scale: float | str, learned: dict[str, tuple[int, ...]]) -> nn.Module:
        return OptimalScale() if scale == "optimal" else super()._scale(scale, learned)

    def family(self, loc: Tensor) -> Distribution:
        """Return N(f(z), σ²)."""
        if isinstance(self.scale, OptimalScale) and self.training:
            return ProfileNormal(loc, self.scale)
        return Normal(loc, self.scale())
