"""Steps of models that take values from around them, which change from one step to the next."""

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_bvae.training.notices import FallbackWarning
from pyro_bvae.training.svi import CompiledSVI
from tests.training.test_svi import ADAM, Recorded

STEPS, CHANGE = 16, 8
Arguments = Callable[[int], tuple[Any, ...]]


def pair(shift: Callable[..., Any]) -> tuple[Callable[..., None], Callable[..., None]]:
    """A Normal of learned mean, moved by what `shift` makes of it and of the arguments."""

    def model(x: Tensor, *others: Any) -> None:
        mean = pyro.param("mean", torch.tensor(0.3))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(shift(mean, *others), 1.0), obs=x)

    return model, lambda *args: None


def losses(
    svi: Callable[..., SVI],
    make: Callable[[], tuple[Callable[..., Any], Callable[[int], None]]],
    arguments: Arguments,
) -> list[float]:
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    shift, change = make()
    trainer = svi(*pair(shift), ADAM(), Trace_ELBO())
    found = []
    for number in range(STEPS):
        change(number)
        found.append(trainer.step(*arguments(number)))
    return found


def batch(number: int) -> tuple[Any, ...]:
    return (torch.linspace(0.0, 1.0, 4) + number,)


def late(number: int) -> float:
    return 1.0 if number < CHANGE else 3.0


def in_a_dictionary() -> Any:
    options = {"rate": 1.0}
    return lambda m: m * options["rate"], lambda n: options.update(rate=late(n))


def in_an_object() -> Any:
    options = SimpleNamespace(rate=1.0)
    return lambda m: m * options.rate, lambda n: setattr(options, "rate", late(n))


def a_replaced_tensor() -> Any:
    rates = SimpleNamespace(rate=torch.tensor(1.0))

    def change(number: int) -> None:
        if number == CHANGE:
            rates.rate = torch.tensor(3.0)

    return lambda m: m * rates.rate, change


def a_late_parameter() -> Any:
    options = {"on": False}

    def shift(mean: Tensor) -> Tensor:
        return mean + pyro.param("late", torch.ones(())) if options["on"] else mean

    return shift, lambda n: options.update(on=n >= CHANGE)


@pytest.mark.parametrize(
    "make", [in_a_dictionary, in_an_object, a_replaced_tensor, a_late_parameter]
)
def test_what_changes_around_a_model_is_followed(make: Any) -> None:
    assert losses(Recorded, make, batch) == losses(SVI, make, batch)


def test_one_tensor_given_twice_is_two_arguments() -> None:
    def arguments(number: int) -> tuple[Any, ...]:
        (x,) = batch(number)
        return (x, x if number < CHANGE else 2 * x)

    make = lambda: (lambda m, y: m * y, lambda n: None)  # noqa: E731
    assert losses(Recorded, make, arguments) == losses(SVI, make, arguments)


def test_an_argument_that_the_model_knows_already_is_not_taken_for_it() -> None:
    (data,) = batch(0)
    make = lambda: (lambda m: m * data, lambda n: None)  # noqa: E731
    arguments: Arguments = lambda n: (data if n < CHANGE else 2 * data,)  # noqa: E731
    assert losses(Recorded, make, arguments) == losses(SVI, make, arguments)


def test_an_object_among_the_arguments_may_change_so_steps_are_pyros() -> None:
    class Given:
        rate = 1.0

    given = Given()

    def arguments(number: int) -> tuple[Any, ...]:
        given.rate = late(number)
        return (*batch(number), given)

    make = lambda: (lambda m, g: m * g.rate, lambda n: None)  # noqa: E731
    pyros = losses(SVI, make, arguments)
    with pytest.warns(FallbackWarning, match="Given, which may change") as caught:
        assert losses(Recorded, make, arguments) == pyros
    assert len(caught) == 1


def test_a_model_that_sets_the_seed_is_pyros() -> None:
    def shift(mean: Tensor) -> Tensor:
        torch.manual_seed(7)
        return mean + torch.randn(())

    make = lambda: (shift, lambda n: None)  # noqa: E731
    pyros = losses(SVI, make, batch)
    with pytest.warns(FallbackWarning, match="generator is set"):
        assert losses(Recorded, make, batch) == pyros


@pytest.mark.parametrize(
    "arguments",
    [lambda n: (*batch(n), 1.0 + n), lambda n: (torch.ones(2 + n), 1.0)],
    ids=["numbers", "shapes"],
)
def test_arguments_of_ever_new_kinds_are_pyros_with_one_warning(arguments: Arguments) -> None:
    make = lambda: (lambda m, rate: m * rate, lambda n: None)  # noqa: E731
    pyros = losses(SVI, make, arguments)
    with pytest.warns(FallbackWarning, match="many kinds.*0-dim tensors") as caught:
        assert losses(Recorded, make, arguments) == pyros
    assert len(caught) == 1


def test_arguments_of_ever_new_kinds_are_forgotten() -> None:
    svi = CompiledSVI(*pair(lambda m, rate: m * rate), ADAM(), Trace_ELBO(), mode="recorded")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        for number in range(100):
            svi.step(*batch(0), float(number))
    assert len(svi._plans._plans) <= 65
