"""The regions of a density hold what they say, and the codes of a prior's own draws fill them."""

import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from pyro.distributions import Normal

from pyro_bvae.plots import aggregate_and_prior, density_regions

EXTENT = (-6.0, 6.0, -6.0, 6.0)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def normal(*scales):
    return Normal(torch.zeros(2), torch.tensor(scales)).to_event(1)


def test_edges_are_the_ellipses_of_a_normal():
    """Of a share α, z_0²/σ_0² + z_1²/σ_1² = −2 ln(1 − α)."""
    log_density = normal(1.0, 0.5).log_prob
    ax = density_regions(lambda z: log_density(z) - 3.0, EXTENT, shares=(0.9, 0.5), grid=401)
    paths = ax.collections[0].get_paths()
    assert all(dashes is None for _, dashes in ax.collections[0].get_linestyle())
    for path, share in zip(paths, (0.9, 0.5), strict=True):
        radii = ((path.vertices / [1.0, 0.5]) ** 2).sum(-1)
        assert radii == pytest.approx(-2 * math.log(1 - share), rel=0.03)


def test_codes_that_are_the_priors_own_fill_its_regions_as_it_does():
    prior = normal(1.0, 2.0)
    ax = aggregate_and_prior(prior.sample((4000,)), prior.log_prob, extent=(-6, 6, -12, 12))
    (told,) = [text.get_text() for text in ax.get_legend().get_texts()]
    half, most = map(float, re.search(r"with (\d+)% and (\d+)%", told).groups())
    # four deviations of a share of 4000, and half of the last digit shown
    assert half == pytest.approx(50, abs=4 * 100 * (0.25 / 4000) ** 0.5 + 0.5)
    assert most == pytest.approx(90, abs=4 * 100 * (0.09 / 4000) ** 0.5 + 0.5)


def test_codes_off_the_prior_are_told_apart():
    prior = normal(1.0, 1.0)
    codes, classes = torch.cat([torch.zeros(30, 2), torch.full((10, 2), 5.0)]), [0] * 30 + [7] * 10
    ax = aggregate_and_prior(codes, prior.log_prob, classes=classes, extent=EXTENT)
    assert "75% and 75%" in ax.get_legend().get_texts()[0].get_text()
    (dots,) = (drawn for drawn in ax.collections if isinstance(drawn, PathCollection))
    np.testing.assert_array_equal(dots.get_offsets(), codes)
    np.testing.assert_array_equal(dots.get_array(), classes)
    written = [(text.get_text(), *text.get_position()) for text in ax.texts]
    assert written == [("0", 0, 0), ("7", 5, 5)]


def test_a_density_may_vanish_and_given_axes_are_used():
    _, given = plt.subplots()

    def square(z):
        return torch.where((z.abs() <= 1).all(-1), 0.0, -math.inf)

    assert density_regions(square, EXTENT, filled=True, name="p", ax=given) is given
    assert given.get_xlim() == (-6, 6)
    assert given.get_legend_handles_labels()[1] == ["p"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extent": (1, -1, -1, 1)}, "extent"),
        ({"shares": (0.5, 1.0)}, "shares"),
        ({"shares": ()}, "shares"),
        ({"grid": 1}, "grid"),
        ({"log_density": lambda z: z}, "log_density"),
        ({"log_density": lambda z: z[:, 0] * math.nan}, "log_density"),
        ({"log_density": lambda z: z[:, 0].abs() * -math.inf}, "log_density"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change, message):
    options = {"log_density": normal(1.0, 1.0).log_prob, "extent": EXTENT} | change
    with pytest.raises(ValueError, match=f"^{message}:"):
        density_regions(**options)


@pytest.mark.parametrize(
    ("codes", "classes", "message"),
    [(torch.zeros(5, 3), None, "codes"), (torch.zeros(5, 2), [0, 1], "classes")],
)
def test_codes_that_do_not_fit_are_refused(codes, classes, message):
    with pytest.raises(ValueError, match=f"^{message}:"):
        aggregate_and_prior(codes, normal(1.0, 1.0).log_prob, classes=classes)
