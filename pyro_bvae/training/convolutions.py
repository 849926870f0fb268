"""Convolutions on a CPU as the compiler is to see them: the same sums by shorter ways."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_bvae.networks.transposed import columns, is_narrow

aten = torch.ops.aten
MOST_PARTS = 16
Ints = Sequence[int]


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return what the compiler decomposes operations to: its own choice, and convolutions ours."""
    from torch._inductor.decomposition import select_decomp_table

    return {
        **select_decomp_table(),
        aten.convolution.default: convolution,
        aten.convolution_backward.default: convolution_backward,
        aten.col2im.default: col2im,
    }


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
) -> Any:
    """Return a convolution, or `NotImplemented` where the library's own is as good.

    A transposed one to few channels is a matrix product and a sum; one of a single channel has its
    channels last, as those of several have in fast networks, so that none has to be laid out anew.
    """
    geometry = (stride, padding, dilation, transposed, output_padding, groups)
    if transposed and is_narrow(x, weight, dilation, output_padding, groups):
        return columns(x, weight, bias, stride, padding)
    laid_out = _channels_last(weight, groups)
    return NotImplemented if laid_out is weight else aten.convolution(x, laid_out, bias, *geometry)


def convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    outputs: Ints | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
    wanted: Sequence[bool],
) -> Any:
    """Return the gradients of a convolution, or `NotImplemented` for the library's own.

    A bias has the sum of the gradient. The gradients of a transposed convolution are those of the
    convolution that it transposes, with input and gradient exchanged.
    """
    plain = (stride, padding, dilation, False, [0] * len(stride), groups)
    exchanged = transposed and grad.device.type == "cpu"
    exchanged = exchanged and all(p < s for p, s in zip(output_padding, stride, strict=True))
    laid_out = _channels_last(weight, groups)
    if not (exchanged or wanted[2] or laid_out is not weight):
        return NotImplemented
    dbias = grad.sum([0, *range(2, grad.dim())]) if wanted[2] else None
    if not exchanged:
        geometry = (*plain[:3], transposed, output_padding, groups)
        dx, dweight, _ = aten.convolution_backward(
            grad, x, laid_out, None, *geometry, [*wanted[:2], False]
        )
        return dx, dweight, dbias
    dx = aten.convolution(grad, weight, None, *plain) if wanted[0] else None
    _, dweight, _ = aten.convolution_backward(
        x, grad, laid_out, None, *plain, [False, wanted[1], False]
    )
    return dx, dweight, dbias


def col2im(
    columns: Tensor, size: Ints, kernel: Ints, dilation: Ints, padding: Ints, stride: Ints
) -> Any:
    """Sum overlapping patches `[n, channels · kernel, positions]` to images `[n, channels, *size]`.

    Every pixel collects what it gets, instead of every patch adding to its pixels, one at a time.
    """
    parts = [-(-k // s) for k, s in zip(kernel, stride, strict=True)]
    few = parts[0] * parts[1] <= MOST_PARTS and all(d == 1 for d in dilation)
    if columns.device.type != "cpu" or columns.dim() != 3 or not few:
        return NotImplemented
    n, (up, across), (down, right) = len(columns), parts, stride
    h, w = (
        (length + 2 * p - k) // s + 1
        for length, p, k, s in zip(size, padding, kernel, stride, strict=True)
    )
    patches = columns.reshape(n, -1, *kernel, h, w)
    patches = F.pad(patches, (0, 0, 0, 0, 0, across * right - kernel[1], 0, up * down - kernel[0]))
    patches = patches.reshape(n, -1, up, down, across, right, h, w)
    shifted = (
        F.pad(patches[:, :, i, :, j], (j, across - 1 - j, i, up - 1 - i))
        for i in range(up)
        for j in range(across)
    )
    canvas = reduce(torch.add, shifted).permute(0, 1, 4, 2, 5, 3)
    rows, wide = (h + up - 1) * down, (w + across - 1) * right
    images = canvas.reshape(n, -1, rows, wide)
    top, left = padding
    return F.pad(images, (-left, size[1] + left - wide, -top, size[0] + top - rows))


def _channels_last(weight: Tensor, groups: int) -> Tensor:
    """Return a weight `[outputs, 1, k, k]` with the strides that say that channels come last."""
    if groups != 1 or weight.dim() != 4 or weight.shape[1] != 1 or weight.device.type != "cpu":
        return weight
    strides = (weight[0].numel(), 1, weight.shape[3], 1)
    return (
        weight
        if weight.stride() == strides
        else weight.contiguous().as_strided(weight.shape, strides)
    )
