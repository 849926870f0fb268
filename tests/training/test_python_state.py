"""Numbers around model and guide that change are noticed; what does not matter is not."""

from functools import partial

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
