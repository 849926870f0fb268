"""Runs that are broken off and go on: the same to the last bit as if nothing had happened."""

import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import torch

from tests.training.resumable import begin, end_state, identical, same_files

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.training.resumable", "torch._dynamo"])


def ctrl_c_at(step):
    """Press Ctrl-C when the optimiser has taken so many steps."""

    def hook(optimiser, args, kwargs):
        hook.steps += 1
        if hook.steps == step:
            signal.raise_signal(signal.SIGINT)

    hook.steps = 0
    return hook


def interrupting(make, step):
    """Make an optimiser that presses Ctrl-C within its step of that number."""

    def factory(parameters):
        optimiser = make(parameters)
        optimiser.register_step_post_hook(ctrl_c_at(step))
        return optimiser

    factory.__qualname__ = make.__qualname__
    return factory


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, nesterov=True)


def two_groups(parameters):
    matrices = [p for p in parameters if p.dim() > 1]
    others = [p for p in parameters if p.dim() <= 1]
    return torch.optim.AdamW(
        [{"params": others, "lr": 0.02}, {"params": matrices}], lr=0.01, amsgrad=True
    )


@pytest.mark.parametrize(
    ("name", "make", "dtype", "step"),
    [
        ("vae", adam, torch.float32, 1),
        ("vae", adam, torch.float64, 30),
        ("vae", momentum, torch.float32, 35),
        ("vae", two_groups, torch.float64, 119),
        ("functions", adam, torch.float64, 8),
        ("functions", adam, torch.float32, 80),
        ("regression", momentum, torch.float64, 50),
    ],
)
def test_interrupted_and_resumed_is_uninterrupted(name, make, dtype, step, tmp_path):
    options = {"name": name, "dtype": dtype}
    whole = begin(tmp_path / "whole", **options, optim=make)
    broken = begin(tmp_path / "broken", **options, optim=interrupting(make, step))
    assert (broken.interrupted, broken.steps, whole.interrupted) == (True, step, False)
    assert broken.history["step"].tolist() == list(range(7, step + 1, 7)) if step > 6 else True
    resumed = begin(tmp_path / "broken", **options, optim=make, resume=True)
    assert (resumed.interrupted, resumed.steps) == (False, 120)
    assert identical(end_state(tmp_path / "whole"), end_state(tmp_path / "broken"))
    assert same_files(tmp_path / "whole", tmp_path / "broken")
    for column in whole.history:
        assert np.array_equal(whole.history[column], resumed.history[column]), column


class CtrlC:
    """Press Ctrl-C at the record of a step."""

    def __init__(self, step):
        self.step = step

    def __call__(self, record):
        if record.step == self.step:
            signal.raise_signal(signal.SIGINT)


def test_recorded_runs_resume_bit_for_bit_too(tmp_path):
    """Ended while the step is still being recorded, and when its graph runs."""
    options = {"name": "static", "compile": "recorded", "every": 1, "steps": 60}
    begin(tmp_path / "whole", **options, callbacks=[])
    for step in (2, 30):
        part = begin(tmp_path / "broken", **options, callbacks=[CtrlC(step)], resume=True)
        assert (part.interrupted, part.steps) == (True, step)
    begin(tmp_path / "broken", **options, callbacks=[], resume=True)
    assert identical(end_state(tmp_path / "whole"), end_state(tmp_path / "broken"))
    assert same_files(tmp_path / "whole", tmp_path / "broken")


def test_compiled_runs_resume_to_rounding(tmp_path):
    """With the random numbers of eager steps; to rounding, which 12 steps hardly amplify."""
    options = {"name": "static", "compile": "compiled", "every": 2, "steps": 12}
    with torch._inductor.config.patch(fallback_random=True):
        whole = begin(None, **options, callbacks=[])
        begin(tmp_path, **options, callbacks=[CtrlC(6)])
        resumed = begin(tmp_path, **options, callbacks=[], resume=True)
    assert resumed.steps == 12
    for name, values in whole.history.items():
        assert resumed.history[name] == pytest.approx(values, rel=1e-9), name


class StopAt:
    """End the training at a step."""

    def __init__(self, step):
        self.step = step

    def __call__(self, record):
        return record.step >= self.step


def started(run, **arguments):
    """Resume a run in a process of its own, which leaves a checkpoint after almost every step."""
    options = {"resume": True, "every_step": True, **arguments}
    process = processes.Process(target=begin, args=(run,), kwargs=options)
    process.start()
    return process


def newest_step(run):
    return max((int(path.name.split("-")[1]) for path in run.glob("checkpoints/step*")), default=0)


def hit(process, run, number, *, after, wait=0.0):
    """Send a signal once a checkpoint of that step is there; return how the process ended."""
    while process.is_alive() and newest_step(run) < after:
        time.sleep(0.001)
    time.sleep(wait)
    if process.is_alive():
        os.kill(process.pid, number)
    process.join(60)
    return process.exitcode


@pytest.mark.parametrize(("name", "dtype"), [("vae", torch.float32), ("functions", torch.float64)])
def test_killed_at_random_moments_and_resumed_is_uninterrupted(name, dtype, tmp_path):
    options = {"name": name, "dtype": dtype, "steps": 200}
    begin(tmp_path / "whole", **options)
    run, moments = tmp_path / "broken", random.Random(0)
    for kill in range(4):
        process = started(run, **options)
        wait = moments.uniform(0.0, 0.02)
        assert hit(process, run, signal.SIGKILL, after=45 * kill, wait=wait) == -signal.SIGKILL
    assert 135 <= newest_step(run) < 200
    begin(run, resume=True, **options)
    assert identical(end_state(tmp_path / "whole"), end_state(run))
    assert same_files(tmp_path / "whole", run)
    assert not list(run.rglob(".*.part"))
