"""Numbers around model and guide that change are noticed; what does not matter is not."""

import sys
from collections import deque
from functools import partial
from operator import attrgetter
from types import FunctionType, SimpleNamespace

import numpy as np
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine
from torch import nn

from pyro_bvae.training.python_state import PythonState
from pyro_bvae.training.python_values import place

RATE = 1.0


def reads_a_global() -> float:
    return RATE


def calls_another() -> float:
    return reads_a_global()


def state_of(*functions, modules=()):
    return PythonState(functions, modules)


@pytest.mark.parametrize("function", [reads_a_global, calls_another, partial(calls_another)])
def test_globals(function, monkeypatch):
    state = state_of(function)
    assert state.is_current()
    monkeypatch.setitem(reads_a_global.__globals__, "RATE", 2.0)
    assert not state.is_current()


def test_closures_through_inner_functions():
    rate = 1.0

    def helper():
        return rate

    def model():
        return helper()

    state = state_of(model)
    assert state.is_current()
    rate = 2.0
    assert not state.is_current()


def test_an_attribute_of_the_object_whose_method_it_is():
    class Pair:
        rate = 0.5

        def model(self):
            return self.rate

    pair = Pair()
    pair.rate = 1.0
    state = state_of(pair.model)
    assert state.is_current()
    pair.rate = 2.0
    assert not state.is_current()
    del pair.rate
    assert not state.is_current()


def test_an_attribute_of_a_module():
    module = nn.Dropout(0.1)
    state = state_of(modules=[module])
    module.eval()
    assert state.is_current(), "the training mode is looked at elsewhere"
    module.p = 0.2
    assert not state.is_current()


def test_tensors_may_change_in_place():
    rate = torch.tensor(1.0)
    nan = float("nan")
    state = state_of(lambda: rate * nan)
    rate.fill_(2.0)
    assert state.is_current()


def test_an_empty_cell_is_no_number_yet():
    def model():
        return later

    state = state_of(model)
    later = 1.0
    assert state.is_current()


class Options:
    rate = 1.0


def plain() -> SimpleNamespace:
    return SimpleNamespace(rate=1.0, more={"rates": [1.0]})


OPTIONS = plain()


def reads_the_options() -> float:
    return OPTIONS.rate * OPTIONS.more["rates"][0] * Options.rate


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(OPTIONS, "rate", 2.0),
        lambda patch: patch.setitem(OPTIONS.more, "rates", [2.0]),
        lambda patch: patch.setitem(OPTIONS.more, "others", 2.0),
        lambda patch: patch.setattr(Options, "rate", 2.0),
        lambda patch: patch.setitem(reads_the_options.__globals__, "OPTIONS", plain()),
    ],
)
def test_objects_classes_and_what_they_hold(change, monkeypatch):
    state = state_of(reads_the_options)
    assert state.is_current()
    change(monkeypatch)
    assert not state.is_current()


def test_of_an_object_only_what_code_names_matters():
    options = SimpleNamespace(rate=1.0, unread=1.0)
    state = state_of(lambda: options.rate)
    options.unread = 2.0
    assert state.is_current()


def test_an_attribute_that_has_the_name_of_a_global_is_not_that(monkeypatch):
    x = torch.ones(2)
    state = state_of(lambda: x.RATE)
    monkeypatch.setitem(reads_a_global.__globals__, "RATE", 2.0)
    assert state.is_current()


def test_a_function_or_a_default_that_is_replaced():
    def once():
        return 1

    helper = once

    def model(rates=[1.0]):  # noqa: B006
        return helper() * rates[0]

    state = state_of(model)
    model.__defaults__[0][0] = 2.0
    assert not state.is_current()
    state = state_of(model)
    helper = lambda: 2  # noqa: E731
    assert not state.is_current()


def test_tensors_that_a_recording_holds_may_not_be_replaced():
    held, kept = torch.ones(()), torch.ones(())
    state = PythonState([lambda: held * kept], [], {id(held)})
    kept = torch.zeros(())
    assert state.is_current()
    held = torch.zeros(())
    assert not state.is_current()


class Slotted:
    __slots__ = ("other", "rate")

    def __init__(self):
        self.rate = 1.0

    def model(self):
        return self.rate


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ({1, 2}, lambda s: s.add(3)),
        (deque([1, 2]), lambda d: d.append(3)),
        (np.zeros(3), lambda a: a.fill(1.0)),
        ([torch.float32], lambda d: d.__setitem__(0, torch.float64)),
        ([torch.device("cpu")], lambda d: d.__setitem__(0, torch.device("meta"))),
    ],
)
def test_containers_that_change_in_place(value, change):
    state = state_of(lambda: value)
    assert state.is_current()
    change(value)
    assert not state.is_current()


def test_attributes_in_slots():
    pair = Slotted()
    state = state_of(pair.model)
    assert state.is_current()
    pair.rate = 2.0
    assert not state.is_current()


@pytest.mark.parametrize("make", [lambda n: np.zeros(257 + n), lambda n: [[0.0] * 200] * (200 + n)])
def test_of_large_values_only_which_it_is_and_its_size_matter(make):
    values = make(0)
    state = state_of(lambda: values)
    values[0] = values[1]
    assert state.is_current()
    values = make(0)
    assert not state.is_current(), "another"
    values = make(0)
    state = state_of(lambda: values)
    values = make(1)
    assert not state.is_current()


def test_arguments_that_a_partial_was_given():
    options = SimpleNamespace(rate=1.0)
    state = state_of(partial(lambda options: options.rate, options=options))
    assert state.is_current()
    options.rate = 2.0
    assert not state.is_current()
    assert state.changed() == "rate"


def test_an_attribute_of_the_class_until_the_object_has_its_own():
    class Net(nn.Module):
        rate = 1.0

        def forward(self):
            return self.rate

    net = Net()
    for change in (lambda: setattr(net, "rate", 2.0), lambda: setattr(Net, "rate", 3.0)):
        vars(net).pop("rate", None)
        state = state_of(net, modules=[net])
        assert state.is_current()
        change()
        assert not state.is_current()


def test_a_file_is_no_iterator_that_matters(tmp_path):
    with open(tmp_path / "log", "w") as log:
        state = state_of(lambda: log.write("x"))
        log.write("y")
        assert state.is_current()


def test_a_number_that_is_none_is_not_named_as_changed():
    options = SimpleNamespace(none=float("nan"), rate=1.0)
    state = state_of(lambda: options.none * options.rate)
    assert state.is_current()
    assert state.changed() is None
    options.rate = 2.0
    assert state.changed() == "rate"


@pytest.mark.parametrize("draws", [False, True])
def test_a_generator_changes_if_the_functions_draw_from_it(draws):
    generator = np.random.default_rng(0)
    function = lambda: generator  # noqa: E731
    before = state_of(function)
    if draws:
        generator.random()
    state = PythonState([function], [], places=before.places)
    assert state.is_current() is not draws
    generator.random()
    assert state.is_current() is not draws, "what is drawn between steps is no matter"
    generator = np.random.default_rng(0)
    assert not state.is_current(), "another generator"


def test_modules_in_reach():
    inner, outer = nn.Linear(1, 1), nn.Identity()
    options = SimpleNamespace(net=inner)
    state = state_of(lambda x: options.net(x), modules=[outer])
    assert {id(m) for m in state.modules} == {id(inner), id(outer)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (torch.tanh, torch.sigmoid),
        (dist.Normal, dist.Laplace),
        (dist.Normal(0.0, 1.0), dist.Normal(0.0, 3.0)),
        (partial(max, 1), partial(max, 2)),
        (range(2), range(3)),
        (1, 1.0),
        (0.0, -0.0),
        (Options, Slotted),
    ],
)
@pytest.mark.parametrize("options", [{}, SimpleNamespace(), nn.Identity()])
def test_a_value_of_any_kind_that_is_replaced(old, new, options):
    attributes = options if isinstance(options, dict) else vars(options)
    attributes["choice"] = old
    state = state_of(lambda: options.choice)
    assert state.is_current()
    attributes["choice"] = new
    assert not state.is_current()


def test_what_functions_make_anew_is_no_change_but_its_replacement_by_others_is():
    def model():
        options.made = dist.Normal(0.0, 1.0)
        options.function = lambda: options.made
        return options.kept

    options = SimpleNamespace(kept=dist.Normal(0.0, 1.0))
    model()
    before = state_of(model)
    model()
    state = PythonState([model], [], places=before.places)
    model()
    assert state.is_current()
    options.kept = dist.Normal(0.0, 1.0)
    assert state.changed() == "kept"


def test_what_a_handler_holds():
    data, handler = {"x": 1.0}, poutine.scale(scale=1.0)
    model = poutine.condition(handler(lambda: 0), data=data)
    state = state_of(model)
    assert state.is_current()
    data["x"] = 2.0
    assert not state.is_current()
    state = state_of(model)
    handler.scale = 2.0
    assert not state.is_current()


class Awkward:
    def __init__(self):
        self.func, self.rate, self.losses = torch.exp, 1.0, []

    def __getattr__(self, name):
        raise KeyError(name)

    @property
    def computed(self):
        raise AssertionError("nobody asked")

    def __call__(self, x):
        return self.rate * self.func(x)

    def train(self):
        self.losses.append(1.0)


def test_of_an_object_nothing_runs_and_methods_that_are_not_named_do_not_matter():
    awkward = Awkward()
    state = state_of(lambda x: awkward(x) if x else awkward.computed)
    awkward.train()
    assert state.is_current()
    awkward.rate = 2.0
    assert not state.is_current()


def test_of_a_module_what_no_code_names_does_not_matter():
    class Net(nn.Module):
        rate = 1.0

        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.1)
            self.losses, self.epoch, self.batches = [], 0, iter("abc")

        def forward(self, x):
            return self.rate * self.drop(x)

    net = Net()
    state = state_of(net, modules=[net])
    net.losses.append(1.0)
    net.epoch += 1
    assert state.is_current()
    net.drop.p = 0.2
    assert not state.is_current()


class Derived(Options):
    pass


NAME = "rate"


def with_an_attribute():
    return with_an_attribute.rate


with_an_attribute.rate = 1.0


@pytest.mark.parametrize(
    "function",
    [
        lambda o: [getattr(o, name) for name in ("other", "rate")],
        lambda o: getattr(o, NAME),
        lambda o: [getattr(o, f"{name}te") for name in ("ra",)],
        lambda o: dict(**vars(o)),
        lambda o: attrgetter("rate")(o),
    ],
)
def test_names_that_code_does_not_spell_out(function):
    options = SimpleNamespace(rate=1.0, other=1.0)
    state = state_of(lambda: function(options))
    assert state.is_current()
    options.rate = 2.0
    assert not state.is_current()


def imports():
    from tests.training.test_python_state import RATE

    return RATE


@pytest.mark.parametrize(
    ("function", "owner", "name", "new"),
    [
        (imports, sys.modules[__name__], "RATE", 2.0),
        (lambda: Derived.rate, Options, "rate", 2.0),
        (with_an_attribute, with_an_attribute, "rate", 2.0),
        (reads_a_global, reads_a_global, "__code__", (lambda: 2.0).__code__),
        (calls_another, reads_a_global, "__defaults__", (2.0,)),
    ],
)
def test_where_else_values_lie(function, owner, name, new, monkeypatch):
    if name == "__defaults__":
        monkeypatch.setattr(owner, name, (1.0,))
    state = state_of(function)
    assert state.is_current()
    monkeypatch.setattr(owner, name, new)
    assert not state.is_current()


def test_a_function_without_a_python_module():
    function = FunctionType(compile("RATE", "", "eval"), {"RATE": 1.0})
    assert function.__module__ is None
    state = state_of(function)
    assert state.is_current()
    function.__globals__["RATE"] = 2.0
    assert not state.is_current()


def test_a_generator_is_compared_whatever_numpy_prints():
    generator = np.random.RandomState(0)
    with np.printoptions(threshold=5, edgeitems=1):
        generator.set_state(("MT19937", np.arange(624), 5))
        first = place(generator)
        generator.set_state(("MT19937", np.where(np.arange(624) == 300, 0, np.arange(624)), 5))
        assert place(generator) != first
