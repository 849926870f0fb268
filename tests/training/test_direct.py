"""Recorded graphs run the same operations on the same numbers, however they are called."""

import pytest
import torch
import torch.nn.functional as F
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_bvae.training.adam import in_single_steps
from pyro_bvae.training.direct import FUNCTIONS, METHODS, direct


def test_every_name_is_a_function_of_torchs():
    assert all(hasattr(torch._C._VariableFunctions, name) for name in FUNCTIONS.split())
    assert all(hasattr(torch._C.TensorBase, name) for name in METHODS.split())


def arithmetic(x):
    y = 2 - x.exp().log1p() / (x * x + 1) ** 0.5
    return [y.clamp(-1, 1), -y.abs().rsqrt(), (1.5**x).reciprocal(), torch.where(x.lt(0), x, y)]


def shapes(x):
    y = torch.cat([x, x.flip(0)]).unsqueeze(1).expand(-1, 3, -1).transpose(0, 2)
    return [y.reshape(-1, 2), y.sum(0), y.sum(), y.mean((0, 1), keepdim=True), torch.stack([x, x])]


def networks(x):
    x = x.detach().requires_grad_()
    weight = torch.full((4, x.shape[1]), 0.1)
    y = F.softplus(F.linear(torch.tanh(x), weight, torch.arange(4.0))).sigmoid()
    loss = F.binary_cross_entropy_with_logits(y, y.gt(0.5).to(y)) + y.logsumexp(-1).sum()
    return [loss, *torch.autograd.grad(loss, x)]


def random(x):
    y = torch.empty_like(x).normal_()
    return [y, torch.randn(3), torch.bernoulli(x.sigmoid()), F.dropout(x, 0.4)]


def in_place(x):
    y = x.clone()
    y.add_(1).mul_(x).sub_(2).div_(3).addcmul_(x, x)
    y[0].copy_(x[1])
    torch._foreach_add_([y], 1)
    return [y, y.detach().add_(1), y]


@pytest.mark.parametrize("function", [arithmetic, shapes, networks, random, in_place])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_to_the_last_bit(function, dtype):
    torch.set_default_dtype(dtype)
    x = torch.randn(4, 6)
    graph = make_fx(function)(x)
    torch.manual_seed(1)
    expected = graph(x)
    torch.manual_seed(1)
    with torch.no_grad():
        found = direct(graph)(x)
    assert len(found) == len(expected)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
def test_fused_updates_in_single_steps_are_the_same_to_rounding(decoupled, amsgrad, maximize):
    update = torch._fused_adamw_ if decoupled else torch._fused_adam_

    def step(rate, *tensors):
        parameter, gradient, mean, square, largest, count = ([tensor] for tensor in tensors)
        update(
            *(parameter, gradient, mean, square, largest if amsgrad else [], count),
            lr=rate,
            beta1=0.8,
            beta2=0.9,
            weight_decay=0.3,
            eps=1e-3,
            amsgrad=amsgrad,
            maximize=maximize,
        )
        return [tensors[0].clone()]

    def state():
        torch.manual_seed(0)
        tensors = [torch.randn(5) for _ in range(5)]
        squares = tensors[3].square(), tensors[4].square()
        return [torch.tensor(0.1), *tensors[:3], *squares, torch.tensor(3.0)]

    graph = make_fx(step)(*state())
    fused, single = state(), state()
    graph(*fused)
    in_single_steps(graph)(*single)
    torch.testing.assert_close(fused, single)
    assert not torch.equal(fused[1], state()[1])
