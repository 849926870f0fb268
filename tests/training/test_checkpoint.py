"""States and checkpoints: what is written is what is read, and nothing else passes for it."""

import errno
import os
from functools import partial

import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.distributions import constraints
from torch import nn

from pyro_bvae.training.batches import BatchOrder
from pyro_bvae.training.checkpoint import Checkpoints, read
from pyro_bvae.training.constraints import constraint_of, described
from pyro_bvae.training.optimiser_state import load_optimiser_state, optimiser_state
from pyro_bvae.training.optimisers import TorchOptim
from pyro_bvae.training.run import Run
from pyro_bvae.training.state import from_bytes, to_bytes
from tests.training.resumable import identical

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
tensors = st.builds(
    lambda shape, dtype: torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.bool]),
)
keys = st.text() | st.integers() | st.tuples(st.integers(), st.text())
states = st.recursive(
    plain | tensors,
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@settings(deadline=None, max_examples=200)
@given(states)
def test_a_state_is_read_as_it_was_written(state):
    assert identical(from_bytes(to_bytes(state)), state)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_other_bytes_are_refused_with_a_value_error(content, place):
    whole = to_bytes({"weight": torch.arange(9.0), "name": "step", "pairs": {1: (2, 3)}})
    for other in (content, whole[:place], whole[:place] + content + whole[place:]):
        if other != whole:
            with pytest.raises(ValueError, match="expected a state in safetensors"):
                from_bytes(other)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_every_flipped_bit_of_a_checkpoint_is_noticed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("checkpoints")
    path = Checkpoints(folder).save(7, {"weight": torch.arange(9.0), "step": 7})
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="expected the checkpoint that its name tells of"):
        read(path)


@pytest.mark.parametrize("value", [nn.Linear(1, 1), {"f": [print]}, {"a": {1, 2}}, object()])
def test_what_would_need_pickle_is_refused(value):
    with pytest.raises(TypeError, match="written without pickle"):
        to_bytes(value)


def test_keys_that_cannot_be_written_are_refused_with_their_place():
    with pytest.raises(TypeError, match=r"state/seen: expected keys that are strings, .*frozenset"):
        to_bytes({"seen": {frozenset({1}): 2}})


def two_groups(parameters):
    return torch.optim.Adam(
        [{"params": [p], "lr": 0.1 / (i + 1)} for i, p in enumerate(parameters)]
    )


def wrapped(name):
    return {
        "Adam": lambda: TorchOptim(partial(torch.optim.Adam, lr=0.1)),
        "AMSGrad": lambda: TorchOptim(partial(torch.optim.Adam, lr=0.1, amsgrad=True)),
        "fused Adam": lambda: TorchOptim(partial(torch.optim.Adam, lr=0.1, fused=True)),
        "AdamW": lambda: TorchOptim(partial(torch.optim.AdamW, lr=0.1, weight_decay=0.1)),
        "SGD": lambda: TorchOptim(partial(torch.optim.SGD, lr=0.1)),
        "momentum": lambda: TorchOptim(partial(torch.optim.SGD, lr=0.1, momentum=0.9)),
        "RMSprop": lambda: TorchOptim(partial(torch.optim.RMSprop, lr=0.1, centered=True)),
        "two groups": lambda: TorchOptim(two_groups),
        "Pyro's Adam": lambda: pyro.optim.Adam({"lr": 0.1}),
        "ClippedAdam": lambda: pyro.optim.ClippedAdam({"lr": 0.1, "lrd": 0.9}),
        "schedule": lambda: pyro.optim.ExponentialLR(
            {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.1, "momentum": 0.5}, "gamma": 0.5}
        ),
        "plateau": lambda: pyro.optim.ReduceLROnPlateau(
            {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "patience": 0}
        ),
    }[name]()


NAMES = ["Adam", "AMSGrad", "fused Adam", "AdamW", "SGD", "momentum", "RMSprop", "two groups"]
NAMES += ["Pyro's Adam", "ClippedAdam", "schedule", "plateau"]


def take(optim, parameters, steps):
    """Steps down a bowl; a parameter that is not in the list is not known to the optimiser."""
    for step in range(steps):
        for i, p in enumerate(parameters):
            p.grad = p.detach() * (1 + i) + step
        optim(parameters)
        if hasattr(optim, "step"):
            optim.step(*([1.0] if "Plateau" in str(optim.pt_scheduler_constructor) else []))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("late", [False, True])
def test_an_optimiser_goes_on_as_if_it_had_not_been_saved(name, late):
    def named(values):
        return {n: v.detach().clone().requires_grad_() for n, v in zip("abc", values, strict=True)}

    ours = named([torch.ones(3), torch.ones(2, 2), torch.tensor(2.0)])
    optim = wrapped(name)
    take(optim, list(ours.values())[: 2 if late else 3], 4)
    take(optim, list(ours.values()), 3)
    state = optimiser_state(optim, ours)
    theirs, other = named(ours.values()), wrapped(name)
    load_optimiser_state(other, from_bytes(to_bytes(state)), theirs)
    assert identical(optimiser_state(other, theirs), state)
    take(optim, list(ours.values()), 5)
    take(other, list(theirs.values()), 5)
    for own, twin in zip(ours.values(), theirs.values(), strict=True):
        assert torch.equal(own, twin)
    assert identical(optimiser_state(other, theirs), optimiser_state(optim, ours))


def test_another_optimisers_state_is_refused():
    weights = {"a": torch.ones(2, requires_grad=True)}
    optim = wrapped("Adam")
    take(optim, list(weights.values()), 1)
    state = optimiser_state(optim, weights)
    with pytest.raises(ValueError, match=r"optim: .*lr=0.1, got 0.2"):
        load_optimiser_state(TorchOptim(partial(torch.optim.Adam, lr=0.2)), state, weights)


@settings(deadline=None)
@given(st.integers(1, 30), st.data())
def test_the_order_of_the_data_goes_on(data, draw):
    size, taken = draw.draw(st.integers(1, data)), draw.draw(st.integers(1, 20))
    first = BatchOrder(data, batch_size=size, generator=torch.Generator().manual_seed(1))
    for _ in range(taken):
        next(first)
    second = BatchOrder(data, batch_size=size, generator=torch.Generator())
    second.load_state(from_bytes(to_bytes(first.state())))
    for _ in range(20):
        assert torch.equal(next(first), next(second))


@pytest.mark.parametrize(
    "constraint",
    [
        constraints.real,
        constraints.positive,
        constraints.softplus_positive,
        constraints.unit_interval,
        constraints.interval(torch.tensor([0.0, 1.0]), 3.0),
        constraints.greater_than(-2.0),
        constraints.simplex,
        constraints.lower_cholesky,
        constraints.independent(constraints.positive, 1),
        constraints.ordered_vector,
    ],
)
def test_constraints_survive_in_words(constraint):
    again = constraint_of(from_bytes(to_bytes(described(constraint))))
    x = torch.randn(2, 2)
    ours, theirs = (torch.distributions.transform_to(c)(x) for c in (constraint, again))
    assert torch.equal(ours, theirs)
    assert again.event_dim == constraint.event_dim


def test_a_users_own_constraint_has_no_words():
    class Odd(torch.distributions.constraints.Constraint):
        pass

    assert described(Odd()) is None
    assert described(constraints.independent(Odd(), 1)) is None


def test_a_disk_that_fills_up_half_way_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    """No space is left when the bytes are to reach the disk."""
    run = Run(tmp_path)
    run.checkpoints.save(1, {"weight": torch.ones(3)})

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device while writing") as error:
        run.checkpoints.save(2, {"weight": torch.zeros(3)})
    assert error.value.errno == errno.ENOSPC
    assert "step-000000002" in error.value.filename
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    assert run.checkpoints.newest()["weight"].tolist() == [1.0, 1.0, 1.0]


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    Run(tmp_path).checkpoints.save(1, {"version": 0})
    with pytest.raises(ValueError, match="this version of pyro_bvae"):
        Run(tmp_path).newest_state()


def test_a_long_history_is_a_state_too():
    """Its text is longer than the 100 MB that safetensors allows a header."""
    state = {"rows": ["x" * 1000] * 110_000}
    assert from_bytes(to_bytes(state)) == state
