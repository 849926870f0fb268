"""Training on more data than a process may hold, to be run in a process of its own."""

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyro_bvae import VAE, fit
from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training import Record

SHAPE, ALLOWED = (1, 64, 64), 64 * 2**20


def status(name: str) -> int:
    """Read a number of bytes that the kernel keeps of this process, such as RssAnon."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def train_in_mode(folder: Path, mode: str) -> None:
    """Train for 300 steps on data in memory; note the memory used at every twentieth."""
    torch.set_num_threads(1)
    vae = VAE(
        prior=NormalPrior(2),
        likelihood=BernoulliLikelihood(mlp_decoder(2, SHAPE, hidden=(8,))),
        posterior=MeanFieldPosterior(mlp_encoder(SHAPE, hidden=(8,)), latents=2),
    )
    used: list[int] = []

    def note(_: Record) -> None:
        used.append(status("RssAnon"))

    data = (torch.rand(64, *SHAPE) < 0.5).float()
    options: dict[str, Any] = {"batch_size": 4, "compile": mode, "progress": False}
    fit(vae, data, steps=300, every=20, callbacks=[note], run=folder / "run", **options)
    (folder / "used.json").write_text(json.dumps(used))


def train_on_more_than_fits(folder: Path) -> None:
    """Train on a sparse file ten times as large as the memory allowed; note what was used."""
    torch.set_num_threads(1)
    vae = VAE(
        prior=NormalPrior(2),
        likelihood=BernoulliLikelihood(mlp_decoder(2, SHAPE, hidden=(8,))),
        posterior=MeanFieldPosterior(mlp_encoder(SHAPE, hidden=(8,)), latents=2),
    )
    options = {"batch_size": 4, "compile": "eager", "progress": False}
    fit(vae, torch.zeros(16, *SHAPE), steps=3, **options)
    limit = status("VmData") + ALLOWED
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    data = np.lib.format.open_memmap(
        folder / "data.npy", mode="w+", dtype=np.uint8, shape=(10 * limit // 4096 + 1, *SHAPE)
    )
    try:
        np.ones(data.shape, dtype=np.uint8)
        fits = True
    except MemoryError:
        fits = False
    used: list[int] = []

    def note(_: Record) -> None:
        used.append(status("RssAnon"))

    data = np.load(folder / "data.npy", mmap_mode="r")
    result = fit(vae, data, steps=200, every=20, callbacks=[note], run=folder / "run", **options)
    (folder / "used.json").write_text(
        json.dumps(
            {
                "fits": fits,
                "used": used,
                "bytes": data.nbytes,
                "limit": limit,
                "steps": result.steps,
            }
        )
    )
