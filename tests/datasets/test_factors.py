"""A grid of factors: its order, its draws, its sub-grids."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from pyro_bvae.datasets import FactorDataset


class Numbers(FactorDataset):
    """The image of index i is one pixel of value i / (n − 1)."""

    def __init__(self, sizes=(3, 4, 5), names=("a", "b", "c"), **kwargs):
        super().__init__(names, sizes, (1, 1, 1), **kwargs)

    def images(self, indices):
        return self._checked(indices).double()[:, None, None, None] / max(len(self) - 1, 1)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_index_inverts_factors_and_the_last_factor_varies_fastest(sizes):
    data = Numbers(sizes, [f"f{k}" for k in range(len(sizes))])
    every = torch.arange(len(data))
    rows = data.factors(every)
    assert len(data) == math.prod(sizes)
    assert torch.equal(rows, torch.cartesian_prod(*map(torch.arange, sizes)).view(len(data), -1))
    assert torch.equal(data.index(rows), every)


def test_a_number_gives_an_image_and_a_tensor_gives_a_batch():
    data = Numbers()
    assert data[7].item() == pytest.approx(7 / 59)
    assert data[-1].item() == 1
    assert torch.equal(data[torch.tensor([7, 0])], torch.stack([data[7], data[0]]))
    assert torch.equal(torch.cat(list(DataLoader(data, batch_size=7))), data[torch.arange(60)])
    assert data[torch.tensor([], dtype=torch.long)].shape == (0, 1, 1, 1)


def test_samples_are_uniform_and_belong_to_their_factors(generator):
    data = Numbers()
    rows, images = data.sample(60_000, generator=generator)
    assert torch.equal(images, data[data.index(rows)])
    counts = torch.bincount(data.index(rows), minlength=60).double()
    # chi-squared with 59 degrees of freedom: mean 59, deviation √118 = 10.9; five deviations.
    assert ((counts - 1000).square() / 1000).sum() < 59 + 5 * math.sqrt(118)


def test_the_same_seed_gives_the_same_sample():
    first, second = (
        Numbers().sample(20, generator=torch.Generator().manual_seed(3)).factors for _ in range(2)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("factor", ["b", 1])
def test_a_fixed_factor_is_shared_and_the_others_vary(generator, factor):
    data = Numbers()
    rows, images = data.sample_fixing(factor, 500, generator=generator, value=2)
    assert rows[:, 1].unique().tolist() == [2]
    assert rows[:, 0].unique().tolist() == [0, 1, 2]
    assert rows[:, 2].unique().tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(images, data[data.index(rows)])


def test_a_fixed_class_is_drawn_uniformly_when_not_given(generator):
    data = Numbers()
    values = [data.sample_fixing("b", 1, generator=generator).factors[0, 1] for _ in range(4000)]
    counts = torch.bincount(torch.stack(values), minlength=4).double()
    # chi-squared with 3 degrees of freedom: mean 3, deviation √6; five deviations.
    assert ((counts - 1000).square() / 1000).sum() < 3 + 5 * math.sqrt(6)


def test_a_factor_is_fixed_row_by_row(generator):
    data = Numbers()
    first = data.sample_factors(100, generator=generator)
    second = data.sample_factors(100, generator=generator, fixing={"c": first[:, 2]})
    assert torch.equal(first[:, 2], second[:, 2])
    assert not torch.equal(first[:, 0], second[:, 0])


@pytest.mark.parametrize("start", [27, torch.tensor([1, 1, 2])])
def test_an_intervention_moves_one_factor_through_its_classes(start):
    data = Numbers()
    expected = data.index(torch.tensor([[1, b, 2] for b in range(4)]))
    assert torch.equal(data.intervene(start, "b"), data[expected])


def test_a_subset_is_the_sub_grid():
    values = [[0.5, 1, 1.5], [1, 2, 3, 4], [0, 1, 2, 3, 4]]
    data = Numbers(factor_values=values)
    part = data.subset(a=[2], b=[3, 0])
    assert part.factor_names == ("a", "b", "c")
    assert part.factor_sizes == (1, 2, 5)
    assert [v.tolist() for v in part.factor_values] == [[1.5], [4, 1], values[2]]
    expected = torch.tensor([[2, b, c] for b in (3, 0) for c in range(5)])
    assert torch.equal(part[torch.arange(10)], data[data.index(expected)])
    nested = part.subset(b=[1])
    assert torch.equal(nested[torch.arange(5)], part[torch.arange(5, 10)])


@pytest.mark.parametrize(
    ("action", "complaint"),
    [
        (lambda d, g: d.position("z"), r"factor: expected one of \('a', 'b', 'c'\).*'z'"),
        (lambda d, g: d.position(3), "position below 3, got 3"),
        (lambda d, g: d.index(torch.tensor([[0, 4, 0]])), "factors: expected classes"),
        (lambda d, g: d.index(torch.tensor([[0, -1, 0]])), "factors: expected classes"),
        (lambda d, g: d.index(torch.tensor([[0, 1]])), r"factors: expected integers \[n, 3\]"),
        (lambda d, g: d.index(torch.zeros(1, 3)), "factors: expected integers"),
        (lambda d, g: d[torch.zeros(2)], "indices: expected a 1-d tensor of integers"),
        (lambda d, g: d[torch.tensor([True])], "indices: expected a 1-d tensor of integers"),
        (lambda d, g: d[torch.zeros(1, 1).long()], "indices: expected a 1-d tensor"),
        (lambda d, g: d.sample_fixing("b", 2, value=4, generator=g), "factor 'b': expected an int"),
        (lambda d, g: d.sample_fixing("b", 2, value=-1, generator=g), "factor 'b': expected an"),
        (lambda d, g: d.sample_fixing("b", 2, value=0.5, generator=g), "factor 'b': expected an"),
        (
            lambda d, g: d.sample_factors(3, generator=g, fixing={"b": torch.tensor([0, 1])}),
            "or 3 of them",
        ),
        (lambda d, g: d.subset(z=[0]), "factor: expected one of"),
        (lambda d, g: d.subset(b=[]), "b: expected a list of distinct classes"),
        (lambda d, g: d.subset(b=[4]), "b: expected a list of distinct classes from 0 to 3"),
        (lambda d, g: d.subset(b=[0, 0]), "b: expected a list of distinct classes"),
        (lambda d, g: d.subset(b=2), "b: expected a list of distinct classes"),
        (lambda d, g: Numbers(names=("a", "a", "c")), "expected one distinct name"),
        (lambda d, g: Numbers((3, 0, 5)), "one size >= 1"),
        (lambda d, g: Numbers((), ()), "one size >= 1"),
        (lambda d, g: Numbers(factor_values=[[0], [0], [0]]), "factor_values: expected lengths"),
    ],
)
def test_bad_input_is_refused_by_name(generator, action, complaint):
    with pytest.raises(ValueError, match=complaint):
        action(Numbers(), generator)


@pytest.mark.parametrize("index", [60, -61, torch.tensor([0, 60]), torch.tensor([-1])])
def test_an_index_outside_the_grid_is_refused(index):
    with pytest.raises(IndexError, match="expected"):
        Numbers()[index]
