"""What a warm cell of a study costs to compile: `python tests/benchmarks/study.py`.

Compiles one step in each of several trainings that differ in β alone, the first of each kind left
out. As a number β is part of the graph, and each graph is compiled; as a tensor, which is how
`beta_sigma_study` hands it over, all have one graph, found in torch's cache after the first.
Prints the median seconds of a training of few steps, and how many times as long the numbers take.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable

import torch

from pyro_bvae import VAE, fit
from pyro_bvae.beta import Beta
from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior

BETAS = (0.5, 1.0, 2.0, 4.0)
STEPS = 10
SHAPE = (1, 16, 16)


def seconds_per_cell(handed_over: Callable[[float], Beta]) -> float:
    """The median over trainings that are compiled after a first one."""
    images = torch.rand(256, *SHAPE).round()
    seconds = []
    for beta in BETAS:
        torch.manual_seed(0)
        vae = VAE(
            prior=NormalPrior(4),
            likelihood=BernoulliLikelihood(mlp_decoder(4, SHAPE)),
            posterior=MeanFieldPosterior(mlp_encoder(SHAPE), latents=4),
        )
        start = time.perf_counter()
        fit(vae, images, beta=handed_over(beta), steps=STEPS, compile="compiled", progress=False)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    """Measure and print."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as empty:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty
        as_number = seconds_per_cell(float)
        as_tensor = seconds_per_cell(torch.tensor)
    print(f"β a number: {as_number:.2f} s, a tensor: {as_tensor:.2f} s per warm cell")
    print(f"ratio {as_number / as_tensor:.2f}")


if __name__ == "__main__":
    main()
