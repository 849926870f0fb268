"""The optimal σ in training: the closed form of the linear σ-VAE."""

from functools import partial

import pytest
import torch

from pyro_bvae import fit, theory
from tests.truths import SPECTRUM, BalancedPosterior, data_and_covariance, linear_vae, terms_of


@pytest.mark.parametrize(("beta", "variance"), [(1.0, 0.375), (2.0, 1.25)])
def test_optimal_sigma_is_that_of_the_linear_model(beta, variance):
    """s = Σ_{j>k} λ_j / (D − βk), as for a learned σ; the remembered one is an average."""
    x, covariance = data_and_covariance(100)
    vae = linear_vae(3, likelihood="optimal", posterior=BalancedPosterior)
    for rate, steps in ((2e-2, 600), (2e-3, 300)):
        fit(
            vae,
            x,
            beta=beta,
            steps=steps,
            batch_size=len(x),
            optim=partial(torch.optim.Adam, lr=rate),
            compile="recorded",
            progress=False,
        )
    assert theory.learned_likelihood_scale(SPECTRUM, 3, beta=beta) ** 2 == pytest.approx(variance)
    assert vae.likelihood.scale().item() ** 2 == pytest.approx(variance, rel=0.02)
    best = theory.linear_optimum(SPECTRUM, 3, beta=beta, likelihood_scale=variance**0.5)
    got = terms_of(vae, x, covariance, beta)
    assert got.objective.item() == pytest.approx(best.objective.item(), abs=0.01)
