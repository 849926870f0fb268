"""Networks that take context: what is known of a datum beside x or z, such as its class."""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.poutine.util import is_validation_enabled
from torch import Tensor, nn

from pyro_bvae.checks import check_count


class OneHot(nn.Module):
    """Class numbers `[batch]`, 0 … classes − 1, as vectors `[batch, classes]` of zeros and a one.

    Raises: ValueError if `classes` < 1 or, when called while Pyro's validation is on, for a
        number that is no class; TypeError for numbers that are not integers.

    >>> OneHot(3)(torch.tensor([2, 0]))
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """

    rows: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = check_count(classes, "classes")
        self.register_buffer("rows", torch.eye(classes), persistent=False)

    def forward(self, labels: Tensor) -> Tensor:
        """Return the vectors."""
        check_labels(labels, self.features)
        return self.rows[labels]


def check_labels(labels: Any, classes: int, *, missing: bool = False) -> None:
    """Raise unless these are class numbers `[batch]`; −1 is one too where some may be missing.

    The values are read only while Pyro's validation is on.
    """
    low = -1 if missing else 0
    expected = f"expected integers [batch] from {low} to {classes - 1}"
    hint = ", −1 where the class is not known" if missing else ""
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        what = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels: {expected}{hint}, got {what}; use torch.as_tensor(labels).long()")
    if labels.dim() != 1 or len(labels) == 0:
        raise ValueError(f"labels: {expected}{hint}, got shape {list(labels.shape)}")
    if is_validation_enabled() and not (low <= int(labels.min()) <= int(labels.max()) < classes):
        raise ValueError(
            f"labels: {expected}{hint}, got {int(labels.min())} to {int(labels.max())}; number the "
            "classes from 0"
        )


class ContextEncoder(nn.Module):
    """An encoder of x and its context: `encoder(x joined with context)`.

    For an encoder of vectors, one whose `.shape` has one dimension, x and context are flattened
    and put end to end; for one of images the context becomes channels beside x's, a vector the
    same at every pixel.

    Args:
        encoder: a network for the joined shape: `mlp_encoder((pixels + 10,))`, or
            `conv_encoder((channels + 10, size, size))`.
        embed: a module from the context to the tensor that is joined, such as `OneHot(10)` or
            `nn.Embedding(10, 4)`; without one the context is joined as it is.

    Raises (when called): ValueError if the joined shape is another than the encoder's.

    References:
        Sohn, Lee, Yan (2015), Learning Structured Output Representation using Deep Conditional
        Generative Models.

    >>> from pyro_bvae.networks import mlp_encoder
    >>> encoder = ContextEncoder(mlp_encoder((64 + 10,)), OneHot(10))
    >>> encoder(torch.zeros(2, 1, 8, 8), torch.tensor([3, 9])).shape
    torch.Size([2, 128])
    """

    def __init__(self, encoder: nn.Module, embed: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.embed = embed

    @property
    def features(self) -> int | None:
        """The encoder's width, if it tells."""
        return getattr(self.encoder, "features", None)

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Return the features of x, given the context."""
        context = _embedded(self.embed, context)
        expected = getattr(self.encoder, "shape", None)
        images = len(x.shape[1:] if expected is None else expected) > 1
        joined = _as_channels(x, context) if images else _flat(x, context)
        if expected is not None and joined.shape[1:] != tuple(expected):
            raise ValueError(
                f"context: x {list(x.shape)} joined with {_shapes(context)} has shape "
                f"{list(joined.shape)}, but the encoder is for [batch, "
                f"{', '.join(map(str, expected))}]; build the encoder for the joined shape"
            )
        return self.encoder(joined)


class ContextDecoder(nn.Module):
    """A decoder of z and a context: `decoder(z and the flattened context, end to end)`.

    Args:
        decoder: a network for the joined width: `mlp_decoder(latents + 10, shape)`.
        embed: a module from the context to the tensor that is joined, as in `ContextEncoder`.

    Raises (when called): ValueError if the joined width is another than the decoder's.

    References:
        Sohn, Lee, Yan (2015), Learning Structured Output Representation using Deep Conditional
        Generative Models.

    >>> from pyro_bvae.networks import mlp_decoder
    >>> decoder = ContextDecoder(mlp_decoder(2 + 10, (1, 8, 8)), OneHot(10))
    >>> decoder(torch.zeros(2, 2), torch.tensor([3, 9])).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, decoder: nn.Module, embed: nn.Module | None = None) -> None:
        super().__init__()
        self.decoder = decoder
        self.embed = embed

    @property
    def shape(self) -> Sequence[int] | None:
        """The shape of one x, if the decoder tells."""
        return getattr(self.decoder, "shape", None)

    def forward(self, z: Tensor, *context: Tensor) -> Tensor:
        """Return what z decodes to, given the context."""
        context = _embedded(self.embed, context)
        joined = _flat(z, context)
        expected = getattr(self.decoder, "latents", joined.shape[1])
        if joined.shape[1] != expected:
            raise ValueError(
                f"context: z {list(z.shape)} joined with {_shapes(context)} has {joined.shape[1]} "
                f"numbers, but the decoder is for {expected}; build the decoder for latents plus "
                "the context's width"
            )
        return self.decoder(joined)


class NoContext(nn.Module):
    """A network that is given a context and leaves it out.

    >>> from pyro_bvae.networks import mlp_encoder
    >>> NoContext(mlp_encoder((3,)))(torch.zeros(2, 3), torch.tensor([3, 9])).shape
    torch.Size([2, 128])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for name in ("features", "shape", "latents"):
            if hasattr(network, name):
                setattr(self, name, getattr(network, name))

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Return the network of x or z alone."""
        return self.network(x)


def _embedded(embed: nn.Module | None, context: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return what is joined, real numbers all."""
    context = context if embed is None else (embed(*context),)
    for one in context:
        if not one.is_floating_point():
            raise TypeError(
                f"context: expected real numbers to join, got {one.dtype}; give class numbers an "
                "embed module, such as OneHot(classes), and convert other integers to floats"
            )
    return context


def _flat(x: Tensor, context: Sequence[Tensor]) -> Tensor:
    parts = [part.reshape(len(part), -1) for part in (x, *context)]
    return torch.cat([part.to(x.dtype) for part in parts], 1)


def _as_channels(x: Tensor, context: Sequence[Tensor]) -> Tensor:
    channels = []
    for one in context:
        if one.dim() <= 2:
            flat = one.reshape(len(one), -1)
            one = flat[(..., *[None] * (x.dim() - 2))].expand(*flat.shape, *x.shape[2:])
        if one.shape[2:] != x.shape[2:]:
            raise ValueError(
                f"context: expected vectors [batch, width] or images of the size of x "
                f"{list(x.shape)}, got {list(one.shape)}; resize it, or give an embed module"
            )
        channels.append(one.to(x.dtype))
    return torch.cat([x, *channels], 1)


def _shapes(context: Sequence[Tensor]) -> str:
    return ", ".join(str(list(one.shape)) for one in context) or "no context"
