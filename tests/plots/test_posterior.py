"""Pictures of the posterior show the numbers they were given and refuse what they cannot show."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_bvae.plots.posterior import evidence_bounds, evidence_gaps, pareto_shapes, worst_data
from pyro_bvae.plots.reference import distance_to_reference, guide_and_reference

GAPS = {"amortization": (0.5, 0.01), "approximation": (0.2, 0.02)}


@pytest.fixture(autouse=True)
def nothing_left():
    """No picture changes matplotlib's settings."""
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


def points(ax, name):
    """The heights of the points with a label."""
    lines = [line for line in ax.lines if line.get_label() == name]
    return [] if not lines else lines[0].get_ydata().tolist()


def test_every_shape_is_in_its_zone_with_the_limits():
    ax = pareto_shapes([0.2, 0.9, 0.6, np.nan, 0.71, 0.5, -1.0])
    assert points(ax, "good") == [0.2, -1.0]
    assert points(ax, "usable by weights") == [0.6, 0.5]
    assert points(ax, "not to be trusted") == [0.9, 0.71]
    limits = {line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"}
    assert limits == {0.5, 0.7}
    assert ax.get_title(loc="left") == "Pareto k̂ of 7 data: 2 above 0.7, 1 exact"


def test_only_exact_data_leave_an_empty_picture():
    ax = pareto_shapes([np.nan, np.nan])
    assert "2 exact" in ax.get_title(loc="left")
    assert ax.get_legend() is None


@settings(deadline=None, max_examples=15)
@given(st.lists(st.floats(-3, 5) | st.just(float("nan")), min_size=1, max_size=40))
def test_all_finite_shapes_are_drawn_once_and_fall(k):
    ax = pareto_shapes(k)
    zones = ("not to be trusted", "usable by weights", "good")
    drawn = [value for zone in zones for value in points(ax, zone)]
    assert drawn == sorted((value for value in k if not np.isnan(value)), reverse=True)
    plt.close(ax.figure)


def test_the_worst_images_come_first_with_their_numbers():
    k = np.array([0.1, 0.9, np.nan, 0.5])
    images = np.broadcast_to((np.arange(4) / 4)[:, None, None, None], (4, 1, 8, 8))
    ax = worst_data(images, k, columns=2)
    assert [text.get_text() for text in ax.texts] == ["0.90", "0.50", "0.10", "exact"]
    mosaic = np.asarray(ax.images[0].get_array())
    tiles = [mosaic[top, left, 0] for top in (4, 13) for left in (4, 13)]
    assert tiles == [0.25, 0.75, 0.0, 0.5]
    assert len(worst_data(images, k, count=2).texts) == 2


def test_gaps_follow_each_other_and_add_up():
    ax = evidence_gaps(GAPS, target="p(z|x)")
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == pytest.approx([0.5, 0.2, 0.7])
    assert ax.patches[1].get_x() == 0.5
    assert [text.get_text().strip() for text in ax.texts] == [
        "0.500 ± 0.010",
        "0.200 ± 0.020",
        "0.700 ± 0.022",
    ]
    assert "p(z|x)" in ax.get_title(loc="left")


def test_gaps_of_nothing_are_drawn_as_nothing():
    ax = evidence_gaps({"amortization": (-1e-7, 1e-7), "approximation": (1e-7, 1e-7)})
    low, high = ax.get_xlim()
    assert low <= -0.002 < 0.002 <= high
    assert ax.texts[0].get_text() == " 0.000 ± 0.000"


def test_bounds_are_in_the_order_of_the_lower_one():
    ax = evidence_bounds([-1.0, -3.0, -2.0], [-0.5, -2.9, -2.0], exact=[-0.7, -2.95, -2.0])
    assert points(ax, "from below") == [-3.0, -2.0, -1.0]
    assert points(ax, "from above") == [-2.9, -2.0, -0.5]
    assert points(ax, "exact") == [-2.95, -2.0, -0.7]
    assert "0.2 nats apart" in ax.get_title(loc="left")


def test_histograms_are_of_the_asked_datum_and_latent():
    rng = np.random.default_rng(0)
    centres = 10.0 * np.arange(6).reshape(3, 2)
    guide = rng.normal(size=(50, 3, 2)) + centres
    chains = rng.normal(size=(2, 40, 3, 2)) + centres
    axes = guide_and_reference(guide, chains, data=[2, 0], names=["a", "b"])
    assert axes.shape == (2, 2)
    for row, datum in enumerate((2, 0)):
        for column in range(2):
            low, high = axes[row, column].get_xlim()
            assert low < centres[datum, column] < high
            assert high - low < 10
    assert [ax.get_title(loc="left") for ax in axes[0]] == ["a", "b"]
    assert axes[0, 0].get_ylabel() == "datum 2"


def test_distances_are_in_deviations_of_the_chains():
    ax = distance_to_reference([[0.1, 1.0], [0.3, 0.0]], [[1.0, 0.5], [3.0, 1.0]], names=["a", "b"])
    assert [text.get_text() for text in ax.texts] == ["0.10", "2.00", "0.10", "0.00"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b"]


def test_given_axes_are_used():
    figure, axes = plt.subplots(1, 4)
    drawn = (
        pareto_shapes([0.1], ax=axes[0]),
        evidence_gaps(GAPS, ax=axes[1]),
        evidence_bounds([0.0], [1.0], ax=axes[2]),
        distance_to_reference([[0.1]], [[1.0]], ax=axes[3]),
    )
    assert all(ax is given_ax for ax, given_ax in zip(drawn, axes, strict=True))
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: pareto_shapes([]), r"k: expected shape \[data\]"),
        (lambda: pareto_shapes([[0.1]]), r"k: expected shape \[data\]"),
        (lambda: worst_data(np.zeros((3, 1, 4, 4)), [0.1]), "k: expected one for each of 3"),
        (lambda: evidence_gaps({"amortization": (0.1, 0.0)}), "finite mean and error of 'approx"),
        (lambda: evidence_bounds([0.0], [1.0, 2.0]), r"upper: expected shape \[1 data\]"),
        (lambda: evidence_bounds([np.nan], [1.0]), "lower: expected finite numbers"),
        (
            lambda: guide_and_reference(np.zeros((5, 2, 1)), np.zeros((2, 5, 3, 1))),
            "reference: expected",
        ),
        (lambda: distance_to_reference([[0.1]], [[0.0]]), "scale: expected positive numbers"),
    ],
)
def test_refuses(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
