"""`CompiledSVI` takes the steps that Pyro's `SVI` takes: on every kind of model and optimiser."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim.clipped_adam import ClippedAdam
from torch import Tensor, nn

from pyro_bvae.training.notices import FallbackWarning
from pyro_bvae.training.svi import CompiledSVI
from tests.training import dynamic_examples, examples, small_examples
from tests.training.examples import Example

STEPS = 6
ADAM = partial(pyro.optim.Adam, {"lr": 0.01})
Make = Callable[[], Example]
Recorded = partial(CompiledSVI, mode="recorded")


def run(
    make: Make,
    svi: Callable[..., SVI],
    optim: Callable[[], Any] = ADAM,
    between: Callable[[int, SVI, Example], object] = lambda number, svi, example: None,
) -> list[Tensor]:
    """Train for a few steps; return the losses, the parameters, buffers, and a random number."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    example = make()
    trainer = svi(example.model, example.guide, optim(), example.loss())
    losses = []
    for number in range(STEPS):
        losses.append(trainer.step(*example.arguments()))
        between(number, trainer, example)
    parameters = [value.detach() for _, value in sorted(pyro.get_param_store().items())]
    return [torch.tensor(losses), *parameters, *example.seen(), torch.rand(())]


def assert_equal(mine: list[Tensor], pyros: list[Tensor], *, rounding: float = 0.0) -> None:
    assert len(mine) == len(pyros) > 2
    assert len(set(pyros[0].tolist())) == STEPS
    for a, b in zip(mine, pyros, strict=True):
        torch.testing.assert_close(a, b, rtol=rounding, atol=rounding)


class Seen:
    """Parameters and running statistics after every step: by SGD, what gradients they had."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, number: int, svi: SVI, example: Example) -> None:
        stored = [value for _, value in sorted(pyro.get_param_store().items())]
        self.seen += [value.detach().clone() for value in (*stored, *example.seen())]


def run_seen(make: Make, svi: Callable[..., SVI]) -> list[Tensor]:
    """`run` by SGD, with parameters and running statistics after every step."""
    between = Seen()
    return [*run(make, svi, OPTIMISERS["SGD"], between), *between.seen]


PAIRS = [*examples.NETWORKS, *small_examples.SMALL]


@pytest.mark.parametrize("make", PAIRS)
def test_recorded_steps_equal_pyros_to_the_last_bit(make: Make) -> None:
    """Losses, gradients, parameters, running statistics and draws, step for step."""
    assert_equal(run_seen(make, Recorded), run_seen(make, SVI))


SMALLER = {
    examples.deep_markov_model: partial(examples.deep_markov_model, 2, nn.RNN, nn.Linear),
    examples.several_particles: partial(examples.several_particles, 2),
}


@pytest.mark.parametrize("make", PAIRS)
def test_compiled_steps_equal_pyros_to_rounding(make: Make) -> None:
    """Losses, gradients, parameters, running statistics, step for step, and Pyro's draws.

    By SGD: Adam would blow rounding up where a gradient is 0, before the normalisation.
    """
    small = SMALLER.get(make, make)
    assert_equal(run_seen(small, CompiledSVI), run_seen(small, SVI), rounding=1e-12)


def test_single_precision_is_equal_to_the_last_bit_too() -> None:
    torch.set_default_dtype(torch.float32)
    assert_equal(run(examples.vae, Recorded), run(examples.vae, SVI))


def per_parameter(name: str) -> dict[str, float]:
    return {"lr": 0.02 if "scale" in name else 0.01}


OPTIMISERS: dict[str, Callable[[], Any]] = {
    "AdamW": lambda: pyro.optim.AdamW({"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}),
    "Adam, L2": lambda: pyro.optim.Adam({"lr": 0.01, "weight_decay": 0.1, "maximize": True}),
    "Adam, fused": lambda: pyro.optim.Adam(
        {"lr": 0.01, "fused": True, "amsgrad": True, "maximize": True}
    ),
    "AdamW, fused": lambda: pyro.optim.AdamW({"lr": 0.01, "fused": True, "weight_decay": 0.1}),
    "Adam, clipped": lambda: pyro.optim.Adam({"lr": 0.01}, {"clip_norm": 1.0, "clip_value": 0.5}),
    "Adam, per parameter": lambda: pyro.optim.Adam(per_parameter),
    "Adam, tensor lr": lambda: pyro.optim.Adam({"lr": torch.tensor(0.01)}),
    "AdamW, tensor lr in single precision": lambda: pyro.optim.AdamW(
        {"lr": torch.tensor(0.01, dtype=torch.float32)}
    ),
    "ClippedAdam, tensor lr": lambda: pyro.optim.ClippedAdam({"lr": torch.tensor(0.01)}),
    "ClippedAdam": lambda: pyro.optim.ClippedAdam({"lr": 0.01, "lrd": 0.9, "clip_norm": 0.3}),
    "ClippedAdam, centred": lambda: pyro.optim.ClippedAdam(
        {"lr": 0.01, "centered_variance": True, "weight_decay": 0.1}
    ),
    "SGD": lambda: pyro.optim.SGD({"lr": 1e-3}),
    "SGD, momentum": lambda: pyro.optim.SGD(
        {"lr": 1e-3, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
    ),
    "RMSprop, after the graph": lambda: pyro.optim.RMSprop({"lr": 0.01}),
    "AdagradRMSProp, after the graph": lambda: pyro.optim.AdagradRMSProp({"eta": 0.1}),
}


@pytest.mark.parametrize("optim", OPTIMISERS.values(), ids=OPTIMISERS)
def test_every_optimiser_gives_the_same_parameters(optim: Callable[[], Any]) -> None:
    make = small_examples.mean_and_scale
    assert_equal(run(make, Recorded, optim), run(make, SVI, optim))


@pytest.mark.parametrize("mode", ["eager", "recorded"])
@pytest.mark.parametrize("name", ["Adam", "ClippedAdam"])
def test_one_torch_optimiser_over_all_parameters_equals_pyros_one_for_each(
    name: str, mode: str
) -> None:
    torchs = {
        "Adam": partial(torch.optim.Adam, lr=0.01),
        "ClippedAdam": partial(ClippedAdam, lr=0.01, lrd=0.9, clip_norm=0.3),
    }
    pyros = {"Adam": ADAM, "ClippedAdam": OPTIMISERS["ClippedAdam"]}
    mine = run(examples.vae, partial(CompiledSVI, mode=mode), lambda: torchs[name])
    assert_equal(mine, run(examples.vae, SVI, pyros[name]))


def test_a_scheduler_changes_the_learning_rate_in_place() -> None:
    def optim() -> pyro.optim.PyroOptim:
        adam = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.5}
        return pyro.optim.ExponentialLR(adam)

    def step(number: int, svi: SVI, example: Example) -> None:
        svi.optim.step()

    make = small_examples.mean_and_scale
    pyros = run(make, SVI, optim, step)
    assert_equal(run(make, Recorded, optim, step), pyros)
    assert_equal(run(make, CompiledSVI, optim, step), pyros, rounding=1e-9)


FUSED = OPTIMISERS["AdamW, fused"]


@pytest.mark.parametrize("optim", [FUSED, OPTIMISERS["ClippedAdam"]])
def test_modes_share_parameters_and_optimiser_state(optim: Callable[[], Any]) -> None:
    modes = ["recorded", "recorded", "eager", "compiled", "recorded", "eager"]

    def switch(number: int, svi: SVI, example: Example) -> None:
        if isinstance(svi, CompiledSVI):
            svi.mode = modes[number]

    make = small_examples.mean_and_scale
    mine = run(make, CompiledSVI, optim, switch)
    assert_equal(mine, run(make, SVI, optim), rounding=1e-9)


def test_an_enumerated_model_gives_pyros_numbers_by_running_as_pyro_does() -> None:
    pyros = run(dynamic_examples.mixture, SVI)
    with pytest.warns(FallbackWarning, match="Python reads the value of a tensor"):
        assert_equal(run(dynamic_examples.mixture, CompiledSVI), pyros)


def test_a_loss_may_be_a_plain_function() -> None:
    make = lambda: examples.vae()._replace(loss=lambda: Trace_ELBO().differentiable_loss)  # noqa: E731
    assert_equal(run(make, Recorded), run(make, SVI))


def test_evaluate_loss_is_pyros() -> None:
    example = examples.vae()
    x = example.arguments()
    mine, theirs = (
        svi(example.model, example.guide, ADAM(), Trace_ELBO()) for svi in (CompiledSVI, SVI)
    )
    torch.manual_seed(1)
    expected = theirs.evaluate_loss(*x)
    torch.manual_seed(1)
    assert mine.evaluate_loss(*x) == expected
    assert isinstance(mine, SVI)


def test_data_dependent_control_flow_runs_as_pyro_does_with_one_warning_and_the_reason() -> None:
    class Clipped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.abs().max() > 1:
                return x / 2
            return x

    def make() -> Example:
        return examples.vae(lambda: nn.Sequential(nn.BatchNorm1d(5), Clipped()))

    pyros = run(make, SVI)
    with pytest.warns(FallbackWarning) as caught:
        assert_equal(run(make, CompiledSVI), pyros)
    assert len(caught) == 1
    assert "if x.abs().max() > 1" in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("make", dynamic_examples.READING.values(), ids=dynamic_examples.READING)
def test_other_reads_of_values_and_changing_python_state_are_noticed(make: Make) -> None:
    pyros = run(make, SVI)
    with pytest.warns(FallbackWarning, match="examples.py|became|values|generators"):
        assert_equal(run(make, CompiledSVI), pyros)


class Named(Trace_ELBO):
    """A loss that also tells its two halves."""

    def differentiable_terms(
        self, model: Any, guide: Any, *args: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.differentiable_loss(model, guide, *args)
        return loss, {"half": loss / 2, "weight": pyro.param("scale")}


def test_named_terms_come_with_the_loss() -> None:
    make = lambda: small_examples.mean_and_scale()._replace(loss=Named)  # noqa: E731
    assert_equal(run(make, Recorded), run(small_examples.mean_and_scale, SVI))
    example = make()
    svi = Recorded(example.model, example.guide, ADAM(), Named())
    for _ in range(5):
        scale = pyro.param("scale").item()
        loss, terms = svi.step_terms(*example.arguments())
        assert terms["half"] == loss / 2
        assert terms["weight"].item() == scale
        assert not loss.requires_grad
        assert not terms["half"].requires_grad


def test_the_loss_is_there_as_a_tensor() -> None:
    make = small_examples.mean_and_scale
    losses = run(make, SVI)[0]
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    example = make()
    svi = Recorded(example.model, example.guide, ADAM(), Trace_ELBO())
    mine = [svi.step_tensor(*example.arguments()) for _ in losses]
    assert all(loss.shape == () for loss in mine)
    assert torch.equal(torch.stack(mine), losses)
