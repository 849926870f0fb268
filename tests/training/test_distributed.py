"""Two processes that train together: one training, that ends as one process's does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_bvae.training import Run
from pyro_bvae.training.batches import BatchOrder
from pyro_bvae.training.distributed import Group, Meetings, current_group
from tests.training.resumable import end_state, identical, same_files
from tests.training.test_resume import newest_step
from tests.training.together import (
    WAYS,
    broken_off,
    endless,
    failed_later,
    fixed_noise,
    going_on,
    kill,
    refused,
    seeded_apart,
    started,
    stopped_early,
    together,
    wait_for,
)


def same(first, second):
    return all(np.array_equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What two processes give that draw the same as one, and what one gives."""
    folder = tmp_path_factory.mktemp("shared")
    return *together(fixed_noise, folder), fixed_noise(0, folder)


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_two_processes_reach_the_weights_of_one(way, shared):
    """Only the order of sums differs: 40 steps amplify rounding to about 1e-12."""
    (first, first_history), (second, second_history), (alone, history) = (r[way] for r in shared)
    assert all(torch.equal(first[name], second[name]) for name in alone)
    assert same(first_history, second_history)
    for name, value in alone.items():
        assert first[name].numpy() == pytest.approx(value.numpy(), rel=0, abs=1e-9), name
    for name, values in history.items():
        assert first_history[name] == pytest.approx(values, rel=1e-8, abs=1e-9), name


def test_draws_differ_and_weights_do_not(tmp_path):
    """Nor do running statistics, late parameters, and a critic that each process made itself."""
    results = together(seeded_apart, tmp_path)
    (draws, weights, history, late), (others, other_weights, other_history, other_late) = results
    assert len(draws[-1]) == len(others[-1]) == 2
    assert not torch.equal(draws[-1], others[-1])
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    assert same(history, other_history)
    assert same(late, other_late)


def test_a_signal_to_one_ends_all_and_the_run_goes_on_bit_for_bit(tmp_path):
    for whole, (interrupted, steps), resumed in together(broken_off, tmp_path):
        assert interrupted
        assert 20 <= steps < 80
        assert same(whole, resumed)
    assert identical(end_state(tmp_path / "whole"), end_state(tmp_path / "run"))
    assert same_files(tmp_path / "whole", tmp_path / "run")


def test_callbacks_are_called_in_the_first_and_stop_all(tmp_path):
    (steps, seen), (other_steps, unseen) = together(stopped_early, tmp_path)
    assert (steps, other_steps) == (21, 21)
    assert (seen, unseen) == ([7, 14, 21], [])


def test_an_error_in_a_run_that_goes_on_leaves_the_history_of_the_first(tmp_path):
    first, second = together(failed_later, tmp_path)
    assert first[-1] == "an error"
    assert "history.json" in first
    assert second == ["an error"]
    assert Run(tmp_path / "run").history()["step"].tolist() == [7, 14, 21, 28, 35]


def test_what_is_wrong_is_said_in_all(tmp_path):
    first, second = together(refused, tmp_path)
    assert first[0] == second[0]
    assert "batch_size: expected a multiple of 2" in first[0]
    assert first[1].startswith("FileExistsError: run:")
    assert second[1] == f"OtherProcessError: the first process failed: {first[1]}"
    assert first[2].startswith("ZeroDivisionError")
    assert second[2].startswith("OtherProcessError: the first process failed: ZeroDivisionError")
    assert first[3] == second[3]
    assert "not finite at step" in first[3]


@pytest.mark.parametrize("victim", [0, 1])
def test_where_one_is_killed_the_other_ends_with_an_error(victim, tmp_path):
    members = started(endless, tmp_path)
    wait_for(tmp_path / "steps")
    kill(members[victim])
    members[1 - victim].join(30)
    assert members[victim].exitcode == -signal.SIGKILL
    assert members[1 - victim].exitcode == 1


def test_killed_at_any_moment_two_processes_go_on_bit_for_bit(tmp_path):
    """First both are killed, then the second one, whose end the first one notices."""
    for name in ("whole/first", "broken/first", "broken/second", "broken/last"):
        (tmp_path / name).mkdir(parents=True)
    together(going_on, tmp_path / "whole" / "first")
    run = tmp_path / "broken" / "run"
    for name, victims, after in (("first", (0, 1), 1), ("second", (1,), 40)):
        members = started(going_on, run.parent / name)
        while newest_step(run) < after and all(member.is_alive() for member in members):
            time.sleep(0.001)
        for victim in victims:
            kill(members[victim])
        for member in members:
            member.join(60)
        ends = [-signal.SIGKILL if rank in victims else 1 for rank in range(2)]
        assert [member.exitcode for member in members] == ends
        assert after <= newest_step(run) < 100
    together(going_on, run.parent / "last")
    assert identical(end_state(tmp_path / "whole" / "run"), end_state(run))
    assert same_files(tmp_path / "whole" / "run", run)


def test_torchrun_trains_from_the_command_line(tmp_path):
    run, data = tmp_path / "run", tmp_path / "data.npy"
    np.save(data, np.linspace(0.0, 1.0, 80 * 16).reshape(80, 1, 4, 4))
    options = ["--data", str(data), "--net", "mlp", "--latents", "2", "--steps", "6"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "pyro_bvae", "train", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([*command, *options], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("report: ") == 1
    assert json.loads((run / "settings.json").read_text())["processes"] == 2
    assert json.loads((run / "history.json").read_text())["step"][-1] == 6
    assert sorted(Path(run).glob("*.html")) == [run / "report.html"]


@settings(deadline=None)
@given(size=st.integers(1, 5), share=st.integers(1, 4), data=st.integers(20, 50))
def test_shares_in_order_are_the_batches_of_one_process(size, share, data):
    def order():
        generator = torch.Generator().manual_seed(0)
        return BatchOrder(data, batch_size=size * share, generator=generator)

    groups = [Group(rank, size) for rank in range(size)]
    orders = [order() for _ in groups]
    for _, batch in zip(range(3), order(), strict=False):
        shares = [group.share(next(own)) for group, own in zip(groups, orders, strict=True)]
        assert [len(part) for part in shares] == [share] * size
        assert torch.equal(torch.cat(shares), batch)


def test_alone_everything_is_as_it_is():
    group = current_group()
    assert (group.rank, group.size) == (0, 1)
    weight = torch.ones(2, requires_grad=True)
    weight.grad = torch.full((2,), 3.0)
    group.average_gradients([weight])
    assert weight.grad.tolist() == [3.0, 3.0]
    assert group.from_first(lambda: 5) == group.after_first(lambda: 5) == 5
    assert Meetings(group)(7, 0) == (7, 0)
    group.check_batch(30, accumulate=3)
    with pytest.raises(ValueError, match=r"a multiple of 4.*got 30"):
        group.check_batch(30, accumulate=4)
