"""What ArviZ is given, and that its own functions work on it."""

import importlib
import warnings
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray

from pyro_bvae import VAE, tempered, theory
from pyro_bvae.diagnostics import importance, inference_data, to_inference_data
from pyro_bvae.diagnostics.inference_data import load_arviz
from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from tests.diagnostics.pairs import EXACT, X, as_functions, as_vae, diagonal, orthogonal

DATA = X.repeat(4, 1) * torch.tensor([[1.0], [0.0], [-2.0], [0.5]], dtype=torch.float64)
GROUPS = {
    "posterior",
    "prior",
    "posterior_predictive",
    "prior_predictive",
    "log_likelihood",
    "sample_stats",
    "observed_data",
}


@pytest.fixture
def arviz():
    """The installed ArviZ, whose own warnings are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield load_arviz()
    plt.close("all")


def image_vae() -> VAE:
    """Images, and a σ with a posterior of its own."""
    return VAE(
        NormalPrior(2, scale=dist.HalfNormal(1.0)),
        BernoulliLikelihood(mlp_decoder(2, (1, 4, 6), hidden=())),
        MeanFieldPosterior(mlp_encoder((1, 4, 6), hidden=()), latents=2),
    )


IMAGES = (torch.arange(72, dtype=torch.float64) % 5 < 2).double().reshape(3, 1, 4, 6)


def test_groups_dimensions_and_coordinates():
    factors = {"shape": ["round", "flat", "flat"], "place": torch.rand(3, 2)}
    data = to_inference_data(image_vae(), IMAGES, num_samples=8, factors=factors)
    assert set(data.groups()) >= GROUPS | {"constant_data"}
    posterior = data["posterior"]
    assert posterior["z"].dims == ("chain", "draw", "datum", "latent")
    assert posterior["z"].shape == (1, 8, 3, 2)
    assert posterior["prior_scale"].dims == ("chain", "draw")
    pixels = ("datum", "channel", "height", "width")
    assert data["posterior_predictive"]["x"].dims == ("chain", "draw", *pixels)
    assert data["prior_predictive"]["x"].shape == (1, 8, 3, 1, 4, 6)
    assert data["observed_data"]["x"].dims == pixels
    assert np.array_equal(data["observed_data"]["x"], IMAGES)
    assert data["log_likelihood"]["x"].dims == ("chain", "draw", "datum")
    assert data["constant_data"]["shape"].values.tolist() == ["round", "flat", "flat"]
    assert data["constant_data"]["place"].dims == ("datum", "place_dim_0")
    assert posterior.attrs["target"] == "p(z|x)"
    assert posterior["latent"].values.tolist() == [0, 1]


def test_shared_latents_vary_with_the_draw_and_are_one_for_all_data():
    """log p(z|σ) of each draw is of its own σ, though the data went through in parts."""
    vae = image_vae()
    data = to_inference_data(vae, IMAGES, num_samples=6, batch_size=2)
    scale = torch.as_tensor(data["posterior"]["prior_scale"].values[0])
    z = torch.as_tensor(data["posterior"]["z"].values[0])
    assert len(scale.unique()) == 6
    log_prior = dist.Normal(0.0, scale[:, None, None]).log_prob(z).sum(-1)
    assert log_prior == pytest.approx(torch.as_tensor(data["sample_stats"]["log_prior"].values[0]))
    prior = data["prior"]
    assert len(np.unique(prior["prior_scale"])) == 6


def test_log_weights_of_an_exact_guide_are_the_evidence():
    data = to_inference_data(as_functions(orthogonal()), X, num_samples=9)
    assert data["sample_stats"]["log_weight"].values == pytest.approx(EXACT, abs=1e-12)
    hot = as_functions(orthogonal(beta=4.0))
    own = to_inference_data(hot, X, num_samples=9, target="tempered", beta=4.0)
    assert np.ptp(own["sample_stats"]["log_weight"].values) < 1e-9
    assert own["posterior"].attrs["beta"] == 4.0
    model = to_inference_data(hot, X, num_samples=9)
    assert np.ptp(model["sample_stats"]["log_weight"].values) > 0.1


def test_log_likelihoods_and_predictions_are_of_the_draws():
    """p(x|z) = N(Wz, s): of the labelled draws, and predicted data within 5 errors of Wz."""
    data = to_inference_data(as_functions(diagonal()), DATA, num_samples=2000)
    z = torch.as_tensor(data["posterior"]["z"].values[0])
    mean, scale = z @ diagonal().weight.mT, 0.3**0.5
    log_likelihood = dist.Normal(mean, scale).log_prob(DATA).sum(-1)
    assert data["log_likelihood"]["x"].values[0] == pytest.approx(log_likelihood.numpy())
    residual = torch.as_tensor(data["posterior_predictive"]["x"].values[0]) - mean
    assert (residual.mean(0).abs() < 5 * scale / 2000**0.5).all()
    assert residual.std().item() == pytest.approx(scale, rel=5 / (2 * residual.numel()) ** 0.5)


def test_prior_draws_are_from_the_model_alone():
    """x has covariance W Wᵀ + sI; its diagonal within 5 standard errors of 4 × 1500 draws."""
    data = to_inference_data(as_vae(diagonal()), DATA, num_samples=1500)
    x = torch.as_tensor(data["prior_predictive"]["x"].values).reshape(-1, 5)
    exact = (diagonal().weight @ diagonal().weight.mT).diagonal() + 0.3
    assert ((x.var(0) - exact).abs() < 5 * exact * (2 / len(x)) ** 0.5).all()
    z = torch.as_tensor(data["prior"]["z"].values).reshape(-1, 2)
    assert (z.var(0) - 1).abs().max() < 5 * (2 / len(z)) ** 0.5


def test_resampling_draws_from_the_target():
    """A guide tempered at 4 resampled has the mean and variance of p(z|x), at five errors."""
    wide, weight = as_functions(orthogonal(beta=4.0)), orthogonal().weight
    exact = theory.tempered_posterior(weight, likelihood_scale=0.3**0.5)
    data = to_inference_data(wide, DATA, num_samples=4000, resample=True)
    z = torch.as_tensor(data["posterior"]["z"].values[0])
    effective = importance(wide, DATA, num_samples=4000).effective.min() / 2
    variance = exact.covariance.diagonal()
    assert ((z.mean(0) - DATA @ exact.weight.mT).abs() < 5 * (variance / effective).sqrt()).all()
    assert ((z.var(0) / variance - 1).abs() < 5 * (2 / effective).sqrt()).all()
    assert data["posterior"].attrs["resampled"] == 1
    # Every draw keeps its own log-likelihood and prediction.
    mean = z @ weight.mT
    expected = dist.Normal(mean, 0.3**0.5).log_prob(DATA).sum(-1)
    assert data["log_likelihood"]["x"].values[0] == pytest.approx(expected.numpy())
    assert (torch.as_tensor(data["posterior_predictive"]["x"].values[0]) - mean).std() < 0.6


def test_tempered_pairs_and_modes_and_seeds():
    vae = image_vae()
    state = torch.get_rng_state()
    plain, hot = (
        to_inference_data(p, IMAGES, num_samples=4, seed=2) for p in (vae, tempered(vae, 4.0))
    )
    assert plain["posterior"].equals(hot["posterior"])
    assert plain["sample_stats"].equals(hot["sample_stats"])
    assert torch.equal(torch.get_rng_state(), state)
    assert vae.training


def shifted():
    """A prior whose mean is a second argument, and its exact posterior."""

    def model(x, c):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(c, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, c):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal((x + c) / 2, 0.5**0.5))

    return model, guide


def test_other_arguments_are_constant_data():
    pair = shifted()
    x, c = torch.randn(5), torch.randn(5)
    data = to_inference_data(pair, (x, c), num_samples=3)
    assert data["constant_data"]["argument_0"].values == pytest.approx(c.numpy())
    assert data["posterior"]["z"].dims == ("chain", "draw", "datum")
    assert importance(pair, (x, c)).exact.all()
    alike = to_inference_data(pair, (x, x), num_samples=3)
    assert alike["constant_data"]["argument_0"].values == pytest.approx(x.numpy())


def test_a_file_keeps_everything(arviz, tmp_path):
    factors = {"scale": np.array([0.5, 1.0, 2.0])}
    data = to_inference_data(image_vae(), IMAGES, num_samples=5, factors=factors)
    data.to_netcdf(str(tmp_path / "posterior.nc"))
    loaded = arviz.from_netcdf(str(tmp_path / "posterior.nc"))
    for group in GROUPS | {"constant_data"}:
        assert loaded[group].equals(data[group]), group
    assert loaded["posterior"].attrs["target"] == "p(z|x)"


def test_arvizs_own_functions_work(arviz):
    data = to_inference_data(image_vae(), IMAGES, num_samples=200)
    summary = arviz.summary(data, var_names=["z", "prior_scale"])
    assert list(summary.index[:2]) == ["z[0, 0]", "z[0, 1]"]
    mean = data["posterior"]["z"].values[0, :, 0, 0].mean()
    assert summary.loc["z[0, 0]", "mean"] == pytest.approx(mean, abs=5e-4)
    assert "prior_scale" in summary.index
    some = {"coords": {"datum": [0, 1]}}
    assert arviz.plot_forest(data, var_names=["z"], combined=True, **some) is not None
    assert arviz.plot_posterior(data, var_names=["z", "prior_scale"], **some) is not None
    assert arviz.plot_pair(data, var_names=["z"], coords={"datum": [0]}) is not None
    pixel = {"datum": [0], "channel": [0], "height": [1], "width": [2]}
    assert arviz.plot_ppc(data, coords=pixel, flatten=[]) is not None


def test_loo_pit_of_a_right_guide_is_uniform(arviz):
    """Of 200 scalar data from the model, with the exact posterior; χ² of ten bins."""
    x = 2**0.5 * torch.randn(200)

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))

    data = to_inference_data((model, guide), x, num_samples=1000)
    pit = np.asarray(arviz.loo_pit(data, y="x"))
    counts = np.histogram(pit, bins=10, range=(0, 1))[0]
    assert pit.shape == (200,)
    assert ((counts - 20) ** 2 / 20).sum() < 40


def test_without_inference_data_groups_go_into_a_tree(monkeypatch, tmp_path):
    """ArviZ 1 has no InferenceData; its functions take an xarray.DataTree of the same groups."""
    real = importlib.import_module
    one = SimpleNamespace(from_netcdf=xarray.open_datatree)
    monkeypatch.setattr(
        inference_data.importlib,
        "import_module",
        lambda name: one if name == "arviz" else real(name),
    )
    tree = to_inference_data(image_vae(), IMAGES, num_samples=5)
    assert isinstance(tree, xarray.DataTree)
    assert set(tree.children) >= GROUPS
    assert tree["posterior"]["z"].dims == ("chain", "draw", "datum", "latent")
    assert tree["log_likelihood/x"].shape == (1, 5, 3)
    tree.to_netcdf(tmp_path / "tree.nc")
    loaded = one.from_netcdf(tmp_path / "tree.nc")
    assert loaded["posterior"].to_dataset().equals(tree["posterior"].to_dataset())
    loaded.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "num_samples"),
        ({"factors": {"shape": [1, 2]}}, "factors: expected an array of 4 for 'shape'"),
        ({"target": "tempered"}, "beta: target='tempered' needs"),
        ({"num_samples": 5, "resample": True}, "at least 25 draws"),
    ],
)
def test_refuses(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        to_inference_data(as_functions(diagonal()), DATA, **arguments)


def test_refuses_factors_without_names():
    with pytest.raises(TypeError, match=r"factors: expected a mapping of names .*, got ndarray"):
        to_inference_data(as_functions(diagonal()), DATA, factors=np.arange(4))


def test_refuses_factors_that_take_the_name_of_an_argument():
    data, factors = (torch.zeros(4), torch.ones(4)), {"argument_0": np.zeros(4)}
    with pytest.raises(ValueError, match=r"factors: expected other names than \['argument_0'\]"):
        to_inference_data(shifted(), data, num_samples=2, factors=factors)
