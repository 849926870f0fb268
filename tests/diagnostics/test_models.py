"""Every model of the package under every diagnostic: finite numbers."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from pyro_bvae import VAE
from pyro_bvae.diagnostics import (
    amortization_gap,
    calibration,
    collapse,
    compare_to_reference,
    elbo_surgery,
    evidence_sandwich,
    importance,
    log_evidence,
    reference_posterior,
    to_inference_data,
)
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.weights import log_weights
from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import (
    FlowPosterior,
    FullRankPosterior,
    MeanFieldPosterior,
    MixturePosterior,
    RefinedPosterior,
)
from pyro_bvae.priors import NormalPrior
from tests.models.cases import CASES, FACTORS, KNOWN, LATENTS, SHAPE, X


def numbers(*parts):
    for part in parts:
        assert np.isfinite(np.asarray(part)).all()


def weighed(model, data, count):
    found = importance(model, data, num_samples=30)
    numbers(found.log_evidence, found.effective, found.error)
    assert found.k.shape == (count,)


def evidence(method, options, model, data, count):
    found = log_evidence(model, data, method=method, **options)
    assert found.values.shape == (count,)
    numbers(found.values)


def sandwich(model, data, count):
    found = evidence_sandwich(model, data, num_samples=2, temperatures=3, leapfrogs=1)
    assert found.lower.shape == found.upper.shape == (count,)
    numbers(found.lower, found.upper)


def calibrated(model, data, count):
    found = calibration(model, data, num_simulations=12, num_samples=9)
    assert found.ranks.shape == (12, len(found.names))
    assert int(found.ranks.max()) <= 9
    assert all(name.startswith("z") or "Partial" in type(model).__name__ for name in found.names)
    numbers(found.p_values, found.distance_p_value)


def collapsed(model, data, count):
    found = collapse(model, data, site=site_of(model), compared=8)
    numbers(found.kl, found.mean_variance, found.information.low, found.mmd.p_value)
    assert all(name.startswith(f"{site_of(model) or 'z'}[") for name in found.names)


def surgery(model, data, count):
    found = elbo_surgery(model, data, site=site_of(model))
    numbers(found.table().to_numpy(), found.elbo)


def inference_data(model, data, count):
    found = to_inference_data(model, data, num_samples=4)
    for group in ("posterior", "prior"):
        for values in found[group].data_vars.values():
            assert values.sizes["draw"] == 4
            numbers(values.to_numpy())
    assert found["log_likelihood"].sizes["datum"] == count
    assert found["posterior"]["z1" if site_of(model) else "z"].sizes["datum"] == count


def chains(model, data, count):
    found = reference_posterior(model, data, num_samples=10, chains=1, warmup=10)
    assert found.draws.shape == (1, 10, count, len(found.names))
    beside = compare_to_reference(model, data, found, num_samples=20)
    numbers(found.draws, beside.wasserstein)
    assert all(name.startswith("z") or "Partial" in type(model).__name__ for name in found.names)


def gap(model, data, count):
    found = amortization_gap(model, data, steps=2, num_samples=20)
    assert found.guide.shape == (count,)
    numbers(found.amortization, found.approximation)


def site_of(model):
    return "z1" if hasattr(model, "layer") else None


ANNEALED = {"num_samples": 2, "temperatures": 3, "leapfrogs": 1}
DIAGNOSTICS = {
    "importance": weighed,
    "evidence": partial(evidence, "importance", {"num_samples": 10}),
    "annealed": partial(evidence, "annealed", ANNEALED),
    "sandwich": sandwich,
    "calibration": calibrated,
    "collapse": collapsed,
    "surgery": surgery,
    "inference_data": inference_data,
    "chains": chains,
    "gap": gap,
}


def made(name):
    """A model and some data, their rows twice over."""
    for case in CASES:
        if case.__name__ == name:
            built = case()
            data = (X,) if name == "partial_factors" else built.data
            return built.model, tuple(torch.cat([part, part]) for part in data)
    prior, encoder = NormalPrior(LATENTS), mlp_encoder(SHAPE, hidden=(4,))
    likelihood = BernoulliLikelihood(mlp_decoder(LATENTS, SHAPE, hidden=(4,)))
    if name == "RefinedPosterior":
        start = MeanFieldPosterior(encoder, latents=LATENTS)
        posterior = RefinedPosterior(start, prior=prior, likelihood=likelihood, steps=2)
    else:
        posterior = POSTERIORS[name](encoder, latents=LATENTS)
    return VAE(prior, likelihood, posterior), (torch.cat([X, X]),)


POSTERIORS = {
    kind.__name__: kind
    for kind in (FlowPosterior, FullRankPosterior, MixturePosterior, RefinedPosterior)
}
MODELS = [*(case.__name__ for case in CASES), *POSTERIORS]


@pytest.mark.parametrize("diagnostic", DIAGNOSTICS)
@pytest.mark.parametrize("name", MODELS)
def test_numbers(name, diagnostic):
    model, data = made(name)
    DIAGNOSTICS[diagnostic](model, data if len(data) > 1 else data[0], len(data[0]))


@pytest.mark.parametrize("name", MODELS)
def test_a_refined_guide_is_no_worse_and_the_guide_is_that_of_the_weights(name):
    """At 4 standard errors of the means over draws; the weights' are of other draws."""
    model, data = made(name)
    given = data if len(data) > 1 else data[0]
    found = amortization_gap(model, given, steps=100, num_samples=320)
    value, error = found.mean("amortization")
    assert value > -4 * error
    weights = log_weights(Sampler(model, given), 320)
    error = math.hypot(weights.mean(1).std().item() / 320**0.5, found.mean("guide")[1])
    assert found.mean("guide")[0] == pytest.approx(weights.mean().item(), abs=4 * error)


@pytest.mark.parametrize("function", [collapse, elbo_surgery])
def test_one_latent_site_of_several_is_asked_for(function):
    hierarchical, data = made("hierarchical")
    with pytest.raises(ValueError, match=r"site: expected the name of one of .*\['z1', 'z2'\]"):
        function(hierarchical, data[0])
    assert function(hierarchical, data[0], site="z2").names == ("z2[0]", "z2[1]")
    with pytest.raises(ValueError, match=r"site: no latent site .* 'z'; there are \['z1', 'z2'\]"):
        function(hierarchical, data[0], site="z")
    joint, data = made("joint")
    with pytest.raises(ValueError, match=r"site: expected a continuous latent site, got 'y'"):
        function(joint, data[0], site="y")
    assert function(joint, data[0]).names == ("z[0]", "z[1]")


def test_either_layer_of_a_hierarchy_has_the_same_elbo():
    """The mean log weight, within 5 standard errors of one draw for each of 400 data."""
    model, _ = made("hierarchical")
    x = X.repeat(80, 1, 1, 1)
    weights = log_weights(Sampler(model, x), 50)
    error = weights.std(0).square().mean().sqrt().item() / 400**0.5
    for site in ("z1", "z2"):
        elbo = elbo_surgery(model, x, site=site).elbo
        assert elbo == pytest.approx(weights.mean().item(), abs=5 * error)


def test_known_factors_are_points_that_no_gradient_moves():
    model, _ = made("partial_factors")
    with pytest.raises(ValueError, match="some of latent site 'y' is known"):
        log_evidence(model, (X, FACTORS, KNOWN), method="annealed", temperatures=3)
    rows = tuple(torch.cat([part, part]) for part in (X, FACTORS, KNOWN))
    with pytest.raises(ValueError, match="expected a density at site 'y'"):
        elbo_surgery(model, rows, site="y")
