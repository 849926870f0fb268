"""Numbers around model and guide that change are noticed; what does not matter is not."""

from collections import deque
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from pyro_bvae.training.python_state import PythonState

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


def test_large_arrays_are_not_looked_at():
    values = np.zeros(257)
    state = state_of(lambda: values)
    values[0] = 1.0
    assert state.is_current()


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
