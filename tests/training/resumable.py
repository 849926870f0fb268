"""Runs that can be broken off and resumed, in this process or in one that is killed."""

import io
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro import distributions as dist
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn
from tqdm import tqdm

from pyro_bvae import VAE, fit
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_decoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training import EarlyStopping, Fit, Run, files, outputs, schedules, session
from pyro_bvae.training.pace import Pace
from tests.training.small_examples import auto_normal_regression


def vae() -> VAE:
    """A VAE with a learned σ and a buffer that training changes."""
    encoder = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 8), nn.ReLU())
    return VAE(
        prior=NormalPrior(2, scale="learned"),
        likelihood=NormalLikelihood(mlp_decoder(2, (6,), hidden=(16,)), scale="learned"),
        posterior=MeanFieldPosterior(encoder, latents=2, features=8),
    )


def functions() -> tuple[Callable[..., None], Callable[..., None]]:
    """Two functions with parameters in Pyro's store: constrained, of a network, and a late one."""
    net = nn.Sequential(nn.Linear(6, 2), nn.BatchNorm1d(2))

    def model(x: Tensor) -> None:
        loc = pyro.param("loc", torch.zeros(2))
        noise = pyro.param("noise", torch.tensor(1.0), constraint=dist.constraints.positive)
        with pyro.plate("data", 100, subsample=x):
            z = pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.mean(-1), noise), obs=x.mean(-1))

    def guide(x: Tensor) -> None:
        pyro.module("net", net)
        scale = pyro.param("scale", lambda: torch.rand(2), constraint=dist.constraints.positive)
        if pyro.param("loc", torch.zeros(2))[0] > 0.1:
            bounds = dist.constraints.interval(0.1, 2.0)
            scale = scale * pyro.param("late", lambda: 0.5 + torch.rand(2), constraint=bounds)
        with pyro.plate("data", 100, subsample=x):
            pyro.sample("z", dist.Normal(net(x), scale).to_event(1))

    return model, guide


def static() -> tuple[Callable[..., None], Callable[..., None]]:
    """The smallest pair whose structure never changes, so that its steps can be recorded."""

    def model(x: Tensor) -> None:
        noise = pyro.param("noise", torch.tensor(1.0), constraint=dist.constraints.positive)
        with pyro.plate("data", 100, subsample=x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, noise), obs=x.mean(-1))

    def guide(x: Tensor) -> None:
        weight = pyro.param("weight", lambda: torch.randn(6))
        with pyro.plate("data", 100, subsample=x):
            pyro.sample("z", dist.Normal(x @ weight, 0.5))

    return model, guide


def regression() -> tuple[Any, Any]:
    """A PyroModule and Pyro's own guide, which makes its parameters when it is first called."""
    example = auto_normal_regression()
    return example.model, AutoNormal(example.model)


PAIRS = {"vae": vae, "functions": functions, "static": static, "regression": regression}


def data(name: str) -> Any:
    """What each pair is trained on."""
    torch.manual_seed(1)
    x = torch.randn(100, 6) * torch.linspace(0.5, 2.0, 6) + 1.0
    return (x[:, :3], x[:, 0] - x[:, 1]) if name == "regression" else x


def adam(parameters: Any) -> torch.optim.Adam:
    """What runs are trained with unless a test says otherwise."""
    return torch.optim.Adam(parameters, lr=0.01)


def begin(
    run: Path | None,
    *,
    name: str = "vae",
    dtype: torch.dtype = torch.float64,
    every_step: bool = False,
    given: Tensor | None = None,
    **arguments: Any,
) -> Fit:
    """Begin a run as a new process does: same seed, empty store; or go on with it."""
    torch.set_default_dtype(dtype)
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    if every_step:
        session.SECONDS, session.SHARE = 0.0, 1.0
    options: dict[str, Any] = {
        "steps": 120,
        "every": 7,
        "batch_size": 32,
        "compile": "eager",
        "optim": adam,
        "callbacks": [EarlyStopping(patience=100, monitor="loss")],
    }
    if name == "vae":
        options |= {"beta": schedules.linear(0.0, 2.0, steps=100), "validation": 0.2}
    if name == "regression":
        options["beta"] = {"linear.weight": 0.5}
    pair, used = PAIRS[name](), data(name)
    used = used if given is None else given
    return fit(pair, used, run=run, progress=False, **options | arguments)


def begin_to_be_killed(run: Path, arguments: dict[str, Any]) -> None:
    """Begin or go on with a run in a process that must own no semaphores, as killed ones leak."""
    tqdm.set_lock(threading.RLock())
    begin(run, resume=True, **arguments)


def begin_to_die_writing(run: Path, name: str, moment: str) -> None:
    """Go on with a run in a process that is killed while it writes a file of that name.

    At the third time, or in the first checkpoint after step 28; other files are written with
    checkpoints only.
    """
    tqdm.set_lock(threading.RLock())
    vars(outputs)["Pace"] = lambda share: Pace(share=1e-9)
    counts = {"half": 0, "whole": 0, "named": 0}

    def die_at(now: str, path: Any) -> None:
        found = Path(path).name.removeprefix(".")
        if found.startswith(name):
            counts[now] += 1
            due = counts[now] == 3 if name != "step-" else int(found.split("-")[1]) >= 28
            if now == moment and due:
                os.kill(os.getpid(), signal.SIGKILL)

    class Half(io.FileIO):
        def write(self, content: Any) -> int:
            super().write(content[: len(content) // 2])
            die_at("half", self.name)
            return super().write(content[len(content) // 2 :])

    rename = os.replace

    def named(source: Any, target: Any) -> None:
        die_at("whole", target)
        rename(source, target)
        die_at("named", target)

    vars(files)["open"], os.replace = Half, named
    begin(run, resume=True, every_step=True)


def end_state(run: Path) -> Any:
    """All that the run's last checkpoint holds, but for the time it took."""
    state = Run(run).newest_state()
    del state["seconds"]
    return state


def identical(first: Any, second: Any) -> bool:
    """Whether two states are equal to the last bit, and of the same types."""
    if type(first) is not type(second):
        return False
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and torch.equal(
            first.reshape(-1).view(torch.uint8), second.reshape(-1).view(torch.uint8)
        )
    if isinstance(first, dict):
        return list(first) == list(second) and all(identical(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(identical, first, second))
    return first == second


def same_files(first: Path, second: Path) -> bool:
    """Whether two runs left the same weights, best weights and history, byte for byte."""
    names = ("weights.safetensors", "best.safetensors", "history.json")
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
