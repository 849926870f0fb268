"""Schedules that move momentum, or Adam's β₁, beside the learning rate: one graph serves."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim.clipped_adam import ClippedAdam
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from pyro_bvae import VAE, fit
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training.notices import FallbackWarning
from pyro_bvae.training.svi import CompiledSVI
from tests.training import small_examples
from tests.training.examples import Example
from tests.training.test_svi import ADAM, Recorded, assert_equal, run

SCHEDULES: dict[str, dict[str, Any]] = {
    "OneCycleLR": {"max_lr": 0.01, "total_steps": 8},
    "CyclicLR": {"base_lr": 0.001, "max_lr": 0.01, "step_size_up": 4, "cycle_momentum": True},
}
AVERAGED = {"weight_decay": 0.1, "amsgrad": True, "maximize": True}
CYCLED: dict[str, tuple[Any, dict[str, Any]]] = {
    "Adam": (torch.optim.Adam, {}),
    "AdamW": (torch.optim.AdamW, AVERAGED),
    "Adam, fused": (torch.optim.Adam, {"fused": True}),
    "AdamW, fused": (torch.optim.AdamW, {"fused": True, **AVERAGED}),
    "ClippedAdam": (ClippedAdam, {"lrd": 0.9, "clip_norm": 0.3}),
    "SGD": (torch.optim.SGD, {"momentum": 0.9}),
    "SGD, Nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
}


class Steps:
    """Move the schedule after every step; keep what it moved, and the trainer."""

    def __init__(self) -> None:
        self.momenta: set[float] = set()

    def __call__(self, number: int, svi: SVI, example: Example) -> None:
        svi.optim.step()
        self.svi = svi
        group = next(iter(svi.optim.optim_objs.values())).optimizer.param_groups[0]
        self.momenta.add(group["betas"][0] if "betas" in group else group["momentum"])


def scheduled(schedule: str, name: str) -> Callable[[], Any]:
    optimiser, arguments = CYCLED[name]
    given = {"optimizer": optimiser, "optim_args": {"lr": 0.01, **arguments}}
    return lambda: getattr(pyro.optim, schedule)({**given, **SCHEDULES[schedule]})


@pytest.mark.parametrize("name", CYCLED)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_recorded_steps_equal_pyros_to_the_last_bit(schedule: str, name: str) -> None:
    """And no step but the first three runs in Python, so the momentum is no part of the graph."""
    make, optim, steps = small_examples.mean_and_scale, scheduled(schedule, name), Steps()
    assert_equal(run(make, Recorded, optim, steps), run(make, SVI, optim, Steps()))
    [plan] = steps.svi._plans._plans.values()
    assert len(steps.momenta) > 3
    assert plan.recorded.steps == 3
    assert plan.recorded._update is not None


def test_compiled_steps_equal_pyros_to_rounding() -> None:
    make, steps = small_examples.mean_and_scale, Steps()
    optim = scheduled("OneCycleLR", "Adam, fused")
    mine = run(make, CompiledSVI, optim, steps)
    assert steps.svi._has_compiled
    assert_equal(mine, run(make, SVI, optim, Steps()), rounding=1e-9)


def test_single_precision_is_equal_to_the_last_bit_too() -> None:
    torch.set_default_dtype(torch.float32)
    make, optim = small_examples.mean_and_scale, scheduled("OneCycleLR", "Adam")
    assert_equal(run(make, Recorded, optim, Steps()), run(make, SVI, optim, Steps()))


def test_half_precision_is_left_to_torchs_optimiser() -> None:
    """A tensor for the rate would be rounded to the parameters' 8 bits, a Python number is not."""
    torch.set_default_dtype(torch.bfloat16)
    make = small_examples.mean_and_scale
    assert_equal(run(make, Recorded), run(make, SVI))


def test_fit_follows_one_cycle_with_its_default_optimiser() -> None:
    def trained(mode: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        pair = VAE(
            prior=NormalPrior(2),
            likelihood=NormalLikelihood(nn.Linear(2, 6)),
            posterior=MeanFieldPosterior(nn.Linear(6, 5), latents=2, features=5),
        )
        cycle = partial(OneCycleLR, max_lr=0.01, total_steps=21)
        data = torch.randn(16, 6)
        fit(pair, data, steps=20, batch_size=4, lr_schedule=cycle, compile=mode, progress=False)
        return [p.detach() for p in pair.parameters()]

    for mine, eager in zip(trained("recorded"), trained("eager"), strict=True):
        assert torch.equal(mine, eager)


def test_a_momentum_that_passes_through_none_at_all_is_pyros() -> None:
    """Without momentum SGD leaves its buffer as it was."""

    def pass_none(number: int, svi: SVI, example: Example) -> None:
        for optimiser in svi.optim.optim_objs.values():
            optimiser.param_groups[0]["max_momentum"] = 0.9
            optimiser.param_groups[0]["momentum"] = 0.0 if number == 3 else 0.9 - 0.1 * number

    make = small_examples.mean_and_scale
    optim = partial(pyro.optim.SGD, {"lr": 0.001, "momentum": 0.9})
    pyros = run(make, SVI, optim, pass_none)
    assert_equal(run(make, Recorded, optim, pass_none), pyros)


def test_hyper_parameters_that_are_set_by_hand_at_every_step_are_the_reason() -> None:
    def train(svi: Callable[..., SVI]) -> list[float]:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        example = small_examples.mean_and_scale()
        trainer = svi(example.model, example.guide, ADAM(), Trace_ELBO())
        losses = []
        for number in range(16):
            losses.append(trainer.step(*example.arguments()))
            for optimiser in trainer.optim.optim_objs.values():
                optimiser.param_groups[0]["weight_decay"] = 0.01 * number
        return losses

    pyros = train(SVI)
    with pytest.warns(FallbackWarning, match="optimisers, .* hyper-parameters keep changing"):
        assert train(Recorded) == pyros
