"""The flow posterior: a normal bent by invertible layers that depend on x."""

from pyro.distributions import Normal, TransformedDistribution
from torch import Tensor, nn
from torch.distributions import AffineTransform

from pyro_bvae.checks import check_count, check_latents
from pyro_bvae.networks.flow import Flow
from pyro_bvae.posteriors.amortised import AmortisedPosterior
from pyro_bvae.types import Distribution


class FlowPosterior(AmortisedPosterior):
    """q(z|x): z = μ(x) + σ(x) ⊙ T(u; h(x)), u ~ N(0, I), T an inverse autoregressive flow.

    μ, log σ² and h, which shifts the hidden layers of T's networks, are linear in the encoder's
    features. A draw and its density take one pass; the density of another z takes as many passes
    as there are latents. q has no mean in closed form: the point that stands for x (`code`) is
    the image of the base's mean, μ(x) + σ(x) ⊙ T(0; h(x)).

    Args:
        encoder: a module from x `[batch, *shape]` to features `[batch, features]`.
        latents: the number of latents, ≥ 1; ≥ 2 for `kind="affine"`.
        kind: `"affine"` (inverse autoregressive flow) or `"spline"` (neural spline flow).
        layers: how many layers T has.
        hidden: the width of each layer's network.
        bins: of each spline.
        features: the encoder's width, where it has no `.features` of its own.

    Returns (when called): batch shape `[batch]`, event shape `[latents]`.

    Raises:
        ValueError: `latents` < 1, or 1 for an affine flow; the kind, or the encoder's width, is
            unknown; the encoder returns another shape.

    References:
        Kingma et al. (2016), Improving Variational Inference with Inverse Autoregressive Flow.
        Durkan, Bekasov, Murray, Papamakarios (2019), Neural Spline Flows.

    >>> import torch
    >>> from pyro_bvae.networks import mlp_encoder
    >>> q = FlowPosterior(mlp_encoder((1, 8, 8)), latents=10, kind="spline")
    >>> q(torch.rand(5, 1, 8, 8)).event_shape
    torch.Size([10])
    """

    def __init__(
        self,
        encoder: nn.Module,
        latents: int,
        *,
        kind: str = "affine",
        layers: int = 2,
        hidden: int = 32,
        bins: int = 8,
        features: int | None = None,
    ) -> None:
        numbers = 2 * check_latents(latents) + check_count(hidden, "hidden")
        super().__init__(encoder, latents, numbers=numbers, features=features)
        self.flow = Flow(latents, kind=kind, layers=layers, hidden=hidden, bins=bins)

    def family(self, numbers: Tensor) -> Distribution:
        """Return the flow, λ being μ, log σ² and h."""
        loc, log_variance = numbers[..., : 2 * self.latents].chunk(2, dim=-1)
        base = Normal(loc.new_zeros(()), 1.0).expand(loc.shape).to_event(1)
        bend = self.flow.transforms(numbers[..., 2 * self.latents :])
        place = AffineTransform(loc, (0.5 * log_variance).exp(), event_dim=1, cache_size=1)
        return TransformedDistribution(base, [*bend, place])

    def point(self, q: Distribution) -> Tensor:
        """Return the image of the base's mean, `[batch, latents]`."""
        z = q.base_dist.mean
        for transform in q.transforms:
            z = transform(z)
        return z
