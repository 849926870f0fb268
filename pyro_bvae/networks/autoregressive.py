"""A network whose j-th output depends on the inputs before the j-th alone."""

import torch
from pyro.nn.auto_reg_nn import MaskedLinear
from torch import Tensor, nn


class Autoregressive(nn.Module):
    """Numbers for every dimension of z, from the dimensions before it: a masked network (MADE).

    z `[..., latents]`, and an optional shift `[..., hidden]` of its hidden layer, which may carry
    any context, to `[..., latents, numbers]`. Row j depends on z_1 … z_{j−1} (or, `backwards`, on
    z_{j+1} …) and on the shift. It starts close to 0.

    References:
        Germain, Gregor, Murray, Larochelle (2015), MADE: Masked Autoencoder for Distribution
        Estimation.

    >>> Autoregressive(3, numbers=2, hidden=8)(torch.zeros(5, 3)).shape
    torch.Size([5, 3, 2])
    """

    def __init__(self, latents: int, *, numbers: int, hidden: int, backwards: bool = False) -> None:
        super().__init__()
        places = torch.arange(latents)
        places = places.flip(0) if backwards else places
        units = torch.arange(hidden) % latents
        dtype = torch.get_default_dtype()
        into, out_of = units[:, None] > places, places[:, None] >= units
        self.first = MaskedLinear(latents, hidden, into.to(dtype))
        self.last = MaskedLinear(
            hidden, latents * numbers, out_of.repeat_interleave(numbers, 0).to(dtype)
        )
        with torch.no_grad():
            self.last.weight.mul_(0.1)
            self.last.bias.zero_()
        self.numbers = numbers

    def forward(self, z: Tensor, shift: Tensor | None = None) -> Tensor:
        """Return the numbers of every dimension."""
        hidden = self.first(z)
        if shift is not None:
            hidden = hidden + shift
        out = self.last(torch.tanh(hidden))
        return out.reshape(*out.shape[:-1], -1, self.numbers)
