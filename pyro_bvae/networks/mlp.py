"""Fully connected networks; with no hidden layer they are linear."""

import math
from collections.abc import Sequence

from torch import nn

from pyro_bvae.checks import check_latents
from pyro_bvae.networks.base import Decoder, Encoder, dense


def mlp_encoder(shape: Sequence[int], *, hidden: Sequence[int] = (128,)) -> Encoder:
    """Flatten x and pass it through hidden layers: x `[batch, *shape]` to `[batch, hidden[-1]]`.

    With `hidden=()` it only flattens, which makes a posterior's head linear in x.

    Raises (when called): ValueError if x has another shape.

    >>> mlp_encoder((1, 8, 8), hidden=(128, 32)).features
    32
    """
    widths = [math.prod(shape), *hidden]
    return Encoder(nn.Sequential(nn.Flatten(), *dense(widths)), shape, features=widths[-1])


def mlp_decoder(latents: int, shape: Sequence[int], *, hidden: Sequence[int] = (128,)) -> Decoder:
    """Pass z through hidden layers and one linear layer: z `[n, latents]` to `[n, *shape]`.

    With `hidden=()` it is one linear map.

    Raises: ValueError if `latents` < 1, or (when called) if z has another width.

    >>> import torch
    >>> mlp_decoder(2, (1, 8, 8))(torch.zeros(5, 2)).shape
    torch.Size([5, 1, 8, 8])
    """
    widths = [check_latents(latents), *hidden]
    last = nn.Linear(widths[-1], math.prod(shape))
    net = nn.Sequential(*dense(widths), last, nn.Unflatten(1, tuple(shape)))
    return Decoder(net, latents, shape)
