"""Which plans are kept for steps with arguments of many kinds."""

import torch

from pyro_bvae.training.plans import MOST, Plans
from pyro_bvae.training.surroundings import Call


def call_of(length):
    return Call.of((torch.zeros(length),), {})


def test_of_many_recordings_those_used_longest_ago_go():
    plans = Plans()
    for length in range(MOST):
        plans.find(call_of(length)).recorded = object()
    used_again, one_more = plans.find(call_of(0)), plans.find(call_of(MOST))
    assert plans.find(call_of(0)) is used_again
    assert plans.find(call_of(MOST)) is one_more
    assert plans.find(call_of(2)).recorded is not None
    assert plans.find(call_of(1)).recorded is None


def test_what_was_not_recorded_goes_first():
    plans = Plans()
    for length in range(MOST):
        plan = plans.find(call_of(length))
        plan.recorded = object() if length != 5 else None
    plans.find(call_of(MOST))
    assert plans.find(call_of(0)).recorded is not None
