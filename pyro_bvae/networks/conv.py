"""The two convolutional networks of the disentanglement literature, for images of any size 2^k."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from pyro_bvae.checks import check_latents
from pyro_bvae.images import FEW
from pyro_bvae.networks.base import Decoder, Encoder, dense
from pyro_bvae.networks.layout import FromImages, ToImages
from pyro_bvae.networks.transposed import NarrowConvTranspose2d


class _Architecture(NamedTuple):
    """Channels and kernel of the first two and of the further layers, and dense layers."""

    channels: tuple[int, int]
    kernels: tuple[int, int]
    dense_encoder: int
    dense_decoder: int


_ARCHITECTURES = {
    "burgess": _Architecture((32, 32), (4, 4), dense_encoder=2, dense_decoder=2),
    "locatello": _Architecture((32, 64), (4, 2), dense_encoder=1, dense_decoder=1),
}


def _architecture(net: str, shape: Sequence[int]) -> tuple[_Architecture, list[int], list[int]]:
    """Return the architecture and its channels and kernels for images of this shape."""
    if net not in _ARCHITECTURES:
        raise ValueError(f"net: expected one of {sorted(_ARCHITECTURES)}, got {net!r}")
    size = shape[-1]
    if len(shape) != 3 or shape[1] != size or size < 8 or size & (size - 1) or shape[0] < 1:
        raise ValueError(
            "shape: expected (channels, size, size) with a size that is a power of two >= 8, got "
            f"{tuple(shape)}; resize or pad the images, or use mlp_encoder and mlp_decoder"
        )
    architecture = _ARCHITECTURES[net]
    depth = size.bit_length() - 3
    which = [0 if layer < 2 else 1 for layer in range(depth)]
    channels = [architecture.channels[i] for i in which]
    return architecture, channels, [architecture.kernels[i] for i in which]


def conv_encoder(shape: Sequence[int], *, features: int = 256, net: str = "locatello") -> Encoder:
    """Convolve images down to 4×4, then dense layers: `[batch, *shape]` to `[batch, features]`.

    Each convolution halves the image. At 64×64, `"locatello"` has 32, 32, 64, 64 channels with
    kernels 4, 4, 2, 2 and one dense layer; `"burgess"` 32 channels with kernel 4 throughout and
    two dense layers. Smaller or larger images take layers from, or add them to, the end.

    Args:
        shape: `(channels, size, size)`, the size a power of two ≥ 8.
        features: the width of the dense layers and of what comes out.
        net: `"locatello"` or `"burgess"`.

    Raises:
        ValueError: another shape or name; when called, an x of another shape.

    References:
        Locatello et al. (2019), Challenging Common Assumptions in the Unsupervised Learning of
        Disentangled Representations. Burgess et al. (2018), Understanding disentangling in β-VAE.

    >>> conv_encoder((1, 64, 64), features=256).features
    256
    """
    architecture, channels, kernels = _architecture(net, shape)
    layers: list[nn.Module] = []
    for before, after, kernel in zip([shape[0], *channels], channels, kernels, strict=False):
        layers += [nn.Conv2d(before, after, kernel, 2, (kernel - 2) // 2), nn.ReLU()]
    layers.append(nn.Flatten())
    widths = [16 * channels[-1]] + architecture.dense_encoder * [features]
    layers += dense(widths)
    return Encoder(FromImages(*layers), shape, features=features)


def conv_decoder(
    latents: int, shape: Sequence[int], *, features: int = 256, net: str = "locatello"
) -> Decoder:
    """Dense layers to 4×4, then transposed convolutions: `[n, latents]` to `[n, *shape]`.

    The mirror image of `conv_encoder`, with kernel 4 throughout; the last layer is linear.

    Raises:
        ValueError: `latents` < 1, another shape or name; when called, a z of another width.

    References:
        As for `conv_encoder`.

    >>> import torch
    >>> conv_decoder(10, (3, 32, 32), net="burgess")(torch.zeros(5, 10)).shape
    torch.Size([5, 3, 32, 32])
    """
    architecture, channels, _ = _architecture(net, shape)
    widths = [check_latents(latents), *(architecture.dense_decoder * [features])]
    widths.append(16 * channels[-1])
    layers: list[nn.Module] = [*dense(widths), ToImages(1, (channels[-1], 4, 4))]
    for before, after in zip(channels[::-1], [*channels[-2::-1], shape[0]], strict=True):
        layer = NarrowConvTranspose2d if after <= FEW else nn.ConvTranspose2d
        layers += [layer(before, after, 4, 2, 1), nn.ReLU()]
    return Decoder(nn.Sequential(*layers[:-1]), latents, shape)
