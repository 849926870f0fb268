"""Scores are drawn where they are, with their intervals and ceilings."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from pyro_bvae.plots import metric_scores

ROWS = [("MIG", 0.2, 0.15, 0.3, 0.9, "about"), ("IRS", 0.6, None, None, 1.0)]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_scores_intervals_and_ceilings_are_where_they_belong():
    ax = metric_scores(ROWS, title="One model")
    lines = {line.get_label(): line for line in ax.lines}
    dots, ceilings = lines["score, 95 % interval"], lines["perfect code"]
    assert dots.get_xdata().tolist() == [0.2, 0.6]
    assert ceilings.get_xdata().tolist() == [0.9, 1.0]
    intervals = [line for line in ax.lines if line not in (dots, ceilings)]
    assert [list(line.get_xdata()) for line in intervals] == [[0.15, 0.3]]
    assert list(intervals[0].get_ydata()) == [0, 0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["MIG", "IRS"]
    assert [text.get_text() for text in ax.texts] == ["0.20", "0.60"]
    assert ax.yaxis_inverted()
    assert ax.get_title(loc="left") == "One model"


def test_scores_beyond_one_are_in_the_picture_and_given_axes_are_used():
    given = Figure().add_subplot()
    assert metric_scores([("nats", 2.5, None, None, 0.0)], ax=given) is given
    assert given.get_xlim()[1] >= 2.5
    assert plt.get_fignums() == []


@pytest.mark.parametrize("rows", [[], [("MIG", float("nan"), None, None, 1.0)]])
def test_scores_that_cannot_be_drawn_are_refused(rows):
    with pytest.raises(ValueError, match="rows: expected at least one row, of finite"):
        metric_scores(rows)
