"""A small VAE, every objective on it, and what two estimates are compared by."""

import pyro
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
OF_CODES = [name for name in FAMILY if hasattr(FAMILY[name](), "site")]
DATA = 20


def data_of(rows):
    """The plate of DATA data, or more, of which these rows are a batch."""
    size = max(DATA, len(rows))
    return pyro.plate("data", size, subsample=torch.arange(len(rows)), dim=-1)


def estimate_of(name, pair, *args, **keywords):
    pyro.set_rng_seed(0)
    return FAMILY[name]().estimate(*pair, *args, **keywords)


def assert_same(mine, other, *, without=(), rtol=1e-10):
    """Terms and measures agree."""
    pairs = [(a[n], b[n], n) for a, b in zip(mine, other, strict=True) for n in b]
    for a, b, name in pairs:
        assert name in without or torch.allclose(a, b, rtol=rtol, atol=rtol), name


def read(estimate):
    return dict(estimate.terms), dict(estimate.measures)
