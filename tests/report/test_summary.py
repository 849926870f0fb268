"""The numbers of a report: closed forms, and perfect codes that score one."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_bvae import evaluate
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.priors import NormalPrior
from pyro_bvae.report import summary
from tests.report.examples import LOG_VARIANCE, Grid, build, collapsed, perfect


def test_perfect_codes_have_r2_one_and_all_information():
    measured = summary(perfect(), Grid())
    assert (measured.data, measured.factor_names, measured.factor_sizes) == (
        20,
        ("scale", "x"),
        (4, 5),
    )
    np.testing.assert_allclose(measured.r2, [[0, 1], [0, 0], [1, 0]], atol=1e-12)
    np.testing.assert_allclose(measured.entropy, np.log([4, 5]), rtol=1e-12)
    told = [[0, np.log(5)], [0, 0], [np.log(4), 0]]
    np.testing.assert_allclose(measured.mutual_information, told, atol=1e-12)
    assert measured.best_latent == measured.most_informative_latent == (2, 0)


def test_kl_is_the_closed_form_and_the_elbo_its_sum():
    measured = summary(perfect(), Grid())
    squares = [np.mean((3 * np.arange(5) / 4) ** 2), 0, np.mean((1.5 * np.arange(4) / 3) ** 2)]
    width = np.array([np.exp(LOG_VARIANCE) - LOG_VARIANCE, 1, np.exp(LOG_VARIANCE) - LOG_VARIANCE])
    np.testing.assert_allclose(measured.kl_per_latent, (squares + width - 1) / 2, atol=1e-12)
    assert measured.active_latents == [0, 2]
    assert measured.kl == pytest.approx(measured.kl_per_latent.sum())
    assert measured.elbo == pytest.approx(-measured.reconstruction - measured.kl)


def test_a_latent_with_little_kl_is_never_the_best():
    vae = perfect()
    vae.posterior.head.weight.data[1, 0] = 1e-6
    measured = summary(vae, Grid())
    assert measured.r2[1, 0] == pytest.approx(1)
    assert measured.best_latent == (2, 0)
    assert summary(collapsed(), Grid()).best_latent == (None, None)


def test_a_global_latent_counts_once_per_data_set():
    vae = build((3,), prior=NormalPrior(3, scale=dist.HalfNormal(1.0)), likelihood=NormalLikelihood)
    data = torch.randn(40, 3)
    part = summary(vae, data, size=10)
    indices = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:10]
    alone = evaluate(vae, data[indices])
    beyond = alone["kl"] - alone["kl_per_latent.z"].sum()
    assert abs(beyond) > 1e-6
    assert part.kl - part.kl_per_latent.sum() == pytest.approx(beyond * 10 / 40)


def test_summary_prints_in_a_dozen_lines():
    lines = str(summary(perfect(), Grid())).splitlines()
    assert len(lines) <= 12
    assert "active latents       2 of 3: z0 " in lines[4]
    assert lines[-2].split() == ["scale", "z2", "1.00", "1.39", "of", "1.39"]
    assert "none" in str(summary(collapsed(), Grid()))


def test_modules_are_evaluated_in_evaluation_mode():
    vae = perfect()
    vae.posterior.encoder = nn.Sequential(vae.posterior.encoder, nn.Dropout(0.9))
    np.testing.assert_allclose(summary(vae, Grid()).r2[0], [0, 1], atol=1e-12)
