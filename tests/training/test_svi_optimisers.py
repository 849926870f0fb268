"""What an optimiser does besides its rule, and what becomes of its state: as with Pyro's SVI."""

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ExponentialLR

from pyro_bvae.training.optimisers import TorchOptim
from pyro_bvae.training.svi import CompiledSVI
from tests.training import small_examples
from tests.training.examples import Example
from tests.training.test_svi import ADAM, Recorded, assert_equal, run

COUNTING: dict[str, Callable[[], Any]] = {
    "Adam": ADAM,
    "AdamW, fused": lambda: pyro.optim.AdamW({"lr": 0.01, "fused": True}),
    "Adam, scheduled": lambda: pyro.optim.ExponentialLR(
        {"optimizer": Adam, "optim_args": {"lr": 0.01}, "gamma": 1.0}
    ),
    "Adam, one for all": lambda: TorchOptim(partial(Adam, lr=0.01)),
    "ClippedAdam": lambda: pyro.optim.ClippedAdam({"lr": 0.01, "lrd": 0.9}),
}


def semi_supervised(svi: Callable[..., SVI], optim: Any) -> list[Any]:
    """Labelled steps, then unlabelled ones between them; a slope that only labels move."""
    pyro.clear_param_store()

    def model(x: Tensor, y: Tensor | None = None) -> None:
        mean = pyro.param("mean", torch.tensor(0.3))
        shift = 0.0 if y is None else pyro.param("slope", torch.tensor(0.2)) * y
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean + shift, 1.0), obs=x)

    trainer = svi(model, lambda *args: None, optim, Trace_ELBO())
    found = []
    for number in range(16):
        labels = () if number >= 6 and number % 2 == 0 else (torch.tensor(2.0),)
        found.append(trainer.step(torch.linspace(0.0, 1.0, 4) + number, *labels))
        found += [value.item() for _, value in sorted(pyro.get_param_store().items())]
    return found


@pytest.mark.parametrize("optim", COUNTING.values(), ids=COUNTING)
def test_parameters_that_part_in_their_step_counts_keep_their_own_bias_correction(
    optim: Callable[[], Any],
) -> None:
    pyros = semi_supervised(SVI, optim())
    assert semi_supervised(Recorded, optim()) == pyros


@pytest.mark.parametrize("name", ["Adam", "AdamW, fused"])
def test_compiled_steps_see_it_too(name: str) -> None:
    pyros = semi_supervised(SVI, COUNTING[name]())
    with pytest.warns(match="compiling once more"):
        mine = semi_supervised(CompiledSVI, COUNTING[name]())
    assert mine == pytest.approx(pyros, rel=1e-12)


def clamp(optimiser: Optimizer, args: Any = (), kwargs: Any = None) -> None:
    """Keep parameters near where they began."""
    with torch.no_grad():
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                parameter.clamp_(-0.5, 0.505)


def shrink(optimiser: Optimizer, args: Any, kwargs: Any) -> None:
    """Halve the parameters, by no gradient."""
    with torch.no_grad():
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                parameter.mul_(0.5)


def with_a_step_of_its_own(optimiser: Optimizer) -> None:
    inner = optimiser.step

    def step(self: Optimizer, *args: Any) -> None:
        inner(*args)
        clamp(self)

    optimiser.step = MethodType(step, optimiser)  # type: ignore[method-assign]


def with_a_schedule_over_that(optimiser: Optimizer) -> None:
    with_a_step_of_its_own(optimiser)
    ExponentialLR(optimiser, gamma=0.5)


MORE: dict[str, Callable[[Optimizer], object]] = {
    "before": lambda optimiser: optimiser.register_step_pre_hook(shrink),
    "after": lambda optimiser: optimiser.register_step_post_hook(clamp),
    "step": with_a_step_of_its_own,
    "scheduled step": with_a_schedule_over_that,
}


@pytest.mark.parametrize("at", [0, 4])
@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
def test_what_an_optimiser_does_besides_its_rule_is_done(
    more: Callable[[Optimizer], object], at: int
) -> None:
    """From the start, or from a recorded step on."""

    def add(number: int, svi: Any, example: Example) -> None:
        if number == at:
            more(svi.optim.optimiser)

    def optim() -> TorchOptim:
        return TorchOptim(partial(Adam, lr=0.01))

    make = small_examples.mean_and_scale
    pyros = run(make, SVI, optim, add)
    assert_equal(run(make, Recorded, optim, add), pyros)
    assert not torch.equal(run(make, Recorded, optim)[1], pyros[1])


def test_a_schedule_leaves_the_update_in_the_graph() -> None:
    """Although it wraps the optimiser's `step`."""
    plans = []

    def schedule(number: int, svi: Any, example: Example) -> None:
        if number == 0:
            ExponentialLR(svi.optim.optimiser, gamma=0.5)
        plans[:] = svi._plans._plans.values()

    run(small_examples.mean_and_scale, Recorded, lambda: TorchOptim(Adam), schedule)
    [plan] = plans
    assert plan.recorded._update is not None


def forget(svi: SVI) -> None:
    for optimiser in svi.optim.optim_objs.values():
        optimiser.state.clear()


def forget_in_place(svi: SVI) -> None:
    for optimiser in svi.optim.optim_objs.values():
        for state in optimiser.state.values():
            state.clear()


def without_momentum(svi: SVI) -> None:
    for optimiser in svi.optim.optim_objs.values():
        for state in optimiser.state.values():
            state["exp_avg"] = torch.zeros_like(state["exp_avg"])


def stricter(svi: SVI) -> None:
    for parameter in svi.optim.grad_clip:
        svi.optim.grad_clip[parameter] = lambda p: p.grad.clamp_(-1e-9, 1e-9)


@pytest.mark.parametrize("replace", [forget, forget_in_place, without_momentum, stricter])
def test_state_and_clipping_that_are_replaced_are_used(replace: Callable[[SVI], None]) -> None:
    def between(number: int, svi: SVI, example: Example) -> None:
        if number == 4:
            replace(svi)

    make = small_examples.mean_and_scale
    pyros = run(make, SVI, between=between)
    assert_equal(run(make, Recorded, between=between), pyros)
    assert not torch.equal(run(make, Recorded)[1], pyros[1])
