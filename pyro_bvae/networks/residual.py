"""Residual convolutional networks, for images, spectrograms and sounds of any size."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import relu

from pyro_bvae.checks import check_count, check_latents
from pyro_bvae.networks.base import Decoder, Encoder
from pyro_bvae.networks.layout import FromImages, ToImages

_SMALLEST = 4


class ResidualBlock(nn.Module):
    """x + two convolutions of relu(x), in one or two dimensions.

    References:
        He, Zhang, Ren, Sun (2016), Identity Mappings in Deep Residual Networks.

    >>> import torch
    >>> ResidualBlock(3, dimensions=2)(torch.zeros(5, 3, 7, 9)).shape
    torch.Size([5, 3, 7, 9])
    """

    def __init__(self, channels: int, *, dimensions: int) -> None:
        super().__init__()
        convolution = _convolution(dimensions)
        self.first = convolution(channels, channels, 3, padding=1)
        self.second = convolution(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x and what the convolutions add to it."""
        return x + self.second(relu(self.first(relu(x))))


def residual_encoder(
    shape: Sequence[int], *, features: int = 256, channels: int = 32, blocks: int = 1
) -> Encoder:
    """Convolve x of any size down to 4 or less: `[batch, *shape]` to `[batch, features]`.

    Each stage halves every dimension that is longer than 4 (rounding up), by a convolution of
    stride 2, and then has residual blocks.

    Args:
        shape: `(channels, height, width)` of an image or a spectrogram, or `(channels, samples)`
            of a sound.
        features: the width of what comes out.
        channels: the width of every stage.
        blocks: residual blocks in each stage; 0 leaves plain convolutions.

    Raises: ValueError if the shape has neither two nor three sizes ≥ 1; when called, if x has
        another shape.

    References:
        He, Zhang, Ren, Sun (2016), Identity Mappings in Deep Residual Networks.

    >>> import torch
    >>> residual_encoder((3, 45, 60))(torch.zeros(5, 3, 45, 60)).shape
    torch.Size([5, 256])
    """
    sizes = _sizes(shape)
    convolution = _convolution(len(shape) - 1)
    layers: list[nn.Module] = [convolution(shape[0], channels, 3, padding=1)]
    for before, after in pairwise(sizes):
        stride = tuple(1 if a == b else 2 for a, b in zip(before, after, strict=True))
        layers.append(convolution(channels, channels, 3, stride=stride, padding=1))
        layers += _blocks(channels, blocks, len(shape) - 1)
    layers += [nn.ReLU(), nn.Flatten(), nn.Linear(channels * math.prod(sizes[-1]), features)]
    return Encoder(FromImages(*layers, nn.ReLU()), shape, features=features)


def residual_decoder(
    latents: int, shape: Sequence[int], *, channels: int = 32, blocks: int = 1
) -> Decoder:
    """Build x of any size up from 4 or less: z `[n, latents]` to `[n, *shape]`.

    The mirror image of `residual_encoder`: each stage enlarges by repetition, convolves, and has
    residual blocks; the last layer is linear.

    Raises: ValueError if `latents` < 1 or the shape is another than the encoder takes; when
        called, if z has another width.

    References:
        Odena, Dumoulin, Olah (2016), Deconvolution and Checkerboard Artifacts, for repetition
        before convolution.

    >>> import torch
    >>> residual_decoder(2, (1, 1000))(torch.zeros(5, 2)).shape
    torch.Size([5, 1, 1000])
    """
    sizes, convolution = _sizes(shape)[::-1], _convolution(len(shape) - 1)
    start = nn.Linear(check_latents(latents), channels * math.prod(sizes[0]))
    layers: list[nn.Module] = [start, ToImages(1, (channels, *sizes[0]))]
    for size in sizes[1:]:
        layers += [nn.Upsample(size), convolution(channels, channels, 3, padding=1)]
        layers += _blocks(channels, blocks, len(shape) - 1)
    layers += [nn.ReLU(), convolution(channels, shape[0], 3, padding=1)]
    return Decoder(nn.Sequential(*layers), latents, shape)


def _convolution(dimensions: int) -> Any:
    return nn.Conv1d if dimensions == 1 else nn.Conv2d


def _blocks(channels: int, blocks: int, dimensions: int) -> list[nn.Module]:
    return [ResidualBlock(channels, dimensions=dimensions) for _ in range(blocks)]


def _sizes(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the sizes of every stage, from that of x down to 4 or less."""
    if len(shape) not in (2, 3):
        raise ValueError(
            f"shape: expected (channels, height, width) or (channels, samples), got {tuple(shape)}"
        )
    sizes = [tuple(check_count(size, "shape") for size in shape)[1:]]
    while max(sizes[-1]) > _SMALLEST:
        sizes.append(tuple(s if s <= _SMALLEST else -(-s // 2) for s in sizes[-1]))
    return sizes
