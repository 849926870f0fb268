"""Calibration curves lie where the ranks put them, and say what is off."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pyro_bvae.diagnostics.calibration import summarise
from pyro_bvae.plots import coverage_curve, expected_coverage, rank_distribution

EVEN = torch.arange(400) % 20
MIDDLE = 5 + torch.arange(400) % 10


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def found():
    ranks = torch.stack([EVEN, MIDDLE], 1)
    return summarise(ranks, MIDDLE, num_samples=19, names=["fine", "wide"])


def line_of(ax, word):
    """The line drawn in the colour that the legend explains with this word."""
    handles, labels = ax.get_legend_handles_labels()
    colour = next(
        h.get_color() for h, text in zip(handles, labels, strict=True) if text.endswith(word)
    )
    drawn = [line for line in ax.lines if len(line.get_xdata()) > 2]
    return next(line for line in drawn if line.get_color() == colour)


def test_ranks_are_drawn_less_the_uniform_ones_and_the_band_holds_them():
    ax = rank_distribution(found())
    np.testing.assert_allclose(line_of(ax, "not seen to be off").get_ydata(), 0, atol=1e-12)
    wide = line_of(ax, "1 of 2 latents off")
    below = np.clip((20 * wide.get_xdata() - 5) / 10, 0, 1)
    np.testing.assert_allclose(wide.get_ydata(), below - wide.get_xdata(), atol=1e-12)
    assert [text.get_text() for text in ax.texts] == ["wide"]
    assert "p = 0.0002" in ax.get_title(loc="left")
    low, high = found().uniformity.band(1 - 0.05 / 2)
    edges = ax.collections[0].get_paths()[0].vertices[:, 1]
    points = found().uniformity.points
    assert edges.min() == pytest.approx((low - points).min())
    assert edges.max() == pytest.approx((high - points).max())


def test_coverage_is_that_of_the_ranks():
    ax = coverage_curve(found())
    wide, fine = line_of(ax, "1 of 2 latents off"), line_of(ax, "not seen to be off")
    np.testing.assert_allclose(fine.get_ydata(), fine.get_xdata(), atol=1e-12)
    np.testing.assert_allclose(wide.get_ydata(), np.minimum(2 * wide.get_xdata(), 1), atol=1e-12)


def test_expected_coverage_is_the_distribution_of_the_distance_ranks():
    ax = expected_coverage(found())
    line = ax.lines[-1]
    below = np.clip((20 * line.get_xdata() - 5) / 10, 0, 1)
    np.testing.assert_allclose(line.get_ydata(), below, atol=1e-12)
    assert "p = 0.0001" in ax.get_title(loc="left")


@pytest.mark.parametrize("plot", [rank_distribution, coverage_curve, expected_coverage])
def test_given_axes_are_used_and_nothing_is_shown(plot):
    given = Figure().add_subplot()
    assert plot(found(), ax=given) is given
    assert plt.get_fignums() == []
