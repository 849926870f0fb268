"""A study of the linear VAE tabulates its closed forms, and goes on where it was stopped."""

import signal
from functools import partial

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_bvae import VAE, fit, theory
from pyro_bvae.metrics import mig
from pyro_bvae.selection import beta_sigma_study, latent_table
from pyro_bvae.training import evaluate
from tests.truths import NOISE, SPECTRUM, BalancedPosterior, data_and_covariance, linear_vae

BETAS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def build(*, prior_scale: float | str, likelihood_scale: float | str) -> VAE:
    return linear_vae(
        4, prior=prior_scale, likelihood=likelihood_scale, posterior=BalancedPosterior
    )


def study(x: torch.Tensor, **changes) -> pd.DataFrame:
    options = {"betas": BETAS, "likelihood_scales": (NOISE,), "num_particles": 2}
    training = {"steps": 400, "warm_steps": 250, "batch_size": len(x), "progress": False}
    adam = partial(torch.optim.Adam, lr=0.03)
    return beta_sigma_study(build, x, **(options | training | {"optim": adam} | changes))


def test_means_shrink_and_variances_grow_latent_by_latent_as_lambda_says():
    """Adam at a constant rate stays off by some 0.01 nats of rate and 0.03 of distortion."""
    x, covariance = data_and_covariance(64)
    first, second = torch.linalg.eigh(covariance).eigenvectors.flip(1).mT[:2]
    table = study(x, factors={"axis": x @ first, "between": x @ (first + second)})
    order = np.argsort(table["kl_per_latent"][0])[::-1]
    for _, row in table.iterrows():
        best = theory.linear_optimum(SPECTRUM, 4, beta=row["beta"], likelihood_scale=NOISE)
        assert row["active"] == best.active
        assert row["kl"] == pytest.approx(best.rate.item(), abs=0.03)
        assert row["reconstruction"] == pytest.approx(best.distortion.item(), abs=0.1)
        assert row["elbo"] == pytest.approx(-row["kl"] - row["reconstruction"], abs=1e-9)
        for name, exact in (
            ("kl_per_latent", best.rates),
            ("posterior_variance", best.posterior_variances),
            ("posterior_mean_square", best.mean_variances),
            ("aggregate_variance", torch.ones(4)),
            ("aggregate_mean", torch.zeros(4)),
        ):
            assert np.array(row[name])[order] == pytest.approx(exact, abs=0.04), name
    assert table["r2.axis"][3] == pytest.approx(1.0, abs=0.05)
    assert table["r2.between"][3] == pytest.approx(4 / (4 + 2), abs=0.05)
    assert table["r2.axis"].iloc[-1] == 0
    assert list(table["active"]) == [4, 4, 3, 2, 1, 0]


def test_the_gap_is_that_of_the_factors_that_are_classes():
    x, _ = data_and_covariance(64)
    whole, real = torch.arange(64) % 3, torch.randn(64)
    table = study(x, betas=(1.0,), steps=3, factors={"whole": whole, "real": real, "one": real * 0})
    torch.manual_seed(0)
    vae = build(prior_scale=1.0, likelihood_scale=NOISE)
    options = {"steps": 3, "batch_size": 64, "progress": False}
    fit(vae, x, optim=partial(torch.optim.Adam, lr=0.03), **options)
    assert table["mig"][0] == pytest.approx(mig(vae.encode(x), whole[:, None]).score)
    assert "mig" not in study(x, betas=(1.0,), steps=3, factors={"real": real})


def test_the_scale_that_is_best_for_each_batch_is_tabulated():
    x, _ = data_and_covariance(64)
    table = study(x, betas=(4.0,), likelihood_scales=("optimal",))
    exact = theory.learned_likelihood_scale(SPECTRUM, 4, beta=4.0)
    assert table["likelihood_scale_after"][0] == pytest.approx(exact.item(), rel=0.02)


def test_a_row_for_each_latent():
    x, _ = data_and_covariance(32)
    table = study(x, betas=(1.0, 2.0), steps=3, warm_steps=3, prior_scales=(0.5, 1.0))
    latents = latent_table(table)
    assert len(table) == 4
    assert len(latents) == 16
    totals = latents.groupby(["prior_scale", "beta"])["kl_per_latent"].sum()
    assert totals.to_numpy() == pytest.approx(table["kl"].to_numpy())
    assert set(latents["prior_scale_after"]) == {0.5, 1.0}
    assert latents["posterior_variance"].dtype == float


def test_a_stopped_study_goes_on_to_the_same_table(tmp_path):
    x, _ = data_and_covariance(32)
    options = {"betas": (1.0, 2.0, 4.0), "steps": 5, "warm_steps": 4, "seeds": (0, 1)}
    whole = study(x, **options)
    records = []

    def stopping(record):
        records.append(record.values["beta"])
        if len(records) == 17:
            signal.raise_signal(signal.SIGINT)

    options |= {"every": 1, "callbacks": [stopping]}
    with pytest.raises(KeyboardInterrupt):
        study(x, run=tmp_path, **options)
    pd.testing.assert_frame_equal(study(x, run=tmp_path, **options), whole)
    pd.testing.assert_frame_equal(study(x, run=tmp_path, **options), whole)
    assert records == 2 * (5 * [1.0] + 4 * [2.0] + 4 * [4.0])
    with pytest.raises(ValueError, match=r"run: .*'steps'"):
        study(x, run=tmp_path, **(options | {"steps": 6}))


def as_functions(*, prior_scale: float, likelihood_scale: float):
    """The pair that `build` makes, with its networks in Pyro's store."""
    vae = build(prior_scale=prior_scale, likelihood_scale=likelihood_scale)

    def model(x):
        decoder = pyro.module("decoder", vae.likelihood.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", vae.prior())
            pyro.sample("x", dist.Normal(decoder(z), likelihood_scale).to_event(1), obs=x)

    def guide(x):
        pyro.module("posterior", vae.posterior)
        with pyro.plate("data", len(x)):
            pyro.sample("z", vae.posterior(x))

    return model, guide


def test_functions_are_studied_as_a_module_is(tmp_path):
    x, _ = data_and_covariance(32)
    options = {"betas": (1.0, 4.0), "steps": 5, "warm_steps": 4, "seeds": (0, 1)}
    expected = study(x, **options).drop(columns=["likelihood_scale_after", "prior_scale_after"])
    training = {"num_particles": 2, "batch_size": 32, "progress": False, "run": tmp_path}
    for _ in range(2):  # trained, then read
        table = beta_sigma_study(
            as_functions,
            x,
            likelihood_scales=(NOISE,),
            optim=partial(torch.optim.Adam, lr=0.03),
            **options,
            **training,
        )
        pd.testing.assert_frame_equal(table[expected.columns], expected, rtol=1e-9)
    assert len(pyro.get_param_store()) == 0


def test_recorded_training_gives_the_same_table():
    x, _ = data_and_covariance(32)
    options = {"betas": (1.0, 4.0), "steps": 5, "warm_steps": 4}
    pd.testing.assert_frame_equal(study(x, compile="recorded", **options), study(x, **options))


@pytest.mark.parametrize("compile", ["eager", "recorded"])
def test_a_chain_is_one_fit_after_another(compile: str):
    """To the last bit, though a study hands β over as a tensor and these as a number."""
    x, _ = data_and_covariance(32)
    betas = (0.3, 1.0, 4.7)
    table = study(x, betas=betas, steps=6, warm_steps=6, compile=compile)
    torch.manual_seed(0)
    vae = build(prior_scale=1.0, likelihood_scale=NOISE)
    adam = partial(torch.optim.Adam, lr=0.03)
    for beta, kl in zip(betas, table["kl"], strict=True):
        fit(vae, x, beta=beta, steps=6, batch_size=32, optim=adam, compile=compile, progress=False)
        assert float(evaluate(vae, x, batch_size=256)["kl"]) == kl


@pytest.mark.parametrize("betas", [(), (0.0,), (1.0, 1.0), (-1.0, 2.0), (float("nan"),)])
def test_unfit_betas_are_refused(betas):
    with pytest.raises(ValueError, match="betas"):
        study(torch.zeros(4, 5), betas=betas)


def test_what_cannot_be_measured_or_saved_is_refused():
    with pytest.raises(TypeError, match="evaluation"):
        study(np.zeros((4, 5)), batch_size=4)
    with pytest.raises(TypeError, match="pair"):
        beta_sigma_study(lambda **_: print, torch.zeros(4, 5), betas=(1.0,), steps=1)
