"""Every picture shows the numbers it was given, where they belong, and leaves nothing behind."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from pyro_bvae.plots import (
    are_images,
    factor_matrix,
    history_curve,
    history_quantities,
    image_grid,
    kl_per_latent,
    reconstructions,
    training_history,
    traversals,
)

KL = np.array([0.002, 2.5, 0.3, 0.0])


@pytest.fixture(autouse=True)
def nothing_left():
    """No picture changes matplotlib's settings."""
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


def history(rows=20, **more):
    falling = 100.0 / np.arange(1, rows + 1)
    values = {"step": 10 * np.arange(1, rows + 1), "loss": falling, "beta": np.full(rows, 4.0)}
    return values | {"reconstruction": falling - 1, "kl": np.linspace(0, 1, rows)} | more


def tick_names(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def tile(ax, row, column, *, size=8, gap=1):
    """The tile at a place of the mosaic."""
    top, left = row * (size + gap), column * (size + gap)
    return np.asarray(ax.images[0].get_array())[top : top + size, left : left + size]


def flat_images(values, channels=1):
    """Images of one grey level each, `[*values.shape, channels, 8, 8]`."""
    values = torch.as_tensor(values)
    return values[..., None, None, None].expand(*values.shape, channels, 8, 8)


def test_bars_are_the_kl_in_decreasing_order_and_inactive_ones_differ():
    ax = kl_per_latent(KL)
    bars = sorted(ax.patches, key=lambda bar: bar.get_x())
    assert [bar.get_height() for bar in bars] == [2.5, 0.3, 0.002, 0.0]
    assert tick_names(ax.xaxis) == ["z1", "z2", "z0", "z3"]
    assert len({bar.get_facecolor() for bar in bars[:2]}) == 1
    assert bars[1].get_facecolor() != bars[2].get_facecolor() == bars[3].get_facecolor()
    assert ax.get_ylabel() == "nats per datum"
    assert "2 of 4 active" in ax.get_title(loc="left")


@settings(deadline=None, max_examples=15)
@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=60))
def test_any_number_of_latents_has_as_many_falling_bars(kl):
    ax = kl_per_latent(kl)
    heights = [bar.get_height() for bar in sorted(ax.patches, key=lambda bar: bar.get_x())]
    assert heights == sorted(kl, reverse=True)
    plt.close(ax.figure)


def test_history_has_a_panel_per_quantity_with_its_numbers_and_units():
    given_history = history()
    axes = training_history(given_history)
    assert len(axes) == len(axes[0].figure.axes) == 3
    for ax, name in zip(axes, ("loss", "reconstruction", "kl"), strict=True):
        assert ax.lines[-1].get_xdata().tolist() == given_history["step"].tolist()
        assert ax.lines[-1].get_ydata().tolist() == given_history[name].tolist()
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "nats per datum")


def test_history_adds_validation_and_a_beta_that_changed():
    more = history(elbo=np.linspace(-9, -5, 20), validation_elbo=np.linspace(-9, -6, 20))
    more["beta"] = np.linspace(0, 4, 20)
    assert history_quantities(more) == ["loss", "reconstruction", "kl", "elbo", "beta"]
    axes = training_history(more)
    assert [line.get_ydata()[-1] for line in axes[3].lines] == [-6, -5]
    assert [text.get_text() for text in axes[3].get_legend().get_texts()] == [
        "validation",
        "training",
    ]
    assert axes[4].get_ylabel() == ""


def test_kl_over_steps_shows_each_latent_named_once():
    ax = history_curve(history(**{"kl_per_latent.z": np.ones((20, 4))}), "kl")
    assert len(ax.lines) == 5
    assert len(ax.get_legend().get_texts()) == 2


def test_a_high_beginning_is_written_instead_of_drawn():
    ax = history_curve(history(rows=100), "loss")
    assert ax.get_ylim()[1] < 20
    assert [text.get_text() for text in ax.texts] == ["begins at 100"]
    straight = history_curve(history(rows=100), "kl")
    assert not straight.texts
    assert straight.get_ylim()[0] <= 0


def test_history_read_from_json_and_of_one_row_is_drawn():
    one = {name: values.tolist() for name, values in history(rows=1).items()}
    assert history_curve(one, "loss").lines[0].get_marker() == "o"


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_puts_images_row_by_row(channels):
    levels = torch.arange(5) / 4
    ax = image_grid(flat_images(levels, channels), columns=2, title="Levels")
    shown = [tile(ax, *divmod(index, 2)) for index in range(5)]
    for level, pixels in zip(levels, shown, strict=True):
        np.testing.assert_array_equal(pixels, np.full((8, 8, 3), float(level)))
    assert ax.get_title(loc="left") == "Levels"


def test_grid_clips_and_keeps_colours():
    image = torch.tensor([2.0, -1.0, 0.5]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert tile(image_grid(image), 0, 0)[3, 3].tolist() == [1.0, 0.0, 0.5]


def test_reconstructions_stand_below_their_originals():
    originals = torch.arange(5) / 10
    ax = reconstructions(flat_images(originals), flat_images(originals + 0.5), columns=3)
    for index, level in enumerate(originals):
        block, column = divmod(index, 3)
        assert tile(ax, 2 * block, column)[0, 0, 0] == float(level)
        assert tile(ax, 2 * block + 1, column)[0, 0, 0] == float(level + 0.5)
    assert tick_names(ax.yaxis) == ["original", "decoded"] * 2


def test_traversal_rows_are_in_order_of_kl_and_labelled_with_it():
    images = flat_images(torch.arange(4)[:, None] / 10 + torch.tensor([0.0, 0.5]))
    ax = traversals(images, [-3, 3], KL)
    for row, latent in enumerate([1, 2, 0, 3]):
        assert tile(ax, row, 0)[0, 0, 0] == latent / 10
        assert tile(ax, row, 1)[0, 0, 0] == latent / 10 + 0.5
    assert tick_names(ax.yaxis) == ["z1  2.50", "z2  0.30", "z0  0.00", "z3  0.00"]
    assert tick_names(ax.xaxis) == ["−3", "3"]
    assert tick_names(traversals(images, [-3, 3], KL, rows=2).yaxis) == ["z1  2.50", "z2  0.30"]


def test_factor_matrix_writes_every_number_and_whitens_inactive_latents():
    values = np.arange(8).reshape(4, 2) / 10
    ax = factor_matrix(values, ["scale", "x"], kl=KL)
    cells = {text.get_position(): text.get_text() for text in ax.texts}
    for row, latent in enumerate([1, 2, 0, 3]):
        for column in range(2):
            assert cells[column, row] == f"{values[latent, column]:.2f}"
    assert tick_names(ax.xaxis) == ["scale", "x"]
    colours = np.asarray(ax.images[0].get_array())
    assert (colours[2:] == 1).all()
    assert (colours[:2, :, :3] < 1).any(-1).all()
    assert tick_names(factor_matrix(values, ["scale", "x"]).yaxis) == ["z0", "z1", "z2", "z3"]


def test_given_axes_are_drawn_into_and_no_figure_is_made():
    pictures = [
        lambda ax: kl_per_latent(KL, ax=ax),
        lambda ax: history_curve(history(), "loss", ax=ax),
        lambda ax: image_grid(flat_images([0.5]), ax=ax),
        lambda ax: reconstructions(flat_images([0.5]), flat_images([0.5]), ax=ax),
        lambda ax: traversals(flat_images([[0.5]]), [0.0], [1.0], ax=ax),
        lambda ax: factor_matrix([[0.5]], ["x"], ax=ax),
    ]
    for picture in pictures:
        ax = Figure().add_subplot()
        assert picture(ax) is ax
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (lambda: kl_per_latent([]), r"kl: expected finite nats of shape \[latents\]"),
        (lambda: kl_per_latent([1.0, np.nan]), "NaN"),
        (lambda: history_curve({"step": [1]}, "loss"), "history: expected 'loss'"),
        (lambda: history_curve({"step": [], "loss": []}, "loss"), ">= 1 steps"),
        (lambda: history_curve({"step": [1], "loss": [1, 2]}, "loss"), r"got shape \[2\]"),
        (lambda: image_grid(torch.zeros(2, 2, 8, 8)), "images: expected shape"),
        (lambda: image_grid(torch.full((1, 1, 8, 8), torch.nan)), "images: expected finite"),
        (lambda: image_grid(torch.zeros(0, 1, 8, 8)), "images: expected shape"),
        (
            lambda: reconstructions(torch.zeros(2, 1, 8, 8), torch.zeros(1, 1, 8, 8)),
            "reconstructed: expected 2 images",
        ),
        (lambda: traversals(torch.zeros(2, 3, 1, 8, 8), [0.0], [1.0, 2.0]), "2 latents, 1 values"),
        (lambda: factor_matrix([[1.0]], ["a", "b"]), "2 factors"),
        (lambda: factor_matrix([[np.nan]], ["a"]), "finite"),
        (lambda: factor_matrix([[1.0]], ["a"], kl=[1.0, 2.0]), "kl: expected nats of 1 latents"),
    ],
)
def test_bad_input_is_named(picture, message):
    with pytest.raises(ValueError, match=message):
        picture()


def test_what_counts_as_an_image():
    assert are_images((3, 32, 32))
    assert not are_images((2, 32, 32))
    assert not are_images((32, 32))
