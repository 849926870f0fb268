"""The pictures of β and σ show the numbers and slopes they were given, of the exact linear VAE."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from pyro_bvae import theory
from pyro_bvae.plots import (
    beta_against_prior,
    beta_scale_map,
    equal_mean_curves,
    rate_distortion,
)

SPECTRUM = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25], dtype=torch.float64)


@pytest.fixture(autouse=True)
def nothing_left():
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


def curve(betas):
    best = [theory.linear_optimum(SPECTRUM, 3, beta=b, likelihood_scale=0.5) for b in betas]
    return [float(o.rate) for o in best], [float(o.distortion) for o in best]


def test_the_slope_at_each_point_is_minus_beta_and_touches_the_curve():
    betas = [1.0, 2.0, 4.0]
    ax = rate_distortion(*curve(betas), betas, theory=curve(np.linspace(0.5, 8, 300)))
    exact, *tangents, points = ax.lines
    for beta, rate, distortion, line in zip(betas, *curve(betas), tangents, strict=True):
        (x0, x1), (y0, y1) = line.get_data()
        assert (y1 - y0) / (x1 - x0) == pytest.approx(-beta)
        assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((rate, distortion))
        below = distortion - beta * (exact.get_xdata() - rate)
        assert (exact.get_ydata() >= below - 1e-9).all()
    assert points.get_xdata() == pytest.approx(curve(betas)[0])
    assert [text.get_text() for text in ax.texts] == ["1", "2", "4"]


def test_the_map_has_each_number_in_its_cell():
    ax = beta_scale_map([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [1, 4], [0.1, 1, 10], title="nats")
    placed = {text.get_position(): text.get_text() for text in ax.texts}
    assert placed[(2, 1)] == "6.0"
    assert placed[(0, 1)] == "4.0"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0.1", "1", "10"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1", "4"]


def test_lines_of_equal_mean_are_beta_over_the_prior_variance():
    betas, scales = [1.0, 2.0, 4.0], [1.0, 0.5**0.5, 0.5]
    values = [[float(4 / (4 + 0.3 * b / s**2)) for s in scales] for b in betas]
    ax = equal_mean_curves(values, betas, scales)
    drawn = [line for line in ax.lines if len(line.get_xdata())]
    assert len(drawn) == 7
    for line in drawn:
        products = line.get_xdata() * line.get_ydata()
        assert products == pytest.approx(products[0])
        assert 1 < products[0] < 16


def test_both_knobs_are_drawn_where_they_were_measured_and_exact():
    knob = np.array([1.0, 2.0, 4.0])
    exact = {"knob": knob, "by_beta": 2 * knob, "by_prior": 3 * knob}
    ax = beta_against_prior(knob, knob, -knob, quantity="variance", theory=exact)
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert drawn["β, σ_z = 1"] == pytest.approx(knob)
    assert drawn["1/σ_z², β = 1"] == pytest.approx(-knob)
    assert ax.lines[0].get_ydata() == pytest.approx(2 * knob)
    assert ax.lines[2].get_ydata() == pytest.approx(3 * knob)
    several = np.ones((3, 4))
    assert len(beta_against_prior(knob, several, several, quantity="variance").lines) == 8


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda: rate_distortion([], [], []), "rate"),
        (lambda: rate_distortion([1.0], [1.0, 2.0], [1.0]), "distortion"),
        (lambda: rate_distortion([1.0], [1.0], [np.nan]), "beta"),
        (lambda: beta_scale_map([[1.0]], [1.0, 2.0], [1.0], title=""), "values"),
        (lambda: equal_mean_curves(np.ones((2, 2)), [2.0, 1.0], [1.0, 0.5]), "betas"),
        (lambda: equal_mean_curves(np.ones((2, 2)), [1.0, 2.0], [0.5, 1.0]), "prior_scales"),
        (lambda: beta_against_prior([0.0], [1.0], [1.0], quantity="v"), "knob"),
    ],
)
def test_numbers_that_cannot_be_drawn_are_named(draw, name):
    with pytest.raises(ValueError, match=name):
        draw()
