"""The mixture posterior: several normals with independent latents, with reparameterised draws."""

import math
from typing import Any

import torch
from pyro.distributions import Categorical, MixtureSameFamily, Normal
from torch import Tensor, nn

from pyro_bvae.checks import check_count, check_latents
from pyro_bvae.posteriors.amortised import AmortisedPosterior
from pyro_bvae.types import Distribution


class MixturePosterior(AmortisedPosterior):
    """q(z|x) = Σ_k π_k(x) N(μ_k(x), diag σ_k²(x)), π's logits, μ and log σ² linear in features.

    Draws are reparameterised implicitly, one latent after the other: with F_j the distribution
    function of z_j given z_1 … z_{j−1}, ∂z_j/∂λ = −(∂F_j/∂λ) / q(z_j | z_1 … z_{j−1}).

    Args:
        encoder: a module from x `[batch, *shape]` to features `[batch, features]`.
        latents: the number of latents, ≥ 1.
        components: how many normals are mixed, ≥ 1.
        features: the encoder's width, where it has no `.features` of its own.

    Returns (when called): batch shape `[batch]`, event shape `[latents]`.

    Raises:
        ValueError: `latents` or `components` < 1, the width is unknown, or the encoder returns
            another shape.

    References:
        Graves (2016), Stochastic Backpropagation through Mixture Density Distributions.
        Figurnov, Mohamed, Mnih (2018), Implicit Reparameterization Gradients.

    >>> from pyro_bvae.networks import mlp_encoder
    >>> q = MixturePosterior(mlp_encoder((1, 8, 8)), latents=10, components=3)
    >>> q(torch.rand(5, 1, 8, 8)).rsample().shape
    torch.Size([5, 10])
    """

    def __init__(
        self, encoder: nn.Module, latents: int, *, components: int = 2, features: int | None = None
    ) -> None:
        numbers = check_count(components, "components") * (1 + 2 * check_latents(latents))
        super().__init__(encoder, latents, numbers=numbers, features=features)
        self.components = components

    def family(self, numbers: Tensor) -> Distribution:
        """Return the mixture, λ being the logits, then μ_k and log σ_k² of each component."""
        logits, rest = numbers.tensor_split([self.components], dim=-1)
        loc, log_variance = rest.reshape(*rest.shape[:-1], self.components, -1).chunk(2, dim=-1)
        return NormalMixture(logits, loc, (0.5 * log_variance).exp())


class NormalMixture(MixtureSameFamily):
    """Σ_k π_k N(μ_k, diag σ_k²) with reparameterised draws; also of one dimension.

    Args:
        logits: of π, `[..., components]`.
        loc: μ, `[..., components, latents]`.
        scale: σ, `[..., components, latents]`.

    >>> loc = torch.zeros(2, 1, requires_grad=True)
    >>> NormalMixture(torch.zeros(2), loc, torch.ones(2, 1)).rsample().backward()
    >>> round(loc.grad.sum().item(), 5)
    1.0
    """

    has_rsample = True

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor) -> None:
        super().__init__(Categorical(logits=logits), Normal(loc, scale).to_event(1))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """Return the same for a larger batch."""
        return super().expand(batch_shape, self._get_checked_instance(NormalMixture, _instance))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw z, and give it the gradient of the inverse of its distribution functions."""
        drawn = self.sample(sample_shape)
        normal = self.component_distribution.base_dist
        log_weights = self.mixture_distribution.logits.expand(*drawn.shape[:-1], -1)
        z = []
        for j in range(drawn.shape[-1]):
            loc, scale = normal.loc[..., j], normal.scale[..., j]
            z.append(_attach(drawn[..., j], log_weights, loc, scale))
            log_weights = log_weights + _log_normal(z[-1].unsqueeze(-1), loc, scale)
        return torch.stack(z, dim=-1)


def _attach(z: Tensor, log_weights: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Return z with the gradient −dF/q of the mixture of normals it was drawn from."""
    weights, value = torch.softmax(log_weights, -1), z.unsqueeze(-1)
    cumulated = (weights * torch.special.ndtr((value - loc) / scale)).sum(-1)
    density = (weights * _log_normal(value, loc, scale).exp()).sum(-1).detach()
    smallest = torch.finfo(z.dtype).tiny
    return z - (cumulated - cumulated.detach()) / density.clamp(min=smallest)


def _log_normal(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return -(((z - loc) / scale) ** 2) / 2 - scale.log() - math.log(2 * math.pi) / 2
