"""Models and data of which a report's numbers are known."""

import numpy as np
import torch
from torch import nn

from pyro_bvae import VAE
from pyro_bvae.datasets import FactorDataset
from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior

LOG_VARIANCE = -4.0


class Grid(FactorDataset):
    """2×2 images whose first pixels are the factors themselves, scaled to [0, 1]."""

    def __init__(self, names=("scale", "x", "colour"), sizes=(4, 5, 1)):
        super().__init__(names, sizes, (1, 2, 2))

    def images(self, indices):
        levels = self.factors(indices).to(torch.get_default_dtype())
        levels = levels / (torch.tensor(self.factor_sizes) - 1).clamp(min=1)
        return nn.functional.pad(levels[:, :4], (0, 4 - levels.shape[1])).view(-1, 1, 2, 2)


def build(shape, latents=3, likelihood=BernoulliLikelihood, prior=None):
    return VAE(
        prior=prior or NormalPrior(latents),
        likelihood=likelihood(mlp_decoder(latents, shape, hidden=())),
        posterior=MeanFieldPosterior(mlp_encoder(shape, hidden=()), latents=latents),
    )


def set_codes(vae, weights, log_variance):
    """Make the posterior means `weights @ pixels`, with these log variances."""
    vae.posterior.head.weight.data.zero_()
    vae.posterior.head.bias.data.zero_()
    vae.posterior.head.weight.data[: len(weights)] = weights
    vae.posterior.head.bias.data[len(weights) :] = torch.as_tensor(log_variance)
    return vae


def perfect():
    """z0 is the second factor, z1 is nothing, z2 is the first."""
    pixels = torch.tensor([[0.0, 3, 0, 0], [0, 0, 0, 0], [1.5, 0, 0, 0]])
    return set_codes(build((1, 2, 2)), pixels, [LOG_VARIANCE, 0.0, LOG_VARIANCE])


def collapsed():
    return set_codes(build((1, 2, 2)), torch.zeros(3, 4), [0.0, 0.0, 0.0])


def history(rows=40, **more):
    falling = 100.0 / np.arange(1, rows + 1)
    steps = {"step": 10 * np.arange(1, rows + 1), "beta": np.full(rows, 4.0)}
    return steps | {"loss": falling, "reconstruction": falling, "kl": 0 * falling} | more
