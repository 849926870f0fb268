"""Time of importance diagnostics and of reference posteriors, on a model of sprites.

Run `python tests/benchmarks/diagnostics.py`: trains a VAE of convolutional networks on rendered
sprites for a while (`--steps`), then prints a table: importance weights of `--data` × `--draws`,
with the largest memory of the process before and after; chains for `--chained` data in one run,
and, for `--single` data, one chain of the same length by a `pyro.infer.MCMC` call of its own, as
one would write it with Pyro alone, from which the time of all chains is extrapolated. Nothing here
gates a test.
"""

import argparse
import resource
import time

import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS
from torch import Tensor

from pyro_bvae import VAE, fit
from pyro_bvae.datasets import Sprites
from pyro_bvae.diagnostics import compare_to_reference, importance, reference_posterior
from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.networks import conv_decoder, conv_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior

CHAINS = 4


def trained(size: int, steps: int) -> tuple[VAE, Tensor]:
    """A β-VAE of sprites, and images that are not in any order."""
    torch.manual_seed(0)
    sprites = Sprites(size)
    vae = VAE(
        prior=NormalPrior(10),
        likelihood=BernoulliLikelihood(conv_decoder(10, sprites.shape)),
        posterior=MeanFieldPosterior(conv_encoder(sprites.shape), latents=10),
    )
    fit(vae, sprites, steps=steps, batch_size=64, progress=False)
    images = sprites[torch.randperm(len(sprites))[:1000]]
    return vae, images if isinstance(images, Tensor) else images[0]


def one_at_a_time(vae: VAE, x: Tensor, *, draws: int, warmup: int) -> None:
    """A chain for each datum by a call of its own, on the model conditioned on it."""
    for datum in x:
        model = poutine.condition(vae.model, data={"x": datum[None]})
        mcmc = MCMC(
            NUTS(lambda model=model, datum=datum: model(datum[None])),
            num_samples=draws,
            warmup_steps=warmup,
            num_chains=1,
            disable_progbar=True,
        )
        mcmc.run()


def timed(function, *arguments, **options):
    """The result and the seconds it took."""
    start = time.perf_counter()
    result = function(*arguments, **options)
    return result, time.perf_counter() - start


def megabytes() -> float:
    """The largest memory of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (
        ("size", 32),
        ("steps", 500),
        ("data", 1000),
        ("draws", 1000),
        ("batch-size", 1024),
        ("chained", 16),
        ("single", 1),
        ("chain-draws", 500),
        ("warmup", 300),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.size} pixels")
    vae, images = trained(options.size, options.steps)
    before = megabytes()
    found, seconds = timed(
        importance,
        vae,
        images[: options.data],
        num_samples=options.draws,
        batch_size=options.batch_size,
    )
    weighed = options.data * options.draws
    print(found)
    print(f"importance, {options.data} data × {options.draws} draws: {seconds:.1f} s", end=", ")
    print(f"{weighed / seconds:,.0f} a second; memory {before:.0f} to {megabytes():.0f} MB")
    chained = images[: options.chained]
    sampling = {"num_samples": options.chain_draws, "warmup": options.warmup}
    reference, joint = timed(reference_posterior, vae, chained, chains=CHAINS, **sampling)
    print(reference)
    print(f"chains of {options.chained} data in one run: {joint:.1f} s")
    comparison, seconds = timed(compare_to_reference, vae, chained, reference)
    print(f"comparison with the guide: {seconds:.1f} s, largest R̂ {comparison.r_hat.max():.2f}")
    vae.requires_grad_(False)
    one = {"draws": options.chain_draws, "warmup": options.warmup}
    _, alone = timed(one_at_a_time, vae, chained[: options.single], **one)
    extrapolated = alone * CHAINS * options.chained / options.single
    print(
        f"one MCMC call per datum: {alone:.1f} s for a chain of {options.single} data, which makes "
        f"{extrapolated:.1f} s for {CHAINS} of {options.chained}: {extrapolated / joint:.1f} times "
        "as long"
    )


if __name__ == "__main__":
    main()
