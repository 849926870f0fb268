"""Runs that are broken off and go on: the same to the last bit as if nothing had happened."""

import multiprocessing
import os
import random
import resource
import signal
import time
from functools import partial
from unittest.mock import MagicMock

import numpy as np
import pyro
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, SequentialLR, StepLR

from pyro_bvae.networks import mlp_critic
from pyro_bvae.objectives import ELBO, FactorELBO
from pyro_bvae.training import CheckpointWarning, EarlyStopping, Run, schedules, session
from tests.training.resumable import (
    adam,
    begin,
    begin_to_be_killed,
    begin_to_die_writing,
    data,
    end_state,
    identical,
    same_files,
)

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

    factory.__module__, factory.__qualname__ = make.__module__, make.__qualname__
    return factory


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


class Decay:
    """A schedule that is an object, as `LambdaLR` takes one."""

    def __init__(self, by=0.99):
        self.by = by

    def __call__(self, step):
        return self.by**step


def halve(step):
    return 0.5**step


@pytest.mark.parametrize("rate", [halve, Decay()])
def test_a_run_with_a_function_in_its_schedule_goes_on_in_another_process(rate, tmp_path):
    """Which has the function elsewhere in memory."""
    options = {"lr_schedule": partial(LambdaLR, lr_lambda=rate)}
    begin(tmp_path, steps=8, **options)
    process = processes.Process(target=begin_to_be_killed, args=(tmp_path, {"steps": 9, **options}))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert newest_step(tmp_path) == 9


def test_a_critic_and_its_optimiser_resume_too(tmp_path):
    def objective():
        torch.manual_seed(5)
        return FactorELBO(mlp_critic(2, hidden=(8,)), gamma=2.0)

    begin(tmp_path / "whole", objective=objective())
    begin(tmp_path / "broken", objective=objective(), optim=interrupting(adam, 50))
    begin(tmp_path / "broken", objective=objective(), resume=True)
    assert end_state(tmp_path / "whole")["loop"]["trainer"] is not None
    assert identical(end_state(tmp_path / "whole"), end_state(tmp_path / "broken"))


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing broke off."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    begin(run)
    return run


def started(run, **arguments):
    """Resume a run in a process of its own, which leaves a checkpoint after almost every step."""
    options = {"every_step": True, **arguments}
    process = processes.Process(target=begin_to_be_killed, args=(run, options))
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


@pytest.mark.parametrize("moment", ["half", "whole", "named"])
@pytest.mark.parametrize("name", ["step-", "weights", "best", "history"])
def test_killed_while_a_file_is_written_and_resumed_is_uninterrupted(name, moment, whole, tmp_path):
    """With half of its bytes there, all of them, or the file in its place and the last not gone."""
    process = processes.Process(target=begin_to_die_writing, args=(tmp_path, name, moment))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    parts = {"step-": "checkpoints/.step-*.part"}.get(name, f".{name}.*.part")
    assert len(list(tmp_path.glob(parts))) == (moment != "named")
    begin(tmp_path, resume=True)
    assert identical(end_state(whole), end_state(tmp_path))
    assert same_files(whole, tmp_path)
    assert not list(tmp_path.rglob(".*.part"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_a_signal_leaves_a_checkpoint_at_once(number, code, tmp_path):
    """Within a process of its own; 143 is what a shell reports after SIGTERM."""
    begin(tmp_path / "whole")
    process = started(tmp_path / "run", steps=10**6, every_step=False)
    while process.is_alive() and not (tmp_path / "run" / "history.json").exists():
        time.sleep(0.001)
    assert newest_step(tmp_path / "run") == 0
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == code
    assert newest_step(tmp_path / "run") > 0


def test_ctrl_c_leaves_everything_outside_as_it_was():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    random_state = torch.get_rng_state()
    result = begin(None, optim=interrupting(adam, 20))
    torch.set_rng_state(random_state)
    assert (result.interrupted, result.steps, len(result.history["step"])) == (True, 20, 2)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_second_ctrl_c_ends_a_callback_that_hangs(tmp_path):
    def twice(record):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path, callbacks=[twice])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_full_disk_leaves_what_was_saved_and_the_run_can_go_on(tmp_path):
    """A real limit on the size of files, which a checkpoint exceeds and the weights do not."""
    begin(tmp_path / "whole")
    begin(tmp_path / "run", optim=interrupting(adam, 30))
    before = {path.name: path.read_bytes() for path in (tmp_path / "run/checkpoints").iterdir()}
    sizes = [len(content) for content in before.values()]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(sizes) - 1, hard))
    try:
        with pytest.raises(OSError, match=r"File too large while writing.*intact.*step-0+120"):
            begin(tmp_path / "run", resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = {path.name: path.read_bytes() for path in (tmp_path / "run/checkpoints").iterdir()}
    assert after == before
    begin(tmp_path / "run", resume=True)
    assert identical(end_state(tmp_path / "whole"), end_state(tmp_path / "run"))


@pytest.mark.parametrize("damage", ["truncated", "empty", "one bit", "directory", "link"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(damage, tmp_path):
    begin(tmp_path / "whole")
    for step in (20, 40):
        begin(
            tmp_path / "run",
            optim=interrupting(adam, step - newest_step(tmp_path / "run")),
            resume=True,
        )
    newest = max((tmp_path / "run/checkpoints").iterdir())
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.unlink()
    if damage == "directory":
        newest.mkdir()
    elif damage == "link":
        newest.symlink_to(tmp_path / "nowhere")
    else:
        kept = {"truncated": 1000, "empty": 0, "one bit": len(content)}[damage]
        newest.write_bytes(bytes(content[:kept]))
    with pytest.warns(CheckpointWarning, match=f"step-000000020.*{newest.name}") as caught:
        begin(tmp_path / "run", resume=True)
    assert len(caught) == 1
    assert not newest.exists()
    assert identical(end_state(tmp_path / "whole"), end_state(tmp_path / "run"))


@pytest.mark.parametrize("content", [None, b"garbage"])
def test_best_weights_that_are_lost_are_those_of_the_records_from_there_on(content, tmp_path):
    begin(tmp_path, steps=21)
    best = tmp_path / "best.safetensors"
    best.unlink()
    if content is not None:
        best.write_bytes(content)
    with pytest.warns(CheckpointWarning, match=r"from here on: .*best\.safetensors"):
        begin(tmp_path, steps=28, resume=True)
    assert best.read_bytes() == (tmp_path / "weights.safetensors").read_bytes()


def test_without_a_whole_checkpoint_nothing_is_begun_anew(tmp_path):
    begin(tmp_path, steps=5)
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"every checkpoint is damaged.*overwrite=True"):
        begin(tmp_path, steps=5, resume=True)
    begin(tmp_path, steps=5, overwrite=True)
    assert newest_step(tmp_path) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed: it has 0, got 1"),
        ({"batch_size": 16}, "batch_size: it has 32, got 16"),
        ({"every": 5}, "every: it has 7, got 5"),
        ({"beta": 2.0}, "beta: it has"),
        ({"beta": schedules.linear(0.0, 3.0, steps=100)}, "beta: the run was trained with 0.12 at"),
        ({"validation": None}, "validation: it has 20, got 0"),
        ({"objective": ELBO(num_particles=2)}, "num_particles=1.*num_particles=2"),
        ({"optim": partial(torch.optim.Adam, lr=0.02)}, r"able.adam', got '.*Adam\(lr=0.02\)'"),
        ({"optim": momentum}, "optim: it has"),
        ({"lr_schedule": partial(LambdaLR, lr_lambda=Decay())}, r"LambdaLR.lr_lambda=.*by=0.99"),
        ({"compile": "recorded"}, "compile: it has 'eager', got 'recorded'"),
        ({"callbacks": []}, r"callbacks: it has \[.*EarlyStopping\(.*\], got \[\]"),
        (
            {"callbacks": [EarlyStopping(patience=99, monitor="loss")]},
            "callbacks: .*patience=100, monitor='loss', margin=0.0.*patience=99",
        ),
        ({"steps": 3}, "steps: the run has taken 8 already, got 3"),
        ({"name": "functions", "beta": 2.0}, "data: it has 80, got 100"),
    ],
)
def test_another_setting_than_the_runs_is_named(change, message, tmp_path):
    begin(tmp_path, steps=8)
    with pytest.raises(ValueError, match=message):
        begin(tmp_path, **{"steps": 8, "resume": True} | change)


def test_another_pair_is_told_apart_by_its_tensors(tmp_path):
    begin(tmp_path, steps=3, beta=2.0)
    x = data("vae")
    with pytest.raises(ValueError, match=r"expected 'prior.* to be torch.float64"):
        begin(tmp_path, steps=3, beta=2.0, resume=True, dtype=torch.float32, given=x)
    other = {"validation": None, "batch_size": 32, "steps": 3, "beta": 2.0}
    begin(tmp_path / "other", **other)
    with pytest.raises(ValueError, match=r"the pair lacks.*likelihood"):
        begin(tmp_path / "other", **other, name="functions", resume=True)


def test_other_data_of_the_same_length_are_refused(tmp_path):
    begin(tmp_path, steps=3)
    with pytest.raises(ValueError, match=r"data_content: it has 'float64 \[6\], sha256 .*', got"):
        begin(tmp_path, steps=3, resume=True, given=data("vae") + 1.0)


def halving(optimiser):
    return StepLR(optimiser, step_size=2, gamma=0.5)


def falling(optimiser):
    return CosineAnnealingLR(optimiser, T_max=20)


def halving_then(schedule):
    return lambda optimiser: SequentialLR(
        optimiser, [halving(optimiser), schedule(optimiser)], milestones=[3]
    )


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            lambda o: halving(o),
            lambda o: falling(o),
            r"torch.*\StepLR, got .*CosineAnnealingLR, .*T_max",
        ),
        (
            halving_then(halving),
            halving_then(falling),
            r"torch.*SequentialLR\(.*, .*StepLR\), got .*Cos",
        ),
    ],
)
def test_another_schedule_is_refused_even_under_the_same_name(first, second, message, tmp_path):
    begin(tmp_path, steps=8, lr_schedule=first)
    with pytest.raises(ValueError, match=f"lr_schedule: the run was trained with {message}"):
        begin(tmp_path, steps=8, lr_schedule=second, resume=True)
    begin(tmp_path, steps=9, lr_schedule=first, resume=True)


def test_an_optimiser_with_other_numbers_is_refused_even_under_the_same_name(tmp_path):
    def faster(parameters):
        return torch.optim.Adam(parameters, lr=0.5)

    faster.__module__, faster.__qualname__ = adam.__module__, adam.__qualname__
    begin(tmp_path, steps=8, optim=adam)
    with pytest.raises(ValueError, match=r"optim: the run was trained with lr=0.01, got 0.5"):
        begin(tmp_path, steps=8, optim=faster, resume=True)


def test_a_finished_run_returns_what_it_was_and_more_steps_continue_it(tmp_path):
    first = begin(tmp_path, steps=21)
    assert begin(tmp_path, steps=21, resume=True).history["loss"].tolist() == (
        first.history["loss"].tolist()
    )
    more = begin(tmp_path, steps=35, resume=True)
    whole = begin(None, steps=35)
    assert more.history["loss"].tolist() == whole.history["loss"].tolist()
    assert more.seconds > first.seconds


def test_a_run_that_stopped_early_stays_stopped_and_waits_as_before(tmp_path):
    stopping = {"steps": 120, "callbacks": [EarlyStopping(patience=3, margin=1e6, monitor="loss")]}
    assert begin(tmp_path / "whole", **stopping).steps == 28
    assert begin(tmp_path / "whole", **stopping, resume=True).steps == 28
    begin(tmp_path / "run", **stopping, optim=interrupting(adam, 15))
    assert begin(tmp_path / "run", **stopping, resume=True).steps == 28


def test_resume_begins_a_run_that_is_not_there_and_leaves_foreign_ones_alone(tmp_path):
    assert begin(tmp_path / "new", steps=5, resume=True).steps == 5
    Run(tmp_path).write_weights({"weight": torch.ones(2)})
    with pytest.raises(FileExistsError, match="if it has checkpoints"):
        begin(tmp_path, steps=5, resume=True)
    (tmp_path / "new" / "weights.safetensors").unlink()
    with pytest.raises(FileExistsError, match="already holds a run"):
        begin(tmp_path / "new", steps=5)


def test_last_few_checkpoints_and_the_best_weights_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "SECONDS", 0.0)
    monkeypatch.setattr(session, "SHARE", 1e9)
    optim = partial(torch.optim.SGD, lr=0.02, momentum=0.9)
    result = begin(tmp_path, steps=35, keep=2, optim=optim)
    steps = sorted(int(p.name.split("-")[1]) for p in (tmp_path / "checkpoints").iterdir())
    assert steps == [34, 35]
    losses = result.history["validation_loss"]
    best = int(result.history["step"][np.argmin(losses)])
    at_best = begin(None, steps=best, optim=optim).pair.state_dict()
    Run(tmp_path).load_into(result.pair, best=True)
    assert 7 < best < 35
    for name, value in result.pair.state_dict().items():
        assert torch.equal(value, at_best[name]), name


def test_callbacks_without_a_state_come_and_go(tmp_path):
    def quiet(record):
        pass

    stop, seen = EarlyStopping(patience=100, monitor="loss"), []
    begin(tmp_path, steps=8, callbacks=[stop, quiet])
    begin(tmp_path, steps=9, callbacks=[lambda r: seen.append(r.step), stop], resume=True)
    assert seen == [9]


class Lowest:
    """Keep the lowest loss, under the name of the argument that it begins with."""

    def __init__(self, lowest=float("inf")):
        self.lowest = lowest

    def __call__(self, record):
        self.lowest = min(self.lowest, record.values["loss"])

    def state(self):
        return {"lowest": self.lowest}

    def load_state(self, state):
        self.lowest = state["lowest"]


def test_a_run_goes_on_with_the_same_instance_of_a_callback(tmp_path):
    lowest = Lowest()
    begin(tmp_path, steps=14, callbacks=[lowest])
    result = begin(tmp_path, steps=28, callbacks=[lowest], resume=True)
    assert lowest.lowest == result.history["loss"].min()


def test_without_a_run_callbacks_need_no_words():
    callback = MagicMock(return_value=False)
    begin(None, steps=14, callbacks=[callback])
    assert callback.call_count == 2
    assert not callback.state.called


@pytest.mark.parametrize("rates", [(0.5, 0.02), (0.02, 0.5)])
def test_another_rate_of_a_group_is_refused_even_under_the_same_name(rates, tmp_path):
    """Though the optimiser's default is the same."""

    def groups(*rates):
        def make(parameters):
            given = zip((parameters[::2], parameters[1::2]), rates, strict=True)
            return torch.optim.SGD([{"params": p, "lr": lr} for p, lr in given], lr=1.0)

        return make

    begin(tmp_path, steps=3, optim=groups(0.02, 0.02))
    with pytest.raises(ValueError, match=r"optim: the run was trained with lr=0.02, got 0.5"):
        begin(tmp_path, steps=3, optim=groups(*rates), resume=True)


def test_another_rate_of_the_critic_is_refused_even_under_the_same_name(tmp_path):
    def options(rate):
        torch.manual_seed(5)
        critic = mlp_critic(2, hidden=(8,))
        optim = {"critic_optim": lambda parameters: torch.optim.Adam(parameters, lr=rate)}
        return {"steps": 3, "objective": FactorELBO(critic, gamma=2.0), **optim}

    begin(tmp_path, **options(0.1))
    with pytest.raises(ValueError, match=r"critic_optim: .* with lr=0.1, got 0.2"):
        begin(tmp_path, **options(0.2), resume=True)


def test_other_numbers_of_a_schedule_are_refused_even_under_the_same_name(tmp_path):
    def halving_every(steps):
        return lambda optimiser: StepLR(optimiser, step_size=steps, gamma=0.5)

    begin(tmp_path, steps=3, lr_schedule=halving_every(2))
    with pytest.raises(ValueError, match=r"lr_schedule: .* with step_size=2, got 3"):
        begin(tmp_path, steps=3, lr_schedule=halving_every(3), resume=True)


class Jittered(torch.utils.data.Dataset):
    """Data with noise of everyone's generators, anew at every reading."""

    def __init__(self):
        self.x = data("vae")

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        noise = (random.gauss(0.0, 0.1), np.random.normal(scale=0.1), torch.randn(()) / 10)
        return self.x[index] + sum(map(float, noise))


def test_data_that_are_drawn_anew_go_on_too(tmp_path):
    begin(tmp_path / "whole", given=Jittered())
    begin(tmp_path / "broken", given=Jittered(), optim=interrupting(adam, 31))
    begin(tmp_path / "broken", given=Jittered(), resume=True)
    assert identical(end_state(tmp_path / "whole"), end_state(tmp_path / "broken"))
    assert same_files(tmp_path / "whole", tmp_path / "broken")


def test_a_resumed_run_leaves_other_generators_as_they_were(tmp_path):
    """Though the run itself drew from them."""

    def draws():
        return random.gauss(0.0, 1.0), np.random.normal()

    pyro.set_rng_seed(0)
    first = draws()
    options = {"every": 1, "callbacks": [lambda record: draws() and None]}
    begin(tmp_path, steps=3, **options)
    assert draws() != first
    begin(tmp_path, steps=3, **options, resume=True)
    assert draws() == first
    begin(tmp_path, steps=5, **options, resume=True)
    assert draws() == first
