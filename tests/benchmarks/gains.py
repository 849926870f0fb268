"""Time steps of eleven VAEs: what compiling them saves is what "auto" has to guess.

    python tests/benchmarks/gains.py [--networks vgg mlp ...] [--seconds 12] [--threads 2]

The modes take turns of a few steps each, in one process; what is saved is a share of the recorded
step. `training.compiler_cache` has what "auto" takes it for.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))
from pyro_bvae import networks, tempered
from pyro_bvae.objectives import ELBO
from pyro_bvae.training.allocator import kept_memory
from pyro_bvae.training.svi import CompiledSVI
from tests.benchmarks.rivals import LATENTS, Job, images, vae_of

MODES = ("eager", "recorded", "compiled")
Networks = tuple[nn.Module, nn.Module]


class Flat(nn.Module):
    """Layers whose results are laid out as vectors, `[batch, features]`."""

    def __init__(self, *layers: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers, nn.Flatten())
        self.features = self.net(torch.zeros(2, *shape)).shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of data."""
        return self.net(x)


def strided(shape: tuple[int, ...], width: int) -> Networks:
    """Two convolutions of stride 2 and a hidden layer, as for MNIST."""
    inner = (2 * width, 7, 7)
    down = [nn.Conv2d(1, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 4, 2, 1)]
    down += [nn.ReLU(), nn.Flatten(), nn.Linear(prod(inner), 256), nn.ReLU()]
    up = [nn.Linear(LATENTS, 256), nn.ReLU(), nn.Linear(256, prod(inner)), nn.ReLU()]
    up += [nn.Unflatten(1, inner), nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ReLU()]
    return Flat(*down, shape=shape), nn.Sequential(*up, nn.ConvTranspose2d(width, 1, 4, 2, 1))


def vgg(shape: tuple[int, ...]) -> Networks:
    """Kernels of 3, some of stride 2, and nearest neighbours upwards."""
    down: list[nn.Module] = []
    up: list[nn.Module] = [nn.Linear(LATENTS, 4096), nn.ReLU(), nn.Unflatten(1, (64, 8, 8))]
    for ins, outs, stride in ((3, 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 2)):
        down += [nn.Conv2d(ins, outs, 3, stride, 1), nn.ReLU()]
    for ins, outs in ((64, 32), (32, 32)):
        up += [nn.Upsample(scale_factor=2), nn.Conv2d(ins, outs, 3, 1, 1), nn.ReLU()]
    return Flat(*down, shape=shape), nn.Sequential(*up, nn.Conv2d(32, 3, 3, 1, 1))


def normalised(shape: tuple[int, ...]) -> Networks:
    """Convolutions, each with batch normalisation."""
    down: list[nn.Module] = []
    up: list[nn.Module] = [nn.Linear(LATENTS, 4096), nn.Unflatten(1, (256, 4, 4))]
    for ins, outs in ((3, 32), (32, 64), (64, 128), (128, 256)):
        down += [nn.Conv2d(ins, outs, 3, 2, 1), nn.BatchNorm2d(outs), nn.LeakyReLU()]
    for ins, outs in ((256, 128), (128, 64), (64, 32), (32, 32)):
        layer = nn.ConvTranspose2d(ins, outs, 3, 2, 1, output_padding=1)
        up += [layer, nn.BatchNorm2d(outs), nn.LeakyReLU()]
    return Flat(*down, shape=shape), nn.Sequential(*up, nn.Conv2d(32, 3, 3, 1, 1))


def waves(shape: tuple[int, ...]) -> Networks:
    """Convolutions of sound."""
    down: list[nn.Module] = []
    up: list[nn.Module] = [nn.Linear(LATENTS, 1024), nn.ReLU(), nn.Unflatten(1, (64, 16))]
    for ins, outs in ((1, 32), (32, 64), (64, 64)):
        down += [nn.Conv1d(ins, outs, 8, 4, 2), nn.ReLU()]
    for ins, outs in ((64, 64), (64, 32)):
        up += [nn.ConvTranspose1d(ins, outs, 8, 4, 2), nn.ReLU()]
    return Flat(*down, shape=shape), nn.Sequential(*up, nn.ConvTranspose1d(32, 1, 8, 4, 2))


def job_of(shape: tuple[int, ...], batch: int, make: Callable[..., Networks], *args: Any) -> Job:
    """Return a job that trains what a function of the shape makes."""
    encoder, decoder = make(shape, *args)
    return Job(lambda: encoder, lambda: decoder, shape, batch, beta=4.0, lr=1e-4, block=5)


def packaged(kind: str, shape: tuple[int, ...], batch: int, **options: Any) -> Job:
    """Return a job that trains the package's networks."""
    encoder, decoder = getattr(networks, f"{kind}_encoder"), getattr(networks, f"{kind}_decoder")
    return job_of(
        shape, batch, lambda shape: (encoder(shape, **options), decoder(LATENTS, shape, **options))
    )


JOBS: dict[str, Callable[[], Job]] = {
    "locatello": partial(packaged, "conv", (1, 64, 64), 64),
    "burgess": partial(packaged, "conv", (1, 64, 64), 64, net="burgess"),
    "residual": partial(packaged, "residual", (3, 32, 32), 64),
    "strided 32": partial(job_of, (1, 28, 28), 128, strided, 32),
    "strided 64": partial(job_of, (1, 28, 28), 128, strided, 64),
    "vgg": partial(job_of, (3, 32, 32), 64, vgg),
    "normalised": partial(job_of, (3, 64, 64), 64, normalised),
    "waves": partial(job_of, (1, 1024), 64, waves),
    "mlp 128": partial(packaged, "mlp", (64,), 128, hidden=(128,)),
    "mlp 400": partial(packaged, "mlp", (784,), 128, hidden=(400,)),
    "mlp 3×1000": partial(packaged, "mlp", (784,), 256, hidden=(1000, 1000, 1000)),
}


def measure(name: str, seconds: float) -> None:
    """Print how long the steps of one job take in each mode, and what compiling saves of them."""
    pyro.clear_param_store()
    job = JOBS[name]()
    x, optim = images(job)[: job.batch], partial(torch.optim.Adam, lr=job.lr, fused=True)
    svi = CompiledSVI(*tempered(vae_of(job), job.beta), optim, ELBO(), mode="recorded")
    times: dict[str, list[float]] = {mode: [] for mode in MODES}
    with kept_memory(), pyro.validation_enabled(False):
        for mode in MODES:
            block(svi, mode, x, steps=5)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for mode in MODES:
                times[mode] += block(svi, mode, x, job.block)
    eager, recorded, compiled = (1e3 * statistics.median(times[mode]) for mode in MODES)
    print(
        f"  {name:12s} {eager:8.2f} {recorded:8.2f} {compiled:8.2f} {1 - compiled / recorded:6.2f}"
    )


def block(svi: CompiledSVI, mode: str, x: Tensor, steps: int) -> list[float]:
    """Take steps in a mode; return the seconds of each but the first two."""
    svi.mode, times = mode, []
    for _ in range(steps):
        start = time.perf_counter()
        svi.step(x)
        times.append(time.perf_counter() - start)
    return times[2:]


def main() -> None:
    """Measure the jobs that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {options.threads} threads; median ms per step")
    print(f"  {'':12s} {'eager':>8s} {'recorded':>8s} {'compiled':>8s}  saves")
    for name in options.networks:
        measure(name, options.seconds)


if __name__ == "__main__":
    main()
