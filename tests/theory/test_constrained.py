"""Decoders that are not free: weight decay and columns of norm one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_bvae.theory import (
    linear_optimum,
    linear_terms,
    tempered_posterior,
    unit_norm_rates,
    weight_decay_singular_values,
    weight_decay_threshold,
)
from tests.theory.cases import (
    SCALE,
    SPECTRUM,
    betas,
    latent_numbers,
    laws,
    maximise,
    rotated,
    scales,
    spectra,
)


@pytest.mark.parametrize(
    ("weight_decay", "r", "beta", "threshold", "squares"),
    [
        (2.0, 1.0, 1.0, 0.48, (0.886141, 0.480776, 0.2)),
        (2.0, 0.25, 1.0, 1.02, (1.389454, 0.565564, 0.0)),
        (2.0, 0.25, 2.0, 2.04, (1.131129, 0.0, 0.0)),
    ],
)
def test_weight_decay_is_golden_and_reached_by_training(weight_decay, r, beta, threshold, squares):
    spectrum = torch.tensor(SPECTRUM)
    knobs = {"beta": beta, "likelihood_scale": SCALE, "prior_scale": r**0.5}
    values = weight_decay_singular_values(spectrum, 3, weight_decay=weight_decay, **knobs)
    assert values.square().tolist() == pytest.approx(squares, abs=6e-7)
    assert weight_decay_threshold(weight_decay, **knobs).item() == pytest.approx(threshold)

    covariance = rotated(spectrum)

    def objective(decoder):
        guide = tempered_posterior(decoder, **knobs)
        worth = linear_terms(covariance, decoder, guide, **knobs).objective
        return worth - weight_decay / 2 * decoder.square().sum()

    decoder = torch.randn(5, 3)
    maximise(objective, decoder)
    trained = torch.linalg.svdvals(decoder.detach())
    torch.testing.assert_close(trained, values, atol=1e-3, rtol=0)


@laws
@given(spectrum=spectra, latents=latent_numbers, beta=betas, scale=scales, prior_scale=scales)
def test_no_weight_decay_is_the_free_optimum(spectrum, latents, beta, scale, prior_scale):
    knobs = {"beta": beta, "likelihood_scale": scale, "prior_scale": prior_scale}
    free = linear_optimum(spectrum, latents, **knobs).singular_values
    decayed = weight_decay_singular_values(spectrum, latents, weight_decay=0.0, **knobs)

    torch.testing.assert_close(decayed, free, atol=1e-6, rtol=1e-6)


@laws
@given(weight_decay=st.floats(0, 10), beta=betas, scale=scales, prior_scale=scales)
def test_weight_decay_threshold_parts_active_from_inactive(weight_decay, beta, scale, prior_scale):
    knobs = {"beta": beta, "likelihood_scale": scale, "prior_scale": prior_scale}
    threshold = weight_decay_threshold(weight_decay, **knobs)
    values = weight_decay_singular_values(
        threshold * torch.tensor([1.001, 0.999]), 2, weight_decay=weight_decay, **knobs
    )

    assert values[0] > 0
    assert values[1] == 0


@pytest.mark.parametrize(
    ("beta", "r", "rate"),
    [(1.0, 1.0, 3.11666537), (1.0, 0.25, 3.11994751), (4.0, 1.0, 0.95052602)],
)
def test_unit_norm_rates_are_golden_and_exact(beta, r, rate):
    spectrum = torch.tensor(SPECTRUM)
    knobs = {"beta": beta, "likelihood_scale": SCALE, "prior_scale": r**0.5}
    rates = unit_norm_rates(spectrum, 3, **knobs)
    decoder = torch.eye(5, 3)
    guide = tempered_posterior(decoder, **knobs)
    terms = linear_terms(torch.diag(spectrum), decoder, guide, **knobs)

    assert rates.sum().item() == pytest.approx(rate, abs=6e-9)
    assert terms.rate.item() == pytest.approx(rate, abs=6e-9)


@laws
@given(spectrum=spectra, beta=betas, scale=scales, prior_scale=scales)
def test_unit_norm_latents_are_never_switched_off(spectrum, beta, scale, prior_scale):
    rates = unit_norm_rates(
        spectrum, len(spectrum), beta=beta, likelihood_scale=scale, prior_scale=prior_scale
    )

    assert (rates > 0).all()


def test_bad_arguments_are_named():
    spectrum = torch.tensor([2.0, 1.0])
    with pytest.raises(ValueError, match="latents: expected at most 2"):
        unit_norm_rates(spectrum, 3, likelihood_scale=1.0)
    with pytest.raises(ValueError, match="weight_decay"):
        weight_decay_singular_values(spectrum, 2, weight_decay=-1.0, likelihood_scale=1.0)
    with pytest.raises(ValueError, match="weight_decay"):
        weight_decay_threshold(-1.0, likelihood_scale=1.0)
