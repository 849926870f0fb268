"""Monotone rational-quadratic splines, forwards and backwards, with their derivatives."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, softmax, softplus

BOUND = 5.0
_SMALLEST = 1e-3
_UNIT_SLOPE = math.log(math.expm1(1 - _SMALLEST))


class Bin(NamedTuple):
    """The piece of a spline that a number falls into: its corner, size, and slopes at both ends."""

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    slope: Tensor
    next_slope: Tensor


def spline(x: Tensor, numbers: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Carry x through a monotone spline [−5, 5] → [−5, 5], which is the identity outside.

    It is x itself where all numbers are 0. Unlike Pyro's splines it does without masks whose size
    depends on the data, so it can be recorded, and its slope is continuous at ±5.

    Args:
        x: `[...]`.
        numbers: unconstrained, `[..., 3 · bins − 1]`.
        inverse: carry x back instead.

    Returns: y and log |dy/dx|, `[...]`.

    References:
        Durkan, Bekasov, Murray, Papamakarios (2019), Neural Spline Flows.

    >>> y, _ = spline(torch.tensor([1.0, 7.0]), torch.zeros(2, 8))
    >>> y
    tensor([1., 7.])
    """
    x, numbers = _broadcast(x, numbers)
    inside = x.abs() < BOUND
    safe = torch.where(inside, x, 0.0)
    found = _find(safe, numbers, inverse=inverse)
    y, log_slope = (_backwards if inverse else _forwards)(safe, found)
    return torch.where(inside, y, x), torch.where(inside, log_slope, 0.0)


def _broadcast(x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    shape = torch.broadcast_shapes(x.shape, numbers.shape[:-1])
    return x.expand(shape), numbers.expand(*shape, numbers.shape[-1])


def _find(value: Tensor, numbers: Tensor, *, inverse: bool) -> Bin:
    """Return the bin of each value, looked up along x, or along y for the inverse."""
    bins = (numbers.shape[-1] + 1) // 3
    widths, heights, slopes = numbers.split([bins, bins, bins - 1], dim=-1)
    x, y = _knots(widths), _knots(heights)
    slopes = pad(_SMALLEST + softplus(slopes + _UNIT_SLOPE), (1, 1), value=1.0)
    inner = (y if inverse else x)[..., 1:-1]
    index = (value.unsqueeze(-1) >= inner).sum(-1, keepdim=True)

    def at(values: Tensor, offset: int = 0) -> Tensor:
        return values.gather(-1, index + offset).squeeze(-1)

    left, low = at(x), at(y)
    return Bin(left, low, at(x, 1) - left, at(y, 1) - low, at(slopes), at(slopes, 1))


def _knots(numbers: Tensor) -> Tensor:
    """Return `[..., bins + 1]` increasing knots from −5 to 5."""
    bins = numbers.shape[-1]
    sizes = _SMALLEST + (1 - _SMALLEST * bins) * softmax(numbers, dim=-1)
    inner = 2 * BOUND * sizes[..., :-1].cumsum(-1) - BOUND
    return pad(pad(inner, (1, 0), value=-BOUND), (0, 1), value=BOUND)


def _forwards(x: Tensor, found: Bin) -> tuple[Tensor, Tensor]:
    share = (x - found.x) / found.width
    mean = found.height / found.width
    bend = found.slope + found.next_slope - 2 * mean
    both = share * (1 - share)
    y = found.y + found.height * (mean * share**2 + found.slope * both) / (mean + bend * both)
    return y, _log_slope(share, found)


def _backwards(y: Tensor, found: Bin) -> tuple[Tensor, Tensor]:
    """Solve the quadratic equation for the share of the bin."""
    rise, mean = y - found.y, found.height / found.width
    bend = rise * (found.slope + found.next_slope - 2 * mean)
    a = found.height * (mean - found.slope) + bend
    b = found.height * found.slope - bend
    c = -mean * rise
    share = 2 * c / (-b - (b**2 - 4 * a * c).clamp(min=0).sqrt())
    return found.x + share * found.width, -_log_slope(share, found)


def _log_slope(share: Tensor, found: Bin) -> Tensor:
    mean, both = found.height / found.width, share * (1 - share)
    top = found.next_slope * share**2 + 2 * mean * both + found.slope * (1 - share) ** 2
    bottom = mean + (found.slope + found.next_slope - 2 * mean) * both
    return 2 * mean.log() + top.log() - 2 * bottom.log()
