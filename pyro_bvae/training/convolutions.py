"""Convolutions as the compiler is to see them: the same sums, by shorter ways on a CPU."""

from collections.abc import Callable, Sequence
from functools import cache, reduce, wraps
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.utils._pytree import tree_map

from pyro_bvae.images import channels_last, columns, in_order, is_narrow

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

    @classmethod
    def of(cls, arguments: Sequence[Any], weight: Tensor) -> "Geometry":
        """Read arguments, where one number may stand for every dimension."""
        dims = weight.dim() - 2
        every = (a if isinstance(a, int) or len(a) == dims else [*a] * dims for a in arguments)
        return cls(*every)  # type: ignore[arg-type]


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return what the compiler decomposes operations to: its own choice, and convolutions ours."""
    from torch._inductor.decomposition import select_decomp_table

    table = dict(select_decomp_table())
    for operation, ours in (
        (aten.convolution.default, convolution),
        (aten.convolution_backward.default, convolution_backward),
        (aten.col2im.default, col2im),
    ):
        table[operation] = _laid_out_as_by(operation, ours, table.get(operation))
    return table


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Any:
    """Return a convolution, or `NotImplemented` to leave it to the compiler.

    On a CPU, a transposed one to few channels is a matrix product and a sum, and all others in two
    dimensions, of more than one image in single precision or less, have their channels last.
    """
    given = Geometry.of(arguments, weight)
    if given.transposed and is_narrow(
        x, weight, given.dilation, given.output_padding, given.groups
    ):
        return columns(x, weight, bias, given.stride, given.padding)
    if (_is_last(x) and _is_last(weight)) or not _may_be_last(x, weight, given):
        return NotImplemented
    return aten.convolution(channels_last(x), channels_last(weight), bias, *given)


def convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, outputs: Any, *arguments: Any
) -> Any:
    """Return the gradients of a convolution, or `NotImplemented` to leave them to the compiler.

    A bias has the sum of the gradient. A transposed convolution has the gradients of the one that
    it transposes, where what goes in and the gradient have changed places.
    """
    given, wanted = Geometry.of(arguments[:-1], weight), arguments[-1]
    tensors = [grad, x, weight]
    as_they_are = all(map(_is_last, tensors)) or not _may_be_last(x, weight, given)
    within = all(o < s for o, s in zip(given.output_padding, given.stride, strict=True))
    exchanged = given.transposed and within and grad.device.type == "cpu"
    if as_they_are and not exchanged and not wanted[2]:
        return NotImplemented
    grad, x, weight = tensors if as_they_are else map(channels_last, tensors)
    dbias = grad.sum([0, *range(2, grad.dim())]) if wanted[2] else None
    if exchanged:
        plain = given._replace(transposed=False, output_padding=[0] * len(given.stride))
        dx = aten.convolution(grad, weight, None, *plain) if wanted[0] else None
        mask = [False, wanted[1], False]
        return dx, aten.convolution_backward(x, grad, weight, None, *plain, mask)[1], dbias
    mask = [*wanted[:2], False]
    dx, dweight, _ = aten.convolution_backward(grad, x, weight, None, *given, mask)
    return dx, dweight, dbias


def col2im(
    patches: Tensor,
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Any:
    """Sum overlapping patches `[n, channels · kernel, positions]` to images `[n, channels, *size]`.

    Every pixel collects what it gets, instead of every patch adding to its pixels, one at a time.
    """
    down, right = stride
    up, across = (-(-k // s) for k, s in zip(kernel, stride, strict=True))
    few = up * across <= MOST_SHIFTS and all(d == 1 for d in dilation)
    if patches.device.type != "cpu" or patches.dim() != 3 or not (few and patches.numel()):
        return NotImplemented
    n = len(patches)
    h, w = (
        (length + 2 * p - k) // s + 1
        for length, p, k, s in zip(size, padding, kernel, stride, strict=True)
    )
    parts = patches.reshape(n, -1, *kernel, h, w)
    parts = F.pad(parts, (0, 0, 0, 0, 0, across * right - kernel[1], 0, up * down - kernel[0]))
    parts = parts.reshape(n, -1, up, down, across, right, h, w)
    shifted = (
        F.pad(parts[:, :, i, :, j], (j, across - 1 - j, i, up - 1 - i))
        for i in range(up)
        for j in range(across)
    )
    canvas = reduce(torch.add, shifted).permute(0, 1, 4, 2, 5, 3)
    rows, wide = (h + up - 1) * down, (w + across - 1) * right
    images = canvas.reshape(n, -1, rows, wide)
    top, left = padding
    return F.pad(images, (-left, size[1] + left - wide, -top, size[0] + top - rows))


def _may_be_last(x: Tensor, weight: Tensor, given: Geometry) -> bool:
    """Whether a convolution on a CPU is done by the library, which is faster with channels last.

    torch's own, for float64 or a single image, is not, and refuses some such weights.
    """
    if x.dim() != 4 or x.device.type != "cpu" or not x.numel():
        return False
    return torch._C._select_conv_backend(x, weight, None, *given) not in torchs_own()


@cache
def torchs_own() -> set[Any]:
    """Return how torch convolves images where no library does."""
    ways = torch._C._ConvBackend  # type: ignore[attr-defined]
    return {ways.Slow2d, ways.SlowDilated2d, ways.SlowTranspose2d}


def _is_last(x: Tensor) -> bool:
    if x.dim() != 4:
        return False
    _, channels, height, width = x.shape
    return x.stride() == (channels * height * width, 1, width * channels, channels)


def _laid_out_as_by(
    operation: Any, ours: Callable[..., Any], torchs: Callable[..., Any] | None
) -> Callable[..., Any]:
    """Give results the strides that the operation gives them, which later operations rely on."""

    @wraps(ours)
    def decomposed(*args: Any) -> Any:
        results = ours(*args)
        if results is NotImplemented:
            return torchs(*args) if torchs else NotImplemented
        with disable_proxy_modes_tracing():
            expected = tree_map(_layout, operation(*args))
        if isinstance(results, Tensor):
            return _laid_out(results, expected)
        return tuple(map(_laid_out, results, expected))

    return decomposed


def _layout(x: Tensor | None) -> Any:
    return x if x is None else (x.stride(), x.dim() > 2 and x.stride() == channels_last(x).stride())


def _laid_out(x: Tensor | None, layout: Any) -> Tensor | None:
    if x is None or x.stride() == layout[0]:
        return x
    return channels_last(x) if layout[1] else in_order(x)
