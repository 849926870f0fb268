"""Compare the objectives on sprites, and time their steps.

    python tests/benchmarks/objectives.py table.json [--quick] [--seeds 3] [--steps 800]
    python tests/benchmarks/objectives.py --speed [--rounds 9] [--threads 1]

The table: each objective trains the same VAE, with the net of Locatello et al. (2019), on 32×32
sprites of the middle half of all heights, as many steps each, once for every seed: batch 32, Adam
with learning rate 2e-3. In all rows alike β, which multiplies the KL or what stands in its place,
is a tenth of its value for the first 40 % of the steps and rises to it until 60 %: at full weight
from the start some runs stay for long on the plateau on which every image decodes to the mean
image, and with none the codes of FactorVAE run away from its critic. What FactorVAE and DIP-VAE add
to the KL weighs the same throughout.

Written, as JSON, are for every run the reconstruction −E log p(x|z) and the KL in nats per image,
the bracket of the total correlation in nats, MIG and the FactorVAE score; printed are their means
and ranges over the seeds, and the minutes of processor time that training took. The prices are
one choice for each objective, not the best of many.

The speed: steps of each objective in turn, in one process, on 64×64 images with the net of
Locatello et al. (2019), batch 64, compiled. Blocks of steps alternate, so that a change in the
machine's load meets all; ratios to the ELBO are taken within a round.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyro
import torch
from torch import Tensor

from pyro_bvae import VAE, evaluate, fit, tempered
from pyro_bvae.datasets import Sprites
from pyro_bvae.diagnostics import disentanglement_scores
from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.networks import conv_decoder, conv_encoder, mlp_critic
from pyro_bvae.objectives import (
    ELBO,
    MMDELBO,
    AdversarialELBO,
    CapacityELBO,
    FactorELBO,
    ImportanceELBO,
    MomentELBO,
    Objective,
    TotalCorrelationELBO,
)
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training.critic import critic_adam, trainer
from pyro_bvae.training.schedules import linear
from pyro_bvae.types import Schedule

LATENTS = 10
BLOCK = 6
FREE, FULL = 0.4, 0.6
"""The shares of all steps after which β begins to rise, and has risen."""


class Choice(NamedTuple):
    """An objective for so many steps of training, and the β it is trained at."""

    make: Callable[[int], Objective]
    beta: float = 1.0


TABLE = {
    "VAE": Choice(lambda steps: ELBO()),
    "β-VAE, β = 4": Choice(lambda steps: ELBO(), beta=4.0),
    "capacity, γ = 100, C to 15": Choice(
        lambda steps: CapacityELBO(100.0, capacity=linear(0.0, 15.0, steps=steps))
    ),
    "β-TC, β = 6": Choice(lambda steps: TotalCorrelationELBO(beta=6.0)),
    "FactorVAE, γ = 10": Choice(lambda steps: FactorELBO(mlp_critic(LATENTS), gamma=10.0)),
    "DIP-VAE-II, λ = 10": Choice(lambda steps: MomentELBO(off_diagonal=10.0, diagonal=10.0)),
    "AAE, γ = 50": Choice(lambda steps: AdversarialELBO(mlp_critic(LATENTS), gamma=50.0)),
}

SPEED: dict[str, Callable[[], Objective]] = {
    "ELBO": ELBO,
    "free bits": lambda: ELBO(free_bits=0.1),
    "capacity": lambda: CapacityELBO(100.0, capacity=10.0),
    "β-TC": lambda: TotalCorrelationELBO(beta=6.0),
    "DIP-VAE-II": lambda: MomentELBO(off_diagonal=10.0, diagonal=10.0),
    "MMD": lambda: MMDELBO(500.0),
    "FactorVAE": lambda: FactorELBO(mlp_critic(LATENTS), gamma=10.0),
    "AAE": lambda: AdversarialELBO(mlp_critic(LATENTS), gamma=50.0),
    "importance, K = 1, doubly": lambda: ImportanceELBO(1, gradient="doubly"),
    "importance, K = 4": lambda: ImportanceELBO(4),
    "importance, K = 4, doubly": lambda: ImportanceELBO(4, gradient="doubly"),
}


def build(shape: tuple[int, ...], net: str) -> VAE:
    """A VAE for binary images."""
    return VAE(
        NormalPrior(LATENTS),
        BernoulliLikelihood(conv_decoder(LATENTS, shape, net=net)),
        MeanFieldPosterior(conv_encoder(shape, net=net), LATENTS),
    )


def warmed(beta: float, steps: int) -> Schedule:
    """Return β by the step: a tenth of it for a while, then linear up to all of it."""
    rise = linear(0.1 * beta, beta, steps=round((FULL - FREE) * steps))
    return lambda step: rise(max(step - round(FREE * steps), 0))


def measured(choice: Choice, seed: int, *, steps: int, quick: bool) -> dict[str, float]:
    """Train with one objective and one seed, and measure."""
    data = Sprites(32).subset(posY=range(8, 24))
    scored = data.subset(orientation=range(0, 40, 4), posX=range(0, 32, 2), posY=range(0, 16, 2))
    torch.manual_seed(seed)
    vae, objective = build(data.shape, "locatello"), choice.make(steps)
    optim = partial(torch.optim.Adam, lr=2e-3)
    start = time.process_time()
    fit(
        vae,
        data,
        objective=objective,
        beta=warmed(choice.beta, steps),
        steps=steps,
        batch_size=32,
        optim=optim,
        seed=seed,
        compile="recorded",
        progress=False,
    )
    minutes = (time.process_time() - start) / 60
    count = 512 if quick else 4096
    images = data[torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:count]]
    parts = evaluate(vae, images, objective=TotalCorrelationELBO(beta=1.0), batch_size=1024)
    sizes = {"points": 400, "test_points": 200} if quick else {"points": 5000, "test_points": 2000}
    scores = disentanglement_scores(
        vae, scored, metrics=["mig", "factor_vae_score"], seed=seed, **sizes
    )
    return {
        **{name: float(parts[name]) for name in ("reconstruction", "kl")},
        "tc_low": float(parts["total_correlation_low"]),
        "tc_high": float(parts["total_correlation_high"]),
        "mig": scores.results["mig"].score,
        "factor_vae": scores.results["factor_vae_score"].score,
        "minutes": minutes,
    }


def table(path: Path, *, seeds: int, steps: int, quick: bool) -> None:
    """Train everything, write each run as soon as it is there, and print means and ranges."""
    rows: dict[str, dict[str, list[float]]] = {name: {} for name in TABLE}
    minutes: dict[str, list[float]] = {name: [] for name in TABLE}
    for seed in range(seeds):
        for name, choice in TABLE.items():
            run = measured(choice, seed, steps=steps, quick=quick)
            minutes[name].append(run.pop("minutes"))
            for key, value in run.items():
                rows[name].setdefault(key, []).append(round(value, 4))
            written = {"steps": steps, "seeds": seed + 1, "rows": rows}
            path.write_text(json.dumps(written, ensure_ascii=False).replace("}, ", "},\n") + "\n")
    print(f"{steps} steps, {seeds} seeds: mean (range)")
    for name, row in rows.items():
        row["minutes"] = minutes[name]
    print(f"{'':28}" + "".join(f"{key:>25}" for key in next(iter(rows.values()))))
    for name, row in rows.items():
        cells = [f"{statistics.mean(v):.3f} ({min(v):.3f}–{max(v):.3f})" for v in row.values()]
        print(f"{name:28}" + "".join(f"{cell:>25}" for cell in cells))


def rounds(number: int) -> Iterator[dict[str, float]]:
    """Yield the seconds per step of each objective, one block each, in turn."""
    batches = (torch.rand(4, 64, 1, 64, 64) < 0.2).float()
    steps: dict[str, Callable[[Tensor], float]] = {}
    for name, make in SPEED.items():
        pair = tempered(build((1, 64, 64), "locatello"), 1.0)
        optim = partial(torch.optim.Adam, lr=1e-4)
        svi = trainer(*pair, optim, make(), critic_optim=critic_adam, mode="compiled")
        steps[name] = svi.step
        for x in batches:
            svi.step(x)
        if svi.fallback:
            raise RuntimeError(f"{name} is not compiled: {svi.fallback}")
    for _ in range(number):
        seconds = {}
        for name, step in steps.items():
            start = time.perf_counter()
            for n in range(BLOCK):
                step(batches[n % len(batches)])
            seconds[name] = (time.perf_counter() - start) / BLOCK
        yield seconds


def speed(number: int) -> None:
    """Print what a step of each objective costs, against the ELBO's."""
    torch.manual_seed(0)
    with pyro.validation_enabled(False):
        found = list(rounds(number))
    print(f"compiled, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'':28} ratio to ELBO: min, median, max    median time")
    for name in SPEED:
        ratios = sorted(seconds[name] / seconds["ELBO"] for seconds in found)
        median = statistics.median(seconds[name] for seconds in found) * 1e3
        spread = f"{ratios[0]:5.2f} {statistics.median(ratios):5.2f} {ratios[-1]:5.2f}"
        print(f"{name:28} {spread}   {median:9.1f} ms")


def main() -> None:
    """Make the table or measure the speed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", nargs="?", type=Path, help="where the table goes, as JSON")
    parser.add_argument("--quick", action="store_true", help="few steps, one seed: does it run?")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.speed:
        speed(options.rounds)
    elif options.path is None:
        parser.error("path: give a file for the table, or --speed")
    else:
        seeds, steps = (1, 30) if options.quick else (options.seeds, options.steps)
        table(options.path, seeds=seeds, steps=steps, quick=options.quick)


if __name__ == "__main__":
    main()
