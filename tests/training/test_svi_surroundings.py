"""Steps of models that take values from around them, which change from one step to the next."""

import itertools
import os
import random
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer import SVI, Trace_ELBO, TraceGraph_ELBO
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
    """Train; return the losses, the parameters and a random number."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    shift, change = make()
    trainer = svi(*pair(shift), ADAM(), Trace_ELBO())
    found = []
    for number in range(STEPS):
        change(number)
        found.append(trainer.step(*arguments(number)))
    stored = [value.item() for _, value in sorted(pyro.get_param_store().items())]
    return [*found, *stored, torch.rand(()).item()]


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


def a_random_parameter_from_the_second_step() -> Any:
    options = {"on": False}

    def shift(mean: Tensor) -> Tensor:
        return mean + pyro.param("late", lambda: torch.randn(())) if options["on"] else mean

    return shift, lambda n: options.update(on=n >= 1)


def a_stored_parameter_from_the_second_step() -> Any:
    options = {"on": False}

    def shift(mean: Tensor) -> Tensor:
        return mean + pyro.param("late") if options["on"] else mean

    def change(number: int) -> None:
        pyro.param("late", torch.ones(()))
        options.update(on=number >= 1)

    return shift, change


def by_a_name_in_a_string() -> Any:
    options = SimpleNamespace(rate=1.0)
    return (
        lambda m: m * getattr(options, "rate"),  # noqa: B009
        lambda n: setattr(options, "rate", late(n)),
    )


def in_a_context_variable() -> Any:
    rate: ContextVar[float] = ContextVar("rate", default=1.0)
    return lambda m: m * rate.get(), lambda n: rate.set(late(n)) and None


def in_the_environment() -> Any:
    def change(number: int) -> None:
        os.environ["PYRO_BVAE_TEST_RATE"] = str(late(number))

    return lambda m: m * float(os.environ["PYRO_BVAE_TEST_RATE"]), change


def in_a_default() -> Any:
    options = SimpleNamespace(rate=1.0)

    def shift(mean: Tensor, options: Any = options) -> Tensor:
        return mean * options.rate

    return shift, lambda n: setattr(options, "rate", late(n))


def behind_a_property() -> Any:
    class Options:
        hidden = 1.0

        @property
        def rate(self) -> float:
            return self.hidden

    options = Options()
    return lambda m: m * options.rate, lambda n: setattr(options, "hidden", late(n))


def in_an_object_beside_what_reads_it() -> Any:
    options = SimpleNamespace(rate=1.0)
    options.read = lambda: options.rate
    return lambda m: m * options.read(), lambda n: setattr(options, "rate", late(n))


def in_an_object_given_to_another() -> Any:
    class Reader:
        def read(self, options: Any) -> Any:
            return options.rate

    options, parts = SimpleNamespace(rate=1.0), SimpleNamespace(reader=Reader())
    return lambda m: m * parts.reader.read(options), lambda n: setattr(options, "rate", late(n))


def where_an_object_is_built() -> Any:
    options = SimpleNamespace(rate=1.0)

    class Built:
        def __init__(self) -> None:
            self.rate = options.rate

    return lambda m: m * Built().rate, lambda n: setattr(options, "rate", late(n))


FOLLOWED = [
    in_an_object_beside_what_reads_it,
    in_an_object_given_to_another,
    where_an_object_is_built,
    by_a_name_in_a_string,
    in_a_context_variable,
    in_the_environment,
    in_a_default,
    behind_a_property,
    in_a_dictionary,
    in_an_object,
    a_replaced_tensor,
    a_late_parameter,
    a_random_parameter_from_the_second_step,
    a_stored_parameter_from_the_second_step,
]


@pytest.mark.parametrize("make", FOLLOWED)
def test_what_changes_around_a_model_is_followed(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYRO_BVAE_TEST_RATE", "1.0")
    assert losses(Recorded, make, batch) == losses(SVI, make, batch)


def an_iterator() -> Any:
    numbers = itertools.count()
    return lambda m: m * (1.0 if next(numbers) < CHANGE else 3.0), lambda n: None


def a_generator_of_an_object() -> Any:
    given = SimpleNamespace(rates=(late(n) for n in range(STEPS)))
    return lambda m: m * next(given.rates), lambda n: None


def numpys_generator() -> Any:
    generator = np.random.default_rng(0)
    return lambda m: m * (1.0 if generator.random() < 0.92 else 3.0), lambda n: None


def pythons_generator() -> Any:
    return lambda m: m * (1.0 if random.random() < 0.9 else 3.0), lambda n: None


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (an_iterator, "the step itself changes .* 'numbers'"),
        (a_generator_of_an_object, "the step itself changes .* 'rates'"),
        (numpys_generator, "the step itself changes .* 'generator'"),
        (pythons_generator, "the step itself changes the random generators of Python or NumPy"),
    ],
)
def test_what_a_step_moves_on_is_pyros_even_if_two_steps_are_the_same(make: Any, why: str) -> None:
    pyros = losses(SVI, make, batch)
    with pytest.warns(FallbackWarning, match=why) as caught:
        assert losses(Recorded, make, batch) == pyros
    assert len(caught) == 1


def a_count_of_objects() -> Any:
    class Shift:
        numbers = itertools.count()

        def __init__(self) -> None:
            self.number = next(self.numbers)

        def __call__(self, mean: Tensor) -> Tensor:
            return mean * self.number

    Shift()
    return Shift(), lambda n: Shift() and None


def names_given_to_objects() -> Any:
    names = iter("abc")

    class Shift:
        def __init__(self) -> None:
            self.name = next(names)

        def __call__(self, mean: Tensor) -> Tensor:
            return mean * len(self.name)

    return Shift(), lambda n: None


def a_generator_of_another_method() -> Any:
    class Shift:
        def __init__(self) -> None:
            self.generator = np.random.default_rng(0)

        def batch(self) -> None:
            self.generator.integers(5)

        def __call__(self, mean: Tensor) -> Tensor:
            return mean * 2

    shift = Shift()
    return shift, lambda n: shift.batch()


@pytest.mark.parametrize(
    "make", [a_count_of_objects, names_given_to_objects, a_generator_of_another_method]
)
def test_what_moves_on_only_between_steps_costs_no_recording(make: Any) -> None:
    """A fallback would warn, which is an error here."""
    assert losses(Recorded, make, batch) == losses(SVI, make, batch)


def test_a_property_is_not_run_to_see_whether_it_changed() -> None:
    """It might draw random numbers, or be slow."""

    class Options:
        @property
        def rate(self) -> Tensor:
            return torch.rand(())

    options = Options()
    make = lambda: (lambda m: m * options.rate, lambda n: None)  # noqa: E731
    assert losses(Recorded, make, batch) == losses(SVI, make, batch)


def count(mean: Tensor) -> Tensor:
    """Add one to a parameter, by its name."""
    number = pyro.param("count", torch.zeros(())).detach()
    pyro.get_param_store()["count"] = number + 1
    return mean * (1 + number / 10)


def count_unseen(mean: Tensor) -> Tensor:
    """Add one to what handlers do not see."""
    store = pyro.get_param_store()
    number = store.setdefault("count", torch.zeros(())).detach()
    store["count"] = number + 1
    return mean * (1 + number / 10)


@pytest.mark.parametrize(
    ("shift", "why"), [(count, "other parameters"), (count_unseen, "parameter store")]
)
def test_what_a_model_does_to_the_parameter_store_is_done_once_a_step(shift: Any, why: str) -> None:
    make = lambda: (shift, lambda n: None)  # noqa: E731
    pyros = losses(SVI, make, batch)
    with pytest.warns(FallbackWarning, match=f"each time, .*{why}") as caught:
        assert losses(Recorded, make, batch) == pyros
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
def test_a_decaying_average_baseline_moves_once_a_step() -> None:
    def guide(x: Tensor) -> None:
        p = pyro.param("p", torch.tensor(0.4), constraint=dist.constraints.unit_interval)
        infer = {"baseline": {"use_decaying_avg_baseline": True}}
        pyro.sample("z", dist.Bernoulli(p), infer=infer)

    def model(x: Tensor) -> None:
        z = pyro.sample("z", dist.Bernoulli(0.3))
        mean = z * pyro.param("mean", torch.tensor(1.0))
        pyro.sample("x", dist.Normal(mean, 1.0).expand([4]).to_event(1), obs=x)

    def train(svi: Callable[..., SVI]) -> list[float]:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        trainer = svi(model, guide, ADAM(), TraceGraph_ELBO())
        found = [trainer.step(torch.ones(4)) for _ in range(STEPS)]
        return found + [value.item() for value in pyro.get_param_store().values()]

    pyros = train(SVI)
    assert len(pyros) == STEPS + 3
    with pytest.warns(FallbackWarning, match="each time, the step has other parameters"):
        assert train(Recorded) == pyros


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


@pytest.mark.parametrize("seed", [torch.manual_seed, pyro.set_rng_seed])
def test_a_model_that_sets_the_seed_is_pyros(seed: Callable[[int], Any]) -> None:
    """By whatever name it has the function."""

    def shift(mean: Tensor) -> Tensor:
        seed(7)
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
