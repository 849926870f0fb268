"""Tables of factors: what is missing stays missing, what is there is drawn uniformly."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_bvae.datasets import FactorDataset, FactorTable, Rows, as_source

ROWS = torch.tensor([[2, 0], [0, 1], [0, 0], [2, 1], [0, 1]])  # no class 1 of a; (0, 1) twice


def pixels(n):
    """Images of one pixel that says which row it is."""
    return torch.arange(n, dtype=torch.float64).view(n, 1, 1, 1) / n


def table(rows=ROWS, **kwargs):
    return FactorTable(pixels(len(rows)), rows, **kwargs)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_a_table_is_its_images_and_rows():
    data = table(factor_names=("a", "b"))
    assert isinstance(data, FactorDataset)
    assert as_source(data) is data
    assert (len(data), data.factor_sizes, data.shape) == (5, (3, 2), (1, 1, 1))
    assert torch.equal(data.factors(torch.arange(5)), ROWS)
    assert torch.equal(data[torch.tensor([3, 0])], pixels(5)[[3, 0]])
    assert torch.equal(data[-1], pixels(5)[4])


@settings(deadline=None)
@given(st.data())
def test_every_row_is_found_and_every_other_row_is_missing(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    row = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    rows = data.draw(st.lists(row, min_size=1, max_size=12))
    wanted = data.draw(st.lists(row, min_size=1, max_size=12))
    found = Rows(torch.tensor(rows), sizes).find(torch.tensor(wanted))
    assert found.tolist() == [rows.index(w) if w in rows else -1 for w in wanted]


def test_a_whole_grid_in_a_table_answers_as_the_grid_does(generator):
    rows = torch.cartesian_prod(torch.arange(3), torch.arange(4), torch.arange(2))
    data = table(rows)

    class Grid(FactorDataset):
        def images(self, indices):
            return pixels(24)[indices]

    grid = Grid(data.factor_names, data.factor_sizes, (1, 1, 1))
    every = torch.arange(24)
    assert torch.equal(data.index(rows), grid.index(rows))
    assert torch.equal(data[every], grid[every])
    for start in (7, torch.tensor([1, 3, 0])):
        assert torch.equal(data.intervene(start, 1), grid.intervene(start, 1))
    part, sub_grid = data.subset(factor_1=[1, 2]), grid.subset(factor_1=[1, 2])
    assert part.factor_sizes == sub_grid.factor_sizes
    assert torch.equal(part[torch.arange(12)], sub_grid[torch.arange(12)])


def test_draws_are_uniform_over_the_images(generator):
    data = table()
    counts = torch.bincount(data.sample_indices(50_000, generator=generator)).double()
    # chi-squared with 4 degrees of freedom: mean 4, deviation √8; five deviations.
    assert ((counts - 10_000).square() / 10_000).sum() < 4 + 5 * math.sqrt(8)


def test_fixing_is_conditional_and_uniform(generator):
    data = table()
    indices = data.sample_indices(30_000, generator=generator, fixing={0: 0})
    counts = torch.bincount(indices, minlength=5).double()
    assert counts[[0, 3]].tolist() == [0, 0]
    # chi-squared with 2 degrees of freedom: mean 2, deviation 2; five deviations.
    assert ((counts[[1, 2, 4]] - 10_000).square() / 10_000).sum() < 2 + 5 * 2


def test_images_belong_to_their_factors(generator):
    data = table()
    for sample in (
        data.sample(50, generator=generator),
        data.sample_fixing("factor_1", 50, generator=generator, value=1),
    ):
        places = (sample.images.view(-1) * 5).round().long()
        assert torch.equal(sample.factors, ROWS[places])


def test_factors_are_fixed_row_by_row(generator):
    data = table()
    first = data.sample_factors(200, generator=generator)
    both = {0: first[:, 0], "factor_1": first[:, 1]}
    assert torch.equal(data.sample_factors(200, generator=generator, fixing=both), first)
    again = data.sample_factors(200, generator=generator, fixing={1: first[:, 1]})
    assert torch.equal(again[:, 1], first[:, 1])
    assert not torch.equal(again[:, 0], first[:, 0])


def test_a_class_without_images_is_never_drawn_and_refused_when_asked_for(generator):
    data = table()
    shared = [data.sample_fixing(0, 1, generator=generator).factors[0, 0] for _ in range(2000)]
    counts = torch.bincount(torch.stack(shared), minlength=3)
    assert counts[1] == 0
    assert abs(counts[0] - 1000) < 5 * math.sqrt(500)  # binomial of 2000 halves, five deviations
    with pytest.raises(ValueError, match=r"fixing: expected classes that an image has, got \[1\]"):
        data.sample_fixing(0, 3, generator=generator, value=1)


def test_an_intervention_gives_what_exists():
    data = table()
    assert data.intervention(0, 0).tolist() == [2, 0]  # class 1 is missing
    assert data.intervention(torch.tensor([1, 1]), 0).tolist() == [1, 3]
    assert data.intervention(4, 1).tolist() == [2, 4]  # the start itself, not its twin
    assert torch.equal(data.intervene(4, 1), pixels(5)[[2, 4]])
    with pytest.raises(ValueError, match=r"start: no image has \[1, 0\] with any class of 1"):
        data.intervention(torch.tensor([1, 0]), 1)


def test_the_first_of_equal_rows_is_found_and_a_missing_one_refused():
    data = table()
    assert data.index(torch.tensor([[0, 1], [2, 0]])).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"that an image has, got \[1, 1\], which is missing"):
        data.index(torch.tensor([[0, 1], [1, 1]]))


def test_a_subset_keeps_and_renumbers_classes():
    data = table(factor_values=[[0.0, 0.5, 1.0], [10, 20]])
    part = data.subset(factor_0=[2, 1], factor_1=[1, 0])
    assert [v.tolist() for v in part.factor_values] == [[1.0, 0.5], [20, 10]]
    assert part.factors(torch.arange(2)).tolist() == [[0, 1], [0, 0]]
    assert part.parent_indices(torch.arange(2)).tolist() == [0, 3]
    assert torch.equal(part[torch.arange(2)], pixels(5)[[0, 3]])
    with pytest.raises(ValueError, match="expected at least one row"):
        data.subset(factor_0=[1])


def test_tables_of_arrays_and_truth_values(tmp_path):
    images = np.arange(20, dtype=np.uint8).reshape(5, 1, 2, 2)
    np.save(tmp_path / "images.npy", images)
    rows = ROWS.numpy().astype(np.uint8)
    data = FactorTable(np.load(tmp_path / "images.npy", mmap_mode="r"), rows)
    assert torch.allclose(data[torch.arange(5)] * 255, torch.from_numpy(images).double())
    assert table(ROWS > 0).factor_sizes == (2, 2)


def test_tables_are_copied_and_pickled_whole(generator):
    data = table()
    data.sample_fixing(0, 3, generator=generator)
    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert torch.equal(other.factors(torch.arange(5)), ROWS)
        assert torch.equal(other[torch.arange(5)], data[torch.arange(5)])


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: table(ROWS.double()), r"expected integers \[5, factors\].*return_inverse=True"),
        (lambda: FactorTable(pixels(4), ROWS), r"expected integers \[4, factors\]"),
        (lambda: table(ROWS[:, 0]), r"expected integers \[5, factors\]"),
        (lambda: table(ROWS - 1), r"classes from 0 to below \(2, 1\), got \[-1, -1\]"),
        (lambda: table(ROWS, factor_values=[[0, 1], [0, 1]]), r"classes from 0 to below \(2, 2\)"),
        (lambda: table(ROWS, factor_values=[[0, 1, 2]]), r"factors: expected integers \[n, 1\]"),
        (lambda: table(ROWS, factor_names=["a", "a"]), "one distinct name"),
        (lambda: table(torch.ones(2, 64).long()), r"fewer than 2\^63 combinations"),
        (lambda: FactorTable((pixels(5), ROWS), ROWS), "images: expected images alone"),
    ],
)
def test_bad_tables_are_refused(build, complaint):
    with pytest.raises(ValueError, match=complaint):
        build()


def test_combinations_belong_to_their_sizes():
    class Wrong(FactorDataset):
        def images(self, indices):
            return pixels(5)[indices]

    with pytest.raises(ValueError, match=r"combinations: expected sizes \(3, 3\), got \(3, 2\)"):
        Wrong(("a", "b"), (3, 3), (1, 1, 1), combinations=Rows(ROWS, (3, 2)))
