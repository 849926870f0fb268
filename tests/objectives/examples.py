"""A small VAE, and every objective on it."""

import torch

from pyro_bvae import VAE
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_critic, mlp_decoder, mlp_encoder
from pyro_bvae.objectives import (
    ELBO,
    MMDELBO,
    AdversarialELBO,
    CapacityELBO,
    FactorELBO,
    ImportanceELBO,
    MomentELBO,
    TotalCorrelationELBO,
)
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior

BATCH, FEATURES, LATENTS = 6, 4, 2


def data(n=BATCH, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, FEATURES, dtype=torch.float64, generator=generator)


def small_vae(scale=1.0, hidden=(5,)):
    return VAE(
        NormalPrior(LATENTS, scale=scale),
        NormalLikelihood(mlp_decoder(LATENTS, (FEATURES,), hidden=hidden), scale="learned"),
        MeanFieldPosterior(mlp_encoder((FEATURES,), hidden=hidden), LATENTS),
    )


def critic():
    return mlp_critic(LATENTS, hidden=(7,))


FAMILY = {
    "elbo": ELBO,
    "free bits": lambda: ELBO(free_bits=0.3),
    "capacity": lambda: CapacityELBO(10.0, capacity=torch.tensor(0.7)),
    "stratified": lambda: TotalCorrelationELBO(beta=4.0, gamma=2.0),
    "weighted": lambda: TotalCorrelationELBO(alpha=0.5, beta=4.0, sampling="weighted"),
    "factor": lambda: FactorELBO(critic(), gamma=5.0),
    "adversarial": lambda: AdversarialELBO(critic(), gamma=5.0),
    "importance": lambda: ImportanceELBO(3),
    "doubly": lambda: ImportanceELBO(3, gradient="doubly"),
    "sticking": lambda: ImportanceELBO(1, gradient="doubly"),
    "mmd": lambda: MMDELBO(100.0),
    "dip i": lambda: MomentELBO(off_diagonal=10.0, diagonal=5.0, covariance="means"),
    "dip ii": lambda: MomentELBO(off_diagonal=10.0, diagonal=5.0),
}
