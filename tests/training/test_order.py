"""BatchOrder, windows and schedules."""

import math
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_bvae.training import NonFiniteLossError, schedules
from pyro_bvae.training.batches import BatchOrder
from pyro_bvae.training.history import Window


@settings(deadline=None)
@given(st.integers(1, 40), st.data())
def test_every_datum_comes_equally_often_in_full_batches(data, draw):
    size = draw.draw(st.integers(1, data))
    batches = BatchOrder(data, batch_size=size, generator=torch.Generator().manual_seed(0))
    passes = 3
    taken = list(islice(batches, data * passes // math.gcd(size, data * passes)))
    assert {len(batch) for batch in taken} == {size}
    whole = torch.cat(taken)[: data * passes]
    assert whole.bincount(minlength=data).eq(passes).all()


def test_window_averages_and_names_the_first_bad_step():
    window = Window(3)
    for loss in (1.0, 2.0, 6.0):
        window.add({"loss": torch.tensor(loss), "kl": torch.tensor([loss, 0.0])})
    assert window.read(step=3) == {"loss": 3.0, "kl": [3.0, 0.0]}
    window.add({"loss": torch.tensor(math.nan), "kl": torch.tensor([0.0, 0.0])})
    with pytest.raises(NonFiniteLossError, match="step 4") as error:
        window.read(step=4)
    assert error.value.last == {"loss": 6.0, "kl": [6.0, 0.0]}


def test_a_first_step_that_is_not_finite_has_nothing_before_it():
    window = Window(2)
    window.add({"loss": torch.tensor(math.inf)})
    with pytest.raises(NonFiniteLossError, match="it was the first step"):
        window.read(step=1)


@given(st.floats(0, 10), st.floats(0, 10), st.integers(1, 1000), st.integers(0, 3000))
def test_schedules_stay_between_their_ends_and_reach_them(start, end, steps, step):
    low, high = sorted((start, end))
    for schedule in (
        schedules.linear(start, end, steps=steps),
        schedules.cosine(start, end, steps=steps),
        schedules.cyclical(start, end, steps=steps),
    ):
        assert schedule(0) == pytest.approx(start)
        assert low - 1e-9 <= schedule(step) <= high + 1e-9
    assert schedules.linear(start, end, steps=steps)(steps) == pytest.approx(end)
    assert schedules.cosine(start, end, steps=steps)(steps) == pytest.approx(end)
    cycle = schedules.cyclical(start, end, steps=steps)
    assert cycle(step + steps) == pytest.approx(cycle(step))


@pytest.mark.parametrize("make", [schedules.linear, schedules.cosine, schedules.cyclical])
def test_schedules_refuse_no_steps(make):
    with pytest.raises(ValueError, match="steps"):
        make(0.0, 1.0, steps=0)


def test_cyclical_refuses_a_ramp_outside_its_cycle():
    with pytest.raises(ValueError, match="ramp"):
        schedules.cyclical(0.0, 1.0, steps=10, ramp=1.5)
