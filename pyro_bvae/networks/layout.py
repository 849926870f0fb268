"""Images in memory with their channels last, where convolutions on a CPU are fastest."""

from torch import Tensor, nn


class FromImages(nn.Sequential):
    """Layers, one after the other, that get images `[n, channels, h, w]` in a fast layout."""

    def forward(self, input: Tensor) -> Tensor:
        """Return what the last layer gives."""
        return super().forward(_fast(input))


class ToImages(nn.Unflatten):
    """`nn.Unflatten` to images `[n, channels, h, w]` in a fast layout."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the images."""
        return _fast(super().forward(input))


def channels_last(x: Tensor) -> Tensor:
    """Return `[n, channels, ...]` with channels last, by its strides in every dimension.

    torch goes by strides in choosing how a convolution's result is laid out, also by those of
    dimensions of length one, which `Tensor.contiguous` leaves as they are.

    >>> import torch
    >>> channels_last(torch.zeros(2, 1, 3, 4)).stride()
    (12, 1, 4, 1)
    """
    last = in_order(x.squeeze(1)).unsqueeze(-1) if x.shape[1] == 1 else in_order(x.movedim(1, -1))
    return last.movedim(-1, 1)


def in_order(x: Tensor) -> Tensor:
    """Return a tensor with the strides of one that was made in this shape."""
    return x.contiguous().flatten().view(x.shape)


def _fast(x: Tensor) -> Tensor:
    return channels_last(x) if x.device.type == "cpu" and x.dim() == 4 else x
