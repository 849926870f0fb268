"""Convolutions as the compiler is to see them: the same sums, by shorter ways on a CPU."""

from collections.abc import Callable, Sequence
from functools import reduce, wraps
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

from pyro_bvae.networks.transposed import columns, is_narrow

aten = torch.ops.aten
MOST_SHIFTS = 16


class Geometry(NamedTuple):
    """The arguments of a convolution that are no tensors."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    transposed: bool
    output_padding: Sequence[int]
    groups: int


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return what the compiler decomposes operations to: its own choice, and convolutions ours."""
    from torch._inductor.decomposition import select_decomp_table

    ours: dict[Any, Callable[..., Any]] = {
        aten.convolution.default: convolution,
        aten.convolution_backward.default: convolution_backward,
        aten.col2im.default: col2im,
    }
    return {**select_decomp_table(), **{op: _laid_out_as_by(op, ours[op]) for op in ours}}


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Any:
    """Return a convolution, or `NotImplemented` where the library's own is as good.

    A transposed one to few channels is a matrix product and a sum. All others in two dimensions
    have their channels last.
    """
    _, _, dilation, transposed, output_padding, groups = given = Geometry(*geometry)
    if transposed and is_narrow(x, weight, dilation, output_padding, groups):
        return columns(x, weight, bias, given.stride, given.padding)
    if not _is_planar(x) or (_is_last(x) and _is_last(weight)):
        return NotImplemented
    return aten.convolution(channels_last(x), channels_last(weight), bias, *geometry)


def convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, outputs: Any, *arguments: Any
) -> Any:
    """Return the gradients of a convolution, or `NotImplemented` for the library's own.

    A bias has the sum of the gradient. A transposed convolution has the gradients of the one that
    it transposes, where what goes in and the gradient have changed places.
    """
    *geometry, wanted = arguments
    given = Geometry(*geometry)
    tensors = [grad, x, weight]
    laid_out = not _is_planar(x) or all(map(_is_last, tensors))
    changed = grad.device.type == "cpu" and given.transposed
    changed = changed and all(map(int.__lt__, given.output_padding, given.stride))
    if laid_out and not changed and not wanted[2]:
        return NotImplemented
    dbias = grad.sum([0, *range(2, grad.dim())]) if wanted[2] else None
    grad, x, weight = tensors if laid_out else map(channels_last, tensors)
    if changed:
        plain = given._replace(transposed=False, output_padding=[0] * len(given.stride))
        dx = aten.convolution(grad, weight, None, *plain) if wanted[0] else None
        mask = [False, wanted[1], False]
        return dx, aten.convolution_backward(x, grad, weight, None, *plain, mask)[1], dbias
    mask = [*wanted[:2], False]
    dx, dweight, _ = aten.convolution_backward(grad, x, weight, None, *geometry, mask)
    return dx, dweight, dbias


def col2im(
    columns: Tensor,
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Any:
    """Sum overlapping patches `[n, channels · kernel, positions]` to images `[n, channels, *size]`.

    Every pixel collects what it gets, instead of every patch adding to its pixels, one at a time.
    """
    (up, across), (down, right) = (-(-k // s) for k, s in zip(kernel, stride, strict=True)), stride
    few = up * across <= MOST_SHIFTS and all(d == 1 for d in dilation)
    if columns.device.type != "cpu" or columns.dim() != 3 or not few:
        return NotImplemented
    n = len(columns)
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


def channels_last(x: Tensor) -> Tensor:
    """Return `[n, channels, h, w]` with channels last, by its strides also if there is but one.

    torch goes by strides in choosing how a convolution's result is laid out, and takes those that
    a single channel has by default for channels first.

    >>> channels_last(torch.zeros(2, 1, 3, 4)).stride()
    (12, 1, 4, 1)
    """
    if x.shape[1] != 1:
        return x.contiguous(memory_format=torch.channels_last)
    return x.contiguous().squeeze(1).unsqueeze(-1).permute(0, 3, 1, 2)


def _is_planar(x: Tensor) -> bool:
    return x.dim() == 4 and x.device.type == "cpu" and x.numel() > 0


def _is_last(x: Tensor) -> bool:
    if x.shape[1] != 1:
        return x.is_contiguous(memory_format=torch.channels_last)
    return x.stride() == (x[0].numel(), 1, x.shape[3], 1)


def _laid_out_as_by(operation: Any, decomposition: Callable[..., Any]) -> Callable[..., Any]:
    """Give results the layout that the operation itself gives them, which later views rely on."""

    @wraps(decomposition)
    def decomposed(*args: Any) -> Any:
        results = decomposition(*args)
        if results is NotImplemented:
            return results
        with disable_proxy_modes_tracing():
            expected = operation(*args)
        if isinstance(results, Tensor):
            return _like(results, expected)
        return tuple(
            r if r is None else _like(r, e) for r, e in zip(results, expected, strict=True)
        )

    return decomposed


def _like(x: Tensor, expected: Tensor) -> Tensor:
    strides = zip(x.shape, x.stride(), expected.stride(), strict=True)
    if all(mine == its for length, mine, its in strides if length > 1):
        return x
    is_last = expected.dim() == 4 and expected.is_contiguous(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last if is_last else torch.contiguous_format)
