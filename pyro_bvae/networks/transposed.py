"""A transposed convolution to few channels, as matrix product and overlapping sum."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyro_bvae.images import columns, is_narrow


class NarrowConvTranspose2d(nn.ConvTranspose2d):
    r"""`nn.ConvTranspose2d` for few output channels: the same numbers, sooner on a CPU.

    Forward, the kernel's :math:`o k^2` values at every input pixel are one matrix product, and
    overlapping ones are summed; the library's own transposed convolution is several times slower
    where there is but one output channel. Backward is the library's. Arguments, parameters and
    `state_dict` are those of `nn.ConvTranspose2d`, to which everything is left on other devices,
    within `torch.compile`, for more than 3 output channels or :math:`o k^2` beyond twice the input
    channels, and for groups, dilation and output padding.

    Shapes: `[n, in_channels, h, w]` to `[n, out_channels, h', w']`.

    References: Dumoulin, Visin (2016), A Guide to Convolution Arithmetic for Deep Learning.

    >>> narrow = NarrowConvTranspose2d(32, 1, 4, stride=2, padding=1)
    >>> x = torch.randn(2, 32, 8, 8)
    >>> torch.allclose(narrow(x), nn.ConvTranspose2d.forward(narrow, x), atol=1e-5)
    True
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the transposed convolution of the input."""
        geometry = (self.dilation, self.output_padding, self.groups)
        narrow = output_size is None and is_narrow(input, self.weight, *geometry)
        if torch.compiler.is_compiling() or not narrow:
            return super().forward(input, output_size)
        dtype = input.dtype
        if torch.is_autocast_enabled("cpu") and dtype == torch.float32:
            dtype = torch.get_autocast_dtype("cpu")
        weight, bias = self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype)
        return _Columns.apply(input.to(dtype), weight, bias, self.stride, self.padding)


class _Columns(torch.autograd.Function):
    """The product and the sum, with the gradients of a transposed convolution."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any
    ) -> Tensor:
        return columns(x, weight, bias, stride, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        x, weight, bias, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)
        ctx.outputs = None if bias is None else list(bias.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        need = [*ctx.needs_input_grad[:2], ctx.outputs is not None]
        geometry = (ctx.stride, ctx.padding, (1, 1), True, (0, 0), 1)
        found = torch.ops.aten.convolution_backward(
            grads[0], x, weight, ctx.outputs, *geometry, need
        )
        return (*found, None, None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        x, weight = ctx.saved_tensors
        dx, dweight, dbias = tangents[:3]
        dx = torch.zeros_like(x) if dx is None else dx
        y = F.conv_transpose2d(dx, weight, dbias, ctx.stride, ctx.padding)
        if dweight is None:
            return y
        return y + F.conv_transpose2d(x, dweight, None, ctx.stride, ctx.padding)
