"""Critics: networks that tell codes apart."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from pyro_bvae.checks import check_latents


class Critic(nn.Module):
    """A network from codes `[n, latents]` to one number each, `[n]`.

    Raises (when called): ValueError if z has another width.
    """

    def __init__(self, net: nn.Module, latents: int) -> None:
        super().__init__()
        self.net = net
        self.latents = latents

    def forward(self, z: Tensor) -> Tensor:
        """Return the critic's output."""
        if z.shape[1:] != (self.latents,):
            raise ValueError(
                f"z: expected shape [n, {self.latents}], got {list(z.shape)}; give the critic as "
                "many latents as the prior has"
            )
        return self.net(z).squeeze(-1)


def mlp_critic(latents: int, *, hidden: Sequence[int] = (256, 256)) -> Critic:
    """Pass codes through hidden layers with leaky ReLUs: z `[n, latents]` to `[n]`.

    Raises: ValueError if `latents` < 1, or (when called) if z has another width.

    References:
        Kim, Mnih (2018), Disentangling by Factorising, who use six layers of 1000.

    >>> import torch
    >>> mlp_critic(2)(torch.zeros(5, 2)).shape
    torch.Size([5])
    """
    widths = [check_latents(latents), *hidden]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
    return Critic(nn.Sequential(*layers, nn.Linear(widths[-1], 1)), latents)
