"""Invertible autoregressive layers, which Pyro's distributions take as transforms."""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import constraints
from torch import Tensor, nn
from torch.distributions import Transform

from pyro_bvae.checks import check_count, check_latents
from pyro_bvae.networks.autoregressive import Autoregressive
from pyro_bvae.networks.spline import spline

KINDS = ("affine", "spline")
_MOST = 3.0


class Flow(nn.Module):
    """Layers u → z, each z_j a monotone function of u_j whose parameters depend on u_1 … u_{j−1}.

    The functions are z_j = e^a u_j + b (`"affine"`, |a| < 3) or rational-quadratic splines
    (`"spline"`); every second layer counts the dimensions backwards. It starts close to the
    identity. u → z takes one pass through the networks, z → u as many as there are dimensions.

    Args:
        latents: the number of dimensions; for `"affine"` at least 2.
        kind: `"affine"` or `"spline"`.
        layers: how many, ≥ 1.
        hidden: the width of each layer's network.
        bins: of each spline.

    Raises:
        ValueError: another kind, a number < 1, or an affine flow of one dimension.

    References:
        Kingma et al. (2016), Improving Variational Inference with Inverse Autoregressive Flow.
        Durkan, Bekasov, Murray, Papamakarios (2019), Neural Spline Flows.

    >>> [layer] = Flow(3, kind="affine", layers=1, hidden=8).transforms()
    >>> layer(torch.randn(5, 3)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self, latents: int, *, kind: str, layers: int = 2, hidden: int = 32, bins: int = 8
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind: expected one of {KINDS}, got {kind!r}")
        if check_latents(latents) == 1 and kind == "affine":
            raise ValueError(
                "latents: an affine autoregressive flow of 1 latent would be a normal, expected "
                'at least 2; use kind="spline"'
            )
        numbers = 2 if kind == "affine" else 3 * check_count(bins, "bins") - 1
        self.function = _affine if kind == "affine" else spline
        self.networks = nn.ModuleList(
            Autoregressive(
                latents,
                numbers=numbers,
                hidden=check_count(hidden, "hidden"),
                backwards=layer % 2 == 1,
            )
            for layer in range(check_count(layers, "layers"))
        )

    def transforms(self, shift: Tensor | None = None) -> list[Transform]:
        """Return the layers, given a shift `[..., hidden]` of their hidden layers (context)."""
        return [AutoregressiveTransform(net, self.function, shift) for net in self.networks]


class AutoregressiveTransform(Transform):
    """One layer u → z, with what it is conditioned on."""

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, network: nn.Module, function: Any, shift: Tensor | None) -> None:
        super().__init__(cache_size=1)
        self.network = network
        self.function = function
        self.shift = shift
        self._known: Sequence[Any] = (None, None, None)

    def _numbers(self, u: Tensor) -> Tensor:
        shift = self.shift
        if shift is not None:
            batch = torch.broadcast_shapes(u.shape[:-1], shift.shape[:-1])
            u, shift = u.expand(*batch, u.shape[-1]), shift.expand(*batch, shift.shape[-1])
        return self.network(u, shift)

    def _call(self, u: Tensor) -> Tensor:
        z, log_slopes = self.function(u, self._numbers(u))
        self._known = u, z, log_slopes.sum(-1)
        return z

    def _inverse(self, z: Tensor) -> Tensor:
        u = torch.zeros_like(z)
        for _ in range(z.shape[-1]):
            u, log_slopes = self.function(z, self._numbers(u), inverse=True)
        self._known = u, z, -log_slopes.sum(-1)
        return u

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return log |det dz/du| `[...]`."""
        u, z, log_det = self._known
        if x is not u or y is not z:
            log_det = self.function(x, self._numbers(x))[1].sum(-1)
        return log_det


def _affine(x: Tensor, numbers: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Carry x to e^a x + b, or back."""
    log_slope, shift = _MOST * torch.tanh(numbers[..., 0] / _MOST), numbers[..., 1]
    if inverse:
        return (x - shift) * (-log_slope).exp(), -log_slope
    return x * log_slope.exp() + shift, log_slope
