"""Settings in words: the same in every process, another where something else was given."""

import math
import re
from functools import partial
from unittest.mock import MagicMock

import numpy as np
import pyro
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, StepLR

from pyro_bvae.networks import mlp_critic
from pyro_bvae.objectives import CapacityELBO, FactorELBO
from pyro_bvae.training import EarlyStopping, schedules
from pyro_bvae.training.words import described, told


def halve(step):
    return 0.5**step


class Warm:
    """A callable with an attribute in words, and one that has none."""

    def __init__(self, steps=10):
        self.steps = steps
        self.lock = object()

    def __call__(self, step):
        return min(step / self.steps, 1.0)

    def rate(self, step):
        return self(step)


class Slotted:
    __slots__ = ()


HERE = __name__


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (halve, f"{HERE}.halve"),
        (lambda step: step, f"{HERE}.<lambda>"),
        (Warm, f"{HERE}.Warm"),
        (Warm(3), f"{HERE}.Warm(steps=3)"),
        (Warm(3).rate, f"{HERE}.Warm(steps=3).rate"),
        (Slotted(), f"{HERE}.Slotted"),
        (math.sin, "math.sin"),
        (max, "max"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (partial(LambdaLR, lr_lambda=[halve, Warm()]), f"[{HERE}.halve, {HERE}.Warm(steps=10)]"),
        (partial(StepLR, step_size=3), "torch.optim.lr_scheduler.StepLR(step_size=3)"),
        (partial(pow, 2, 3), "pow(2, 3)"),
        (partial(halve, step={"a": (1.0, None, "b")}), "(step={'a': [1.0, None, 'b']})"),
        (partial(halve, step={2, 1}), "(step={1, 2})"),
        (partial(halve, step=np.float64(0.5)), "(step=0.5)"),
        (pyro.optim.Adam({"lr": 0.1}), "torch.optim.adam.Adam(lr=0.1)"),
        (pyro.optim.Adam(lambda name: {}), f"torch.optim.adam.Adam(args={HERE}.<lambda>)"),
        (
            pyro.optim.StepLR({"optimizer": torch.optim.SGD, "optim_args": {}, "step_size": 2}),
            "torch.optim.lr_scheduler.StepLR(step_size=2) of torch.optim.sgd.SGD",
        ),
        (FactorELBO(mlp_critic(2, hidden=(3,)), gamma=2.0), "gamma=2.0"),
        (
            pyro.optim.Adam({"lr": 0.1}, {"clip_norm": 2.0}),
            "torch.optim.adam.Adam(lr=0.1), clip_args={'clip_norm': 2.0}",
        ),
        (EarlyStopping, "EarlyStopping"),
        (
            EarlyStopping(patience=2),
            "EarlyStopping(patience=2, monitor='validation_loss', margin=0.0)",
        ),
        (
            CapacityELBO(gamma=2.0, capacity=schedules.linear(0.0, 1.0, steps=2)),
            "CapacityELBO(gamma=2.0, capacity=pyro_bvae.training.schedules.linear.",
        ),
    ],
)
def test_words_name_what_was_given_and_no_address(value, words):
    found = described(value)
    assert words in found
    assert not re.search("0x[0-9a-f]{6}", found)


@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_arrays_are_told_apart_by_all_their_numbers(make):
    first, second = [0.0] * 2000, [0.0] * 2000
    second[1000] = 1e-9
    assert described(make(first)) == described(make(first))
    assert described(make(first)) != described(make(second))
    assert described(make(first)) != described(make([first]))


class Kept:
    """A callback that keeps what it was made with, some of it as its state."""

    def __init__(self, given, best=0.0):
        self.given, self.best = given, best

    def state(self):
        return {"best": self.best}

    def load_state(self, state):
        self.best = state["best"]


def test_callbacks_are_told_by_what_they_were_made_with_and_not_by_their_state():
    assert told(Kept(3, best=1.0)) == told(Kept(3, best=2.0)) == f"{HERE}.Kept(given=3)"


def inside_itself():
    found = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "given",
    [
        np.array(["a"]),
        np.array([{}, 1], dtype=object),
        np.ones(4)[::-1],
        torch.eye(2).to_sparse(),
        inside_itself(),
        MagicMock(),
    ],
)
def test_callbacks_that_were_made_with_what_has_no_words_are_told_by_their_class(given):
    assert told(Kept(given)) == f"{HERE}.Kept"
