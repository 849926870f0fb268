"""Networks that know, and check, the shapes they take and give."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class Encoder(nn.Module):
    """A network from x `[batch, *shape]` to features `[batch, features]`.

    Raises (when called): ValueError if x has another rank, channel count or size, or is of whole
        numbers where there is no embedding for them.
    """

    def __init__(self, net: nn.Module, shape: Sequence[int], *, features: int) -> None:
        super().__init__()
        self.net = net
        self.shape = tuple(shape)
        self.features = features
        self._embeds = any(isinstance(layer, nn.Embedding) for layer in net.modules())

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of x."""
        if x.dim() == 0 or x.shape[1:] != self.shape:
            raise ValueError(
                f"x: expected shape [batch, {', '.join(map(str, self.shape))}], got "
                f"{list(x.shape)}; reshape x or build the networks for its shape"
            )
        if not (self._embeds or x.is_floating_point()):
            raise ValueError(
                f"x: expected floating-point numbers for a network, got {x.dtype}; convert it, "
                "x.float(), or give tokens to a recurrent_encoder"
            )
        return self.net(x)


class Decoder(nn.Module):
    """A network from z `[n, latents]` to `[n, *shape]`.

    Raises (when called): ValueError if z has another width.
    """

    def __init__(self, net: nn.Module, latents: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.net = net
        self.latents = latents
        self.shape = tuple(shape)

    def forward(self, z: Tensor) -> Tensor:
        """Return what z decodes to."""
        if z.shape[1:] != (self.latents,):
            raise ValueError(
                f"z: expected shape [n, {self.latents}], got {list(z.shape)}; "
                "give decoder, prior and posterior the same number of latents"
            )
        return self.net(z)


def dense(widths: Sequence[int]) -> list[nn.Module]:
    """Return linear layers of these widths, each followed by a ReLU."""
    return [
        layer
        for before, after in pairwise(widths)
        for layer in (nn.Linear(before, after), nn.ReLU())
    ]
