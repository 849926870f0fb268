"""How images lie in memory, and a transposed convolution as a sum of patches of them."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

FEW = 3


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


def is_narrow(
    x: Tensor, weight: Tensor, dilation: Sequence[int], output_padding: Sequence[int], groups: int
) -> bool:
    """Whether a transposed convolution is one that `columns` does sooner.

    It makes a number for each of the kernel and the output channels at every pixel: memory, and
    time, that is no more than twice the input's.
    """
    return (
        x.dim() == 4
        and x.device.type == "cpu"
        and weight.shape[1] <= FEW
        and weight[0].numel() <= 2 * len(weight)
        and groups == 1
        and all(d == 1 for d in dilation)
        and not any(output_padding)
    )


def columns(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """Return a transposed convolution as matrix product and overlapping sum."""
    n, inputs, height, width = x.shape
    kernel = (weight.shape[2], weight.shape[3])
    rows, across = (
        (length - 1) * s - 2 * p + k
        for length, s, p, k in zip((height, width), stride, padding, kernel, strict=True)
    )
    product = weight.flatten(1).t() @ x.reshape(n, inputs, height * width)
    y = F.fold(product, (rows, across), kernel, padding=tuple(padding), stride=tuple(stride))
    return y if bias is None else y + bias[:, None, None]
