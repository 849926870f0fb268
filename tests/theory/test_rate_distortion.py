"""Rate against distortion, and how to reach a rate."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_bvae.theory import (
    beta_for_rate,
    capacity_optimum,
    gaussian_rate_distortion,
    linear_optimum,
    opening_rates,
)
from tests.theory.cases import SCALE, SPECTRUM, betas, latent_numbers, laws, scales, spectra

T0 = torch.tensor(SPECTRUM, dtype=torch.float64)
rates = st.floats(0.0, 8.0)


@pytest.mark.parametrize(
    ("capacity", "gamma", "rate", "distortion", "beta", "active"),
    [
        (1.0, 100.0, 1.0, 7.969828, 3.468401, 2),
        (1.0, 1000.0, 1.0, 7.969828, 3.468401, 2),
        (2.0, 100.0, 2.0, 5.470732, 1.757314, 3),
        (1.0, 3.0, 1.197762, None, 3.0, 3),
    ],
)
def test_golden_capacity(capacity, gamma, rate, distortion, beta, active):
    optimum = capacity_optimum(T0, 3, capacity=capacity, gamma=gamma, likelihood_scale=SCALE)

    assert optimum.rate.item() == pytest.approx(rate, abs=6e-7)
    assert optimum.beta.item() == pytest.approx(beta, abs=6e-7)
    assert optimum.active == active
    if distortion:
        assert optimum.distortion.item() == pytest.approx(distortion, abs=6e-7)


@laws
@given(spectrum=spectra, capacity=rates, gamma=st.floats(0.5, 50), scale=scales)
def test_capacity_optimum_is_the_least_along_the_curve(spectrum, capacity, gamma, scale):
    """Among all points of the optimal curve, none has a smaller Dist + γ|R − C|."""

    def loss(optimum):
        return optimum.distortion + gamma * (optimum.rate - capacity).abs()

    knobs = {"likelihood_scale": scale}
    best = capacity_optimum(spectrum, 3, capacity=capacity, gamma=gamma, **knobs)
    at_gamma = linear_optimum(spectrum, 3, beta=gamma, **knobs).rate
    others = [
        loss(linear_optimum(spectrum, 3, beta=best.beta * 1.3**power, **knobs))
        for power in (-8, -4, -2, -1, 1, 2, 4, 8)
    ]

    assert best.rate.item() == pytest.approx(max(capacity, at_gamma.item()), abs=1e-9)
    assert min(others) >= loss(best) - 1e-9 * (1 + loss(best).abs())


def test_golden_openings():
    assert opening_rates(T0, 4).tolist() == pytest.approx(
        (0, 0.346574, 1.039721, 2.079442), abs=6e-7
    )
    assert opening_rates(torch.tensor([2.0, 1.0]), 4).tolist()[2:] == [math.inf, math.inf]


@pytest.mark.parametrize("latent", [0, 1, 2, 3])
def test_latents_open_at_their_rate(latent):
    opening = opening_rates(T0, 4)[latent]
    for step, active in ((1e-6, latent + 1), (-1e-6, latent)):
        rate = (opening + step).clamp(min=0)
        beta = beta_for_rate(rate, T0, 4, likelihood_scale=SCALE)
        optimum = linear_optimum(T0, 4, beta=beta, likelihood_scale=SCALE)
        assert optimum.active == active


@laws
@given(spectrum=spectra, latents=latent_numbers, rate=rates, scale=scales)
def test_beta_for_rate_gives_that_rate(spectrum, latents, rate, scale):
    beta = beta_for_rate(rate, spectrum, latents, likelihood_scale=scale)
    optimum = linear_optimum(spectrum, latents, beta=beta, likelihood_scale=scale)

    assert optimum.rate.item() == pytest.approx(rate, abs=1e-9)


@laws
@given(spectrum=spectra, beta=betas, scale=scales)
def test_linear_beta_vae_with_every_latent_attains_shannons_bound(spectrum, beta, scale):
    optimum = linear_optimum(spectrum, len(spectrum), beta=beta, likelihood_scale=scale)
    bound = gaussian_rate_distortion(spectrum, optimum.mse)

    torch.testing.assert_close(bound.rate, optimum.rate, rtol=1e-9, atol=1e-9)
    assert bound.level.item() == pytest.approx(min(beta * scale**2, spectrum.max().item()))


@laws
@given(spectrum=spectra, share=st.floats(0.01, 2.0), mix=st.floats(0.0, 1.0))
def test_water_fills_to_the_squared_error_and_no_other_split_needs_fewer_nats(spectrum, share, mix):
    allowed = min(share, 1.0) * spectrum.sort(descending=True).values
    point = gaussian_rate_distortion(spectrum, share * spectrum.sum())
    split = mix * point.errors + (1 - mix) * allowed
    needed = (spectrum.sort(descending=True).values / split).log().sum() / 2

    torch.testing.assert_close(point.errors.sum(), allowed.sum())
    assert point.rate > 1e-4 or share > 0.99
    assert point.rate < 1e-12 or share < 1
    assert needed >= point.rate - 1e-9


@laws
@given(spectrum=spectra, share=st.floats(0.05, 0.95))
def test_slope_of_the_rate_distortion_function(spectrum, share):
    """dR/dMSE = −1/2θ: the convex curve lies above that tangent on both sides."""
    error = share * spectrum.sum()
    point = gaussian_rate_distortion(spectrum, error)
    for step in (-0.5, -0.01, -1e-4, 1e-4, 0.01, 1.0):
        rate = gaussian_rate_distortion(spectrum, error * (1 + step)).rate
        tangent = point.rate - step * error / (2 * point.level)
        assert rate > tangent - 1e-9


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: gaussian_rate_distortion(T0, 0.0), "squared_error"),
        (lambda: gaussian_rate_distortion(torch.zeros(2), 1.0), "constant data"),
        (lambda: beta_for_rate(-1.0, T0, 3, likelihood_scale=1.0), "rate"),
        (lambda: beta_for_rate(1.0, torch.zeros(2), 3, likelihood_scale=1.0), "constant data"),
        (
            lambda: capacity_optimum(T0, 3, capacity=1.0, gamma=0.0, likelihood_scale=1.0),
            "gamma",
        ),
    ],
)
def test_bad_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
