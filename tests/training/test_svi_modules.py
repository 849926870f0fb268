"""Steps of models whose modules change: their parts, hooks, modes and the shapes they hold."""

import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer import SVI
from torch import Tensor, nn

from pyro_bvae.training.surroundings import Modules
from pyro_bvae.training.svi import CompiledSVI
from tests.training.examples import Example
from tests.training.test_svi import ADAM, STEPS, Recorded, assert_equal, run

CHANGE = 3
FROZEN = pytest.mark.filterwarnings("ignore:.*was not registered in the param store")


class Scale(nn.Module):
    """A module that is used by a method, not called."""

    rate: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.factor = 1.0
        self.register_buffer("rate", torch.tensor(1.0))

    def of(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, self.training) * self.rate * self.factor


class Autoencoder(nn.Module):
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.act, self.scale = nn.Linear(3, 4), nn.Tanh(), Scale()
        self.decoder = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
        self.register_buffer("table", torch.randn(3, 3))

    def model(self, x: Tensor) -> None:
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
            mean = self.scale.of(self.decoder(z)) @ self.table
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.act(self.encoder(x)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


Change = Callable[[Any], object]


def thrice(module: Any) -> None:
    module.forward = lambda x, old=module.forward: 3 * old(x)


def clamped(vae: Autoencoder) -> None:
    vae.encoder.weight.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))


def transposed(vae: Autoencoder) -> None:
    vae.table.t_()


def other_layout(vae: Autoencoder) -> None:
    vae.table.data = torch.ones(3, 1).expand(3, 3)


CHANGES: dict[str, Change] = {
    "a part replaced": lambda vae: setattr(vae, "act", nn.Sigmoid()),
    "an item replaced": lambda vae: vae.decoder.__setitem__(1, nn.Sigmoid()),
    "a part added": lambda vae: vae.decoder.append(nn.Sigmoid()),
    "another forward": lambda vae: thrice(vae.decoder),
    "a buffer of a part that is not called": lambda vae: setattr(
        vae.scale, "rate", torch.tensor(3.0)
    ),
    "the mode of a part that is not called": lambda vae: vae.scale.eval(),
    "a hook of a module": lambda vae: vae.encoder.register_forward_hook(lambda m, x, y: 3 * y),
    "a hook of a parameter": clamped,
    "a buffer transposed": transposed,
    "a buffer of another layout": other_layout,
    "some frozen": lambda vae: vae.encoder.requires_grad_(False),
    "all frozen": lambda vae: vae.requires_grad_(False),
}


def trained(
    svi: Callable[..., SVI], change: Change, begin: Change, *, bound: bool
) -> tuple[list[Tensor], list[Any]]:
    """Train with a change between two steps; return what `run` does, and the trainer."""
    torch.manual_seed(1)
    vae = Autoencoder()
    begin(vae)
    model, guide = vae.model, vae.guide
    if not bound:
        model, guide = lambda x: vae.model(x), lambda x: vae.guide(x)
    trainers: list[SVI] = []

    def between(number: int, trainer: SVI, example: Example) -> None:
        trainers.append(trainer)
        if number == CHANGE:
            change(vae)

    weights: list[Tensor] = [*vae.parameters()]
    example = Example(model, guide, lambda: (torch.randn(5, 3),), seen=lambda: weights)
    return run(lambda: example, svi, ADAM, between), trainers


@FROZEN
@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_in_modules_is_followed(change: Change, bound: bool) -> None:
    nothing: Change = lambda vae: None  # noqa: E731
    both = [trained(svi, change, nothing, bound=bound) for svi in (Recorded, SVI)]
    assert_equal(both[0][0], both[1][0])
    assert both[0][1][0].fallback is None
    unchanged = trained(SVI, nothing, nothing, bound=bound)[0]
    assert any(not torch.equal(a, b) for a, b in zip(both[1][0], unchanged, strict=True))


BEGINNINGS: dict[str, tuple[Change, Change]] = {
    "frozen at first": (
        lambda vae: vae.encoder.requires_grad_(False),
        lambda vae: vae.encoder.requires_grad_(True),
    ),
    "a hook that is removed": (
        lambda vae: setattr(vae, "hook", vae.encoder.register_forward_hook(lambda m, x, y: 3 * y)),
        lambda vae: vae.hook.remove(),
    ),
    "a hook that stays": (
        lambda vae: vae.encoder.register_forward_hook(lambda m, x, y: 3 * y),
        lambda vae: None,
    ),
}


@FROZEN
@pytest.mark.parametrize(("begin", "change"), BEGINNINGS.values(), ids=BEGINNINGS)
def test_what_is_there_at_first_is_followed(begin: Change, change: Change) -> None:
    both = [trained(svi, change, begin, bound=True) for svi in (Recorded, SVI)]
    assert_equal(both[0][0], both[1][0])
    assert both[0][1][0].fallback is None


def test_a_module_by_torchscript_is_recorded() -> None:
    def make() -> Example:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))

        def model(x: Tensor) -> None:
            pyro.module("net", net)
            pyro.sample("x", dist.Normal(net(x), 1.0).to_event(2), obs=x)

        return Example(model, lambda x: None, lambda: (torch.randn(4, 2),))

    assert_equal(run(make, Recorded), run(make, SVI), rounding=1e-12)


def test_modules_that_other_threads_call_take_no_part() -> None:
    mine, others = nn.Linear(2, 1), nn.Linear(2, 1)
    modules = Modules()
    with modules.watched():
        thread = threading.Thread(target=lambda: others(torch.ones(2)))
        thread.start()
        thread.join(30.0)
        mine(torch.ones(2))
    assert list(modules) == [mine]


@pytest.mark.parametrize("mode", ["eager", "recorded"])
def test_the_gradient_of_a_frozen_network_is_no_evidence(mode: str) -> None:
    """Its own, from long ago; another network of its shape is registered and idle."""
    features, idle = nn.Linear(2, 2), nn.Linear(2, 2)
    features(torch.ones(2)).sum().backward()
    features.requires_grad_(False)

    def model(x: Tensor) -> None:
        pyro.module("idle", idle)
        mean = pyro.param("mean", torch.zeros(2)) + features(x)
        pyro.sample("x", dist.Normal(mean, 1.0).to_event(2), obs=x)

    example = Example(model, lambda x: None, lambda: (torch.randn(4, 2),))
    mine = run(lambda: example, partial(CompiledSVI, mode=mode))
    assert_equal(mine, run(lambda: example, SVI))
    assert mine[0].shape == (STEPS,)


def test_a_generator_of_the_users_own_is_recorded() -> None:
    def make() -> Example:
        generator = torch.Generator().manual_seed(3)

        def model(x: Tensor) -> None:
            mean = pyro.param("mean", torch.zeros(2)) + torch.randn(4, 2, generator=generator)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(2), obs=x)

        return Example(model, lambda x: None, lambda: (torch.randn(4, 2),))

    assert_equal(run(make, Recorded), run(make, SVI))
