"""Processes that train together, as tests start them."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from tqdm import tqdm

from pyro_bvae import fit
from pyro_bvae.networks import mlp_critic
from pyro_bvae.objectives import FactorELBO
from pyro_bvae.training import EarlyStopping, OtherProcessError, Record
from pyro_bvae.training import run as run_module
from tests.training.fixed_noise import pair_and_data
from tests.training.resumable import adam, begin
from tests.training.test_gradients import quiet, warm_up

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.training.together", "torch._dynamo"])
Work = Callable[[int, Path], Any]


def started(work: Work, folder: Path, *, number: int = 2) -> list[Any]:
    """Start processes that do some work in one group, and leave what it returns in files."""
    found = [
        processes.Process(target=_member, args=(work, r, number, folder)) for r in range(number)
    ]
    for process in found:
        process.start()
    return found


def together(work: Work, folder: Path, *, number: int = 2) -> list[Any]:
    """Return what every process returned; AssertionError if one failed."""
    members = started(work, folder, number=number)
    for process in members:
        process.join(120)
    assert [process.exitcode for process in members] == [0] * number
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(number)]


def _member(work: Work, rank: int, number: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    tqdm.set_lock(threading.RLock())
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=number,
        timeout=timedelta(seconds=60),
    )
    result = work(rank, folder)
    torch.save(result, folder / f"{rank}.pt")
    dist.destroy_process_group()


def weights(pair: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in pair.state_dict().items()}


EVERYTHING = {"lr_schedule": warm_up, "clip_norm": 0.5, "average": 0.9}
WAYS: list[dict[str, Any]] = [
    {"compile": "eager"},
    {"compile": "recorded", **EVERYTHING},
    {"compile": "auto", "steps": 25, "accumulate": 3},
]


def fixed_noise(rank: int, folder: Path) -> Any:
    """Train the pair whose noise is data, in several ways."""
    found = []
    for options in WAYS:
        pair, data = pair_and_data()
        with torch.no_grad():
            pair.log_scale += rank
        result = quiet(pair, data, every=8, validation=0.2, **options)
        found.append((weights(pair), result.history))
    return found


def seeded_apart(rank: int, folder: Path) -> Any:
    """Return what both drew for the same data, and the weights they ended with."""
    draws: list[Tensor] = []
    options = {"steps": 9, "compile": "eager", "callbacks": []}
    with torch.random.fork_rng():
        result = begin(None, **options)
    result.pair.likelihood.register_forward_pre_hook(lambda _, z: draws.append(z[0].detach()))
    fit(result.pair, torch.ones(40, 6), batch_size=4, steps=1, progress=False, compile="eager")
    functions = begin(None, name="functions", steps=9)
    torch.manual_seed(rank)
    objective = FactorELBO(mlp_critic(2, hidden=(8,)), gamma=2.0)
    begin(None, objective=objective, **options)
    ended = weights(result.pair) | weights(objective.critic)
    return draws, ended, result.history, functions.history


def broken_off(rank: int, folder: Path) -> Any:
    """Train at once, and again with a Ctrl-C that only the second process hears."""

    def ctrl_c(step: int) -> Any:
        def make(parameters: Any) -> torch.optim.Adam:
            def hook(*_: Any) -> None:
                hook.steps += 1
                if rank == 1 and hook.steps == step:
                    signal.raise_signal(signal.SIGINT)

            hook.steps = 0
            optimiser = torch.optim.Adam(parameters, lr=0.01)
            optimiser.register_step_post_hook(hook)
            return optimiser

        make.__module__, make.__qualname__ = adam.__module__, adam.__qualname__
        return make

    options = {"average": 0.9, "steps": 80}
    whole = begin(folder / "whole", **options)
    broken = begin(folder / "run", **options, optim=ctrl_c(20))
    resumed = begin(folder / "run", **options, resume=True)
    return whole.history, (broken.interrupted, broken.steps), resumed.history


def stopped_early(rank: int, folder: Path) -> Any:
    """Stop by a callback; return the steps, and the records that this process was shown."""
    seen: list[int] = []
    stop = EarlyStopping(patience=2, margin=1e9, monitor="loss")
    result = begin(None, callbacks=[stop, lambda record: seen.append(record.step)])
    return result.steps, seen


def failed_later(rank: int, folder: Path) -> list[str]:
    """Go on with a run until an error ends it; return the files that this process wrote then."""
    written: list[str] = []
    write = run_module.replace

    def note(path: Path, content: bytes) -> None:
        written.append(path.name)
        write(path, content)

    def fail(record: Record) -> None:
        if record.step == 35:
            raise ZeroDivisionError

    begin(folder / "run", steps=14, callbacks=[])
    run_module.replace = note
    try:
        begin(folder / "run", resume=True, callbacks=[fail])
    except (ZeroDivisionError, OtherProcessError):
        written.append("an error")
    return written


def refused(rank: int, folder: Path) -> Any:
    """Return what is said of bad input that all see, and that only the first does."""

    def said(**options: Any) -> str:
        try:
            quiet(*pair_and_data(), **options)
        except (ValueError, FileExistsError, OtherProcessError, FloatingPointError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    quiet(*pair_and_data(), steps=1, run=folder / "there")
    broken = [lambda record: 1 / 0]
    return [
        said(batch_size=31),
        said(run=folder / "there"),
        said(steps=1, callbacks=broken) if rank else _zero_division(said, broken),
        said(optim=_towards_infinity, steps=5),
    ]


DISAGREEMENTS: list[dict[str, Any]] = [
    {"seed": [0, 1]},
    {"batch_size": [32, 16]},
    {"beta": [1.0, 2.0]},
    {"steps": [20, 30]},
    {"every": [2, 3]},
    {"compile": ["eager", "recorded"]},
    {"lr_schedule": [None, warm_up]},
]


def disagreeing(rank: int, folder: Path) -> list[str]:
    """Return what is said in this process where another has other settings, data or networks."""

    def said(pair: Any, data: Any, **options: Any) -> str:
        try:
            quiet(pair, data, **{"steps": 20, "every": 5, "batch_size": 32} | options)
        except ValueError as error:
            return str(error)
        return ""

    pair, (x, noise) = pair_and_data()
    found = []
    for setting in DISAGREEMENTS:
        found.append(said(pair, (x, noise), **{name: v[rank] for name, v in setting.items()}))
    found.append(said(pair, (x[: 90 - 20 * rank], noise[: 90 - 20 * rank])))
    found.append(said(pair, (x + rank, noise)))
    pair.encoder = torch.nn.Sequential(torch.nn.Linear(6, 8 + rank), torch.nn.Linear(8 + rank, 2))
    found.append(said(pair, (x, noise)))
    found.append(said(*pair_and_data(), steps=1))
    return found


ONE_IS_WRONG: list[dict[str, Any]] = [
    {"batch_size": 31},
    {"batch_size": 91},
    {"accumulate": 7},
    {"steps": 0},
    {"beta": -1.0},
    {"beta": lambda step: -1.0},
    {"callbacks": None},
    {"optim": 3},
    {"validation": 2.0},
]


def one_refused(rank: int, folder: Path) -> list[str]:
    """Return what is said in this process where only the second has bad input."""
    found = []
    for wrong in ONE_IS_WRONG:
        try:
            quiet(*pair_and_data(), **{"steps": 20, "batch_size": 30} | (wrong if rank else {}))
        except (ValueError, TypeError, OtherProcessError) as error:
            found.append(f"{type(error).__name__}: {error}")
    quiet(*pair_and_data(), steps=1)
    return found


def _zero_division(said: Callable[..., str], broken: Any) -> str:
    try:
        return said(steps=1, callbacks=broken)
    except ZeroDivisionError as error:
        return f"ZeroDivisionError: {error}"


def _towards_infinity(parameters: Any) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, lr=1e200)


def endless(rank: int, folder: Path) -> None:
    """Train until the other process is gone."""

    def note(record: Any) -> None:
        (folder / "steps").write_text(str(record.step))

    begin(None, steps=10**7, every=10, callbacks=[note])


def going_on(rank: int, folder: Path) -> None:
    """Go on with the run beside this folder, with a checkpoint after almost every step."""
    begin(folder.parent / "run", resume=True, steps=100, average=0.9, every_step=True)


def wait_for(path: Path, seconds: float = 60.0) -> None:
    """Wait for a file; TimeoutError if it does not come."""
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.01)


def kill(process: Any) -> None:
    """Kill as nothing can be prepared for."""
    os.kill(process.pid, signal.SIGKILL)
