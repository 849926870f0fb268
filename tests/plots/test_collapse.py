"""Bars of what latents carry are as long as the numbers, in decreasing order of KL."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pyro_bvae.diagnostics import Bracketed
from pyro_bvae.plots import latent_information, latent_variances, surgery_bars


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def bracket(low, high):
    return Bracketed(torch.tensor(low), torch.tensor(high), torch.tensor(0.0))


FOUND = SimpleNamespace(
    names=("z[0]", "z[1]", "z[2]"),
    kl=torch.tensor([0.5, 0.0, 2.0]),
    active=torch.tensor([True, False, True]),
    information=bracket([0.3, 0.0, 1.5], [0.4, 0.1, 1.9]),
    mean_variance=torch.tensor([0.5, 0.0, 1.8]),
    posterior_variance=torch.tensor([0.4, 1.0, 0.2]),
    prior_variance=torch.tensor([1.0, 1.0, 2.0]),
)


def heights(container):
    return [bar.get_height() for bar in container]


def test_bars_are_kl_and_information_in_decreasing_order():
    ax = latent_information(FOUND)
    kl, least = ax.containers
    np.testing.assert_allclose(heights(kl), [2.0, 0.5, 0.0])
    np.testing.assert_allclose(heights(least), [1.5, 0.3, 0.0])
    spans = [path.vertices[:, 1].tolist() for path in ax.collections[0].get_paths()]
    np.testing.assert_allclose(spans, [[1.5, 1.9], [0.3, 0.4], [0.0, 0.1]])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["z[2]", "z[0]", "(z[1])"]
    assert "2 of 3 active" in ax.get_title(loc="left")


def test_variances_are_shares_of_the_priors_and_stack():
    means, widths = latent_variances(FOUND).containers
    np.testing.assert_allclose(heights(means), [0.9, 0.5, 0.0], rtol=1e-6)
    np.testing.assert_allclose(heights(widths), [0.1, 0.4, 1.0], rtol=1e-6)
    np.testing.assert_allclose([bar.get_y() for bar in widths], [0.9, 0.5, 0.0], rtol=1e-6)


def surgery(mi, tc, kl):
    return SimpleNamespace(
        mutual_information=bracket(mi - 0.1, mi + 0.1),
        total_correlation=bracket(tc - 0.1, tc + 0.1),
        dimension_wise_total=bracket(kl, kl),
    )


def test_parts_are_stacked_and_negative_ones_go_left():
    ax = surgery_bars({"one": surgery(2.0, 0.5, 1.0), "two": surgery(1.0, -0.5, 0.0)})
    information, correlation, off = ax.containers
    assert [bar.get_width() for bar in information] == pytest.approx([2.0, 1.0])
    assert [bar.get_x() for bar in correlation] == pytest.approx([2.0, 0.0])
    assert correlation[1].get_width() == pytest.approx(-0.5)
    assert [bar.get_x() for bar in off] == pytest.approx([2.5, 1.0])
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["one", "two"]
    assert ax.texts[1].get_text() == "MI 0.90…1.10, TC −0.60…−0.40, off prior 0.00…0.00"


def test_given_axes_are_used_and_an_empty_dictionary_is_refused():
    for plot, what in (
        (latent_information, FOUND),
        (latent_variances, FOUND),
        (surgery_bars, surgery(1.0, 0.0, 0.0)),
    ):
        given = Figure().add_subplot()
        assert plot(what, ax=given) is given
    assert plt.get_fignums() == []
    with pytest.raises(ValueError, match="found: expected at least one surgery"):
        surgery_bars({})
