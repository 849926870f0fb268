"""Recorded calls give what the function gives, bit for bit, or are not recorded."""

import torch

from pyro_bvae.diagnostics.repeated import EARNED, Repeated


def draws(x):
    return [x + torch.randn(3), x.sum()]


def test_recorded_calls_are_the_function_s_own_with_the_same_draws():
    repeated = Repeated(draws)
    inputs = torch.rand(EARNED + 6, 3)
    torch.manual_seed(0)
    found = [repeated(x) for x in inputs]
    torch.manual_seed(0)
    expected = [draws(x) for x in inputs]
    assert repeated.is_recorded
    for one, two in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_nothing_is_recorded_before_it_is_earned():
    repeated = Repeated(draws)
    for _ in range(EARNED):
        repeated(torch.zeros(3))
    assert not repeated.is_recorded


def test_each_shape_has_a_recording_of_its_own():
    repeated = Repeated(lambda x: [x.cumsum(0)])
    for length in (3, 5):
        for _ in range(EARNED + 4):
            assert repeated(torch.ones(length))[0].tolist() == list(range(1, length + 1))


def test_what_depends_on_data_runs_as_it_is():
    repeated = Repeated(lambda x: [x if x > 0 else -x])
    values = [(-1.0) ** i * i for i in range(EARNED + 6)]
    found = [repeated(torch.tensor(value))[0].item() for value in values]
    assert found == [abs(value) for value in values]
    assert not repeated.is_recorded


def test_what_depends_on_a_counter_runs_as_it_is():
    counter = iter(range(10_000))
    repeated = Repeated(lambda x: [x * next(counter)])
    found = [repeated(torch.tensor(1.0))[0].item() for _ in range(EARNED + 6)]
    assert found == list(range(EARNED + 6))
    assert not repeated.is_recorded
