"""The laws of the linear β-VAE's optimum."""

import math

import pytest
import torch
from hypothesis import given

from pyro_bvae.theory import (
    LinearGuide,
    active_latents,
    aggregate_posterior,
    eigenvalue_of_mean_variance,
    eigenvalue_of_rate,
    expected_log_likelihood,
    linear_optimum,
    linear_terms,
    optimal_decoder,
    tempered_posterior,
)
from tests.theory.cases import (
    SCALE,
    SPECTRUM,
    betas,
    latent_numbers,
    laws,
    rotated,
    scales,
    spectra,
)


@laws
@given(spectrum=spectra, latents=latent_numbers, beta=betas, scale=scales, prior_scale=scales)
def test_optimum_is_what_its_decoder_and_guide_are_worth(
    spectrum, latents, beta, scale, prior_scale
):
    knobs = {"beta": beta, "likelihood_scale": scale, "prior_scale": prior_scale}
    optimum = linear_optimum(spectrum, latents, **knobs)
    covariance = rotated(spectrum)
    decoder = optimal_decoder(covariance, latents, **knobs)
    guide = tempered_posterior(decoder, **knobs)
    terms = linear_terms(covariance, decoder, guide, **knobs)
    aggregate = aggregate_posterior(guide, covariance).diagonal()

    def close(actual, expected):
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)

    close(torch.stack(optimum[:5]), torch.stack(terms))
    close(guide.covariance, torch.diag(optimum.posterior_variances))
    close(aggregate - guide.covariance.diagonal(), optimum.mean_variances)
    close(decoder.norm(dim=0), optimum.singular_values)
    close(
        optimum.log_likelihood,
        expected_log_likelihood(
            covariance, decoder, likelihood_scale=scale, prior_scale=prior_scale
        ),
    )


@laws
@given(spectrum=spectra, latents=latent_numbers, beta=betas, scale=scales)
def test_gradient_is_zero_at_the_optimum(spectrum, latents, beta, scale):
    knobs = {"beta": beta, "likelihood_scale": scale}
    covariance = rotated(spectrum)
    decoder = optimal_decoder(covariance, latents, **knobs)
    best = tempered_posterior(decoder, **knobs)
    root = torch.linalg.cholesky(best.covariance)
    point = [tensor.clone().requires_grad_() for tensor in (decoder, best.weight, root)]
    guide = LinearGuide(point[1], point[2] @ point[2].mT)
    objective = linear_terms(covariance, point[0], guide, **knobs).objective

    for gradient in torch.autograd.grad(objective, point):
        assert gradient.abs().max() < 1e-9 * (1 + beta) * (1 + 20 / scale**2)


@laws
@given(spectrum=spectra, latents=latent_numbers, beta=betas, scale=scales, prior_scale=scales)
def test_prior_scale_changes_no_term_and_the_aggregate_posterior_is_the_prior(
    spectrum, latents, beta, scale, prior_scale
):
    knobs = {"beta": beta, "likelihood_scale": scale}
    standard = linear_optimum(spectrum, latents, **knobs)
    optimum = linear_optimum(spectrum, latents, prior_scale=prior_scale, **knobs)

    assert optimum[:6] == standard[:6]
    torch.testing.assert_close(optimum.rates, standard.rates)
    torch.testing.assert_close(
        optimum.posterior_variances + optimum.mean_variances,
        torch.full((latents,), prior_scale**2),
    )


@laws
@given(spectrum=spectra, latents=latent_numbers, beta=betas, scale=scales)
def test_rates_add_up_and_everything_is_monotone_in_beta(spectrum, latents, beta, scale):
    low = linear_optimum(spectrum, latents, beta=beta, likelihood_scale=scale)
    high = linear_optimum(spectrum, latents, beta=1.5 * beta, likelihood_scale=scale)

    assert low.rates.sum() == low.rate
    assert (low.rates[1:] <= low.rates[:-1]).all()
    assert low.active == int((low.rates > 0).sum())
    assert low.active == active_latents(spectrum, latents, beta=beta, likelihood_scale=scale)
    assert high.active <= low.active
    assert high.rate <= low.rate
    assert high.distortion >= low.distortion
    assert high.objective <= low.objective
    assert high.rate < low.rate or low.active == 0


@laws
@given(spectrum=spectra, latents=latent_numbers, beta=betas, scale=scales)
def test_slopes_along_the_optimal_curve(spectrum, latents, beta, scale):
    """dDist/dβ = −β dR/dβ, and dL/dβ = −R, by automatic differentiation."""
    beta = torch.tensor(beta, requires_grad=True)
    optimum = linear_optimum(spectrum, latents, beta=beta, likelihood_scale=scale)

    def slope(value):
        return torch.autograd.grad(value, beta, retain_graph=True)[0]

    if optimum.active:
        torch.testing.assert_close(slope(optimum.distortion), -beta * slope(optimum.rate))
    torch.testing.assert_close(slope(optimum.objective), -optimum.rate)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 4.0])
def test_active_unit_rules_are_eigenvalue_thresholds(beta):
    knobs = {"beta": beta, "likelihood_scale": SCALE}
    for rule, statistic, limit in (
        (eigenvalue_of_mean_variance, "mean_variances", 0.01),
        (eigenvalue_of_rate, "rates", 0.05),
    ):
        threshold = rule(limit, **knobs)
        at = linear_optimum(threshold[None], 1, **knobs)
        assert getattr(at, statistic).item() == pytest.approx(limit)
        assert threshold > beta * SCALE**2
    assert eigenvalue_of_mean_variance(0.01, **knobs).item() == pytest.approx(beta * 0.3 / 0.99)
    assert eigenvalue_of_rate(0.2, **knobs).item() == pytest.approx(beta * 0.3 * math.exp(0.4))


def test_order_of_the_spectrum_is_free_and_surplus_latents_are_inactive():
    spectrum = torch.tensor(SPECTRUM)
    knobs = {"beta": 1.0, "likelihood_scale": 0.1}
    exact, surplus = (linear_optimum(spectrum.flip(0), n, **knobs) for n in (5, 7))

    assert exact.objective == linear_optimum(spectrum, 5, **knobs).objective
    assert surplus.objective == exact.objective
    assert surplus.posterior_variances[5:].tolist() == [1.0, 1.0]
    assert optimal_decoder(torch.diag(spectrum), 7, **knobs)[:, 5:].abs().sum() == 0


def test_a_level_equal_to_an_eigenvalue_leaves_the_latent_inactive():
    assert linear_optimum(torch.tensor([4.0, 1.0]), 2, likelihood_scale=1.0).active == 1


def test_python_numbers_lose_no_precision_under_a_float32_default():
    spectrum = torch.tensor(SPECTRUM, dtype=torch.float64)
    expected = -11.93102418
    torch.set_default_dtype(torch.float32)
    actual = linear_optimum(spectrum, 3, beta=4.0, likelihood_scale=SCALE).objective

    assert actual.dtype == torch.float64
    assert actual.item() == pytest.approx(expected, abs=6e-9)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"spectrum": torch.tensor([1.0, -1.0])}, "spectrum"),
        ({"spectrum": torch.eye(2)}, "spectrum"),
        ({"spectrum": torch.tensor([2, 1])}, "spectrum"),
        ({"spectrum": torch.tensor([torch.nan])}, "spectrum"),
        ({"latents": 0}, "latents"),
        ({"latents": 1.5}, "latents"),
        ({"beta": math.nan}, "beta"),
        ({"likelihood_scale": 0}, "likelihood_scale"),
        ({"prior_scale": -1.0}, "prior_scale"),
    ],
)
def test_bad_arguments_are_named(changed, match):
    arguments = {"spectrum": torch.tensor([2.0, 1.0]), "latents": 2, "likelihood_scale": 1.0}
    with pytest.raises(ValueError, match=match):
        linear_optimum(**(arguments | changed))


def test_bad_activity_rules_are_named():
    with pytest.raises(ValueError, match="fraction"):
        eigenvalue_of_mean_variance(1.0, likelihood_scale=1.0)
    with pytest.raises(ValueError, match="rate"):
        eigenvalue_of_rate(-0.1, likelihood_scale=1.0)
