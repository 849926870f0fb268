"""Time one training step of a VAE under each trainer, in turn, in one process.

    python tests/benchmarks/svi.py [small | conv] [--rounds 9] [--threads 1]

Every trainer steps on the same data with Adam. A round times each of them once, a block of steps
at a time, so that a change in the machine's load meets all of them; the ratios are taken within
a round. Printed: the ratio to `CompiledSVI` compiled, minimum, median and maximum over the rounds,
and the median time. Each loss is read as a number after its step, as `SVI.step` does.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pyro
import torch
import torch.nn.functional as F
from pyro import distributions as dist
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor, nn

from pyro_bvae.training.svi import CompiledSVI

LATENTS = 10


class Job(NamedTuple):
    """Networks, the shape of a batch, the learning rate, and the steps of one timed block."""

    encoder: Callable[[], nn.Module]
    decoder: Callable[[], nn.Module]
    shape: tuple[int, ...]
    beta: float
    lr: float
    block: int


def small() -> Job:
    """MLP 64–128–10–128–64 on binary 8×8 images, batch 128."""
    encoder = partial(_mlp, 64, 2 * LATENTS)
    return Job(encoder, partial(_mlp, LATENTS, 64), (128, 64), beta=1.0, lr=1e-3, block=200)


def conv() -> Job:
    """The convolutional net of Locatello et al. (2019), kernels of 4 and strides of 2, batch 64."""
    return Job(_conv_encoder, _conv_decoder, (64, 1, 64, 64), beta=4.0, lr=1e-4, block=6)


def _mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, outputs))


def _conv_encoder() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 32), (32, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.ReLU()]
    head = [nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 2 * LATENTS)]
    return nn.Sequential(*layers, *head)


def _conv_decoder() -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(LATENTS, 256), nn.ReLU(), nn.Linear(256, 1024), nn.ReLU()]
    layers.append(nn.Unflatten(-1, (64, 4, 4)))
    for inputs, outputs in ((64, 64), (64, 32), (32, 32)):
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(32, 1, 4, 2, 1))


class Vae(nn.Module):
    """The same β-VAE as a Pyro pair and as a plain loss."""

    def __init__(self, job: Job, name: str) -> None:
        super().__init__()
        self.encoder, self.decoder, self.beta, self.name = (
            job.encoder(),
            job.decoder(),
            job.beta,
            name,
        )
        self.dims = len(job.shape) - 1

    def model(self, x: Tensor) -> None:
        """z ~ N(0, 1), x ~ Bernoulli; the latent site weighs β."""
        pyro.module(f"{self.name}_decoder", self.decoder)
        with pyro.plate("data", len(x)):
            with pyro.poutine.scale(scale=self.beta):
                z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), LATENTS), 1.0).to_event(1))
            likelihood = dist.Bernoulli(logits=self.decoder(z), validate_args=False)
            pyro.sample("x", likelihood.to_event(self.dims), obs=x)

    def guide(self, x: Tensor) -> None:
        """Q(z|x), diagonal; the latent site weighs β."""
        pyro.module(f"{self.name}_encoder", self.encoder)
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)), pyro.poutine.scale(scale=self.beta):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    def loss(self, x: Tensor) -> Tensor:
        """The negative β-ELBO, written by hand."""
        loc, log_scale = self.encoder(x).chunk(2, -1)
        scale = log_scale.exp()
        logits = self.decoder(loc + scale * torch.randn_like(loc))
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return nll + self.beta * 0.5 * (loc**2 + scale**2 - 1 - 2 * log_scale).sum()


def trainers(job: Job) -> dict[str, Callable[[Tensor], float]]:
    """Build every trainer, each with networks of its own."""

    def pyro_svi(name: str, svi: Callable[..., SVI]) -> Callable[[Tensor], float]:
        vae = Vae(job, name)
        optim = pyro.optim.Adam({"lr": job.lr})
        return svi(vae.model, vae.guide, optim, TraceMeanField_ELBO()).step

    def by_hand(compiled: bool) -> Callable[[Tensor], float]:
        vae = Vae(job, "hand")
        loss_of = torch.compile(vae.loss) if compiled else vae.loss
        optimiser = torch.optim.Adam(vae.parameters(), lr=job.lr, fused=True)

        def step(x: Tensor) -> float:
            optimiser.zero_grad()
            loss = loss_of(x)
            loss.backward()
            optimiser.step()
            return loss.item()

        return step

    return {
        "Pyro SVI": pyro_svi("pyro", SVI),
        "by hand, eager, fused Adam": by_hand(compiled=False),
        "by hand, torch.compile, fused Adam": by_hand(compiled=True),
        "CompiledSVI, recorded": pyro_svi("recorded", partial(CompiledSVI, mode="recorded")),
        "CompiledSVI, compiled": pyro_svi("compiled", CompiledSVI),
    }


def rounds(job: Job, number: int) -> Iterator[dict[str, float]]:
    """Yield the seconds per step of each trainer, one block each, in turn."""
    batches = (torch.rand(8, *job.shape) < 0.2).float()
    steps = trainers(job)
    for step in steps.values():
        for x in batches:
            step(x)
    for _ in range(number):
        seconds = {}
        for name, step in steps.items():
            start = time.perf_counter()
            for n in range(job.block):
                step(batches[n % 8])
            seconds[name] = (time.perf_counter() - start) / job.block
        yield seconds


def main() -> None:
    """Run the jobs that the command line names and print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*", default=["small", "conv"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.jobs:
        torch.manual_seed(0)
        job = {"small": small, "conv": conv}[name]()
        with pyro.validation_enabled(False):
            measured = list(rounds(job, options.rounds))
        print(f"\n{name}: torch {torch.__version__}, {options.threads} threads")
        for trainer in measured[0]:
            ratios = sorted(m[trainer] / m["CompiledSVI, compiled"] for m in measured)
            median = statistics.median(m[trainer] for m in measured) * 1e6
            spread = f"{ratios[0]:5.2f} {statistics.median(ratios):5.2f} {ratios[-1]:5.2f}"
            print(f"{trainer:36s} {spread}   {median:9.0f} µs")


if __name__ == "__main__":
    main()
