"""Whatever users have becomes one source of batches, and bad data stops at the door."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pandas import DataFrame
from scipy.sparse import csr_array
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from pyro_bvae.datasets import LabelledImages, Sprites, as_source

SOME = torch.tensor([3, 0, 3])


class Items(Dataset):
    """A map-style data set of a list of items."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(1)

    def __len__(self):
        return 1


class Own:
    """A user's own source, which gives whatever `batch` makes of the indices."""

    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return 4

    def __getitem__(self, indices):
        return self.batch(indices)


def test_a_tensor_is_its_own_source():
    for dtype in (torch.float32, torch.float64, torch.long):
        tensor = torch.arange(8).view(4, 2).to(dtype)
        assert as_source(tensor) is tensor


@settings(deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.int8, ">f4", "?"]),
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=4, max_side=5),
        elements=st.integers(0, 1),
    )
)
def test_arrays_become_floats_of_the_default_dtype_unscaled(array):
    batch = as_source(array)[SOME]
    assert batch.dtype == torch.get_default_dtype()
    assert np.array_equal(batch.numpy(), array[[3, 0, 3]])


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_bytes_are_pixels(kind):
    pixels = np.arange(0, 256, 17, dtype=np.uint8).reshape(4, 4)
    batch = as_source(kind(pixels))[SOME]
    assert torch.allclose(batch, torch.arange(16).view(4, 4)[SOME] / 15)


def test_a_memory_map_is_read_by_rows_and_checked_as_it_is_read(tmp_path):
    file = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", "float32", (4, 2))
    file[:] = 1
    file[2, 1] = np.nan
    file.flush()
    source = as_source(np.load(tmp_path / "big.npy", mmap_mode="r"))
    assert torch.equal(source[SOME], torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"got NaN or infinity .* at index 2"):
        source[torch.tensor([1, 2])]


def test_an_array_is_never_copied_whole():
    array = np.zeros((4, 2))
    source = as_source(array)
    array[3] = 5
    assert source[torch.tensor([3])].tolist() == [[5, 5]]


def test_a_tuple_gives_tuples():
    x, labels = torch.randn(4, 2), np.arange(4)
    batch = as_source((x, labels))[SOME]
    assert isinstance(batch, tuple)
    assert torch.equal(batch[0], x[SOME])
    assert batch[1].tolist() == [3, 0, 3]
    pairs = as_source(LabelledImages(x, torch.arange(4)))[SOME]
    assert pairs[1].dtype == torch.long


@pytest.mark.parametrize("item", [lambda x: x, lambda x: (x, 7), lambda x: x.numpy()])
def test_items_of_a_dataset_are_stacked_without_their_targets(item):
    x = torch.randn(4, 2)
    assert torch.equal(as_source(Items([item(row) for row in x]))[SOME], x[SOME])
    assert torch.equal(as_source(TensorDataset(x, torch.arange(4)))[SOME], x[SOME])


def test_sources_stay_what_they_are():
    for source in (Sprites(), Own(lambda i: torch.zeros(len(i), 3)), as_source(np.ones((4, 1)))):
        assert as_source(source) is source


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (torch.zeros(()), "first dimension that counts the examples"),
        (torch.zeros(2, dtype=torch.complex64), "real numbers"),
        (np.array([{}, {}], dtype=object), "real numbers .*object"),
        (np.array(["a", "b"]), "real numbers"),
        (torch.eye(2).to_sparse(), r"dense .* got torch\.sparse_coo torch\.float32 .*to_dense"),
        ((torch.eye(2).to_sparse(),), "dense"),
        (torch.ones(2, 2, device="meta"), "got meta"),
        (np.ma.masked_array(np.ones(2), [True, False]), "dense .* got masked float64"),
        (DataFrame({"a": [1.0]}), r"got DataFrame; pass its to_numpy\(\)"),
        (csr_array(np.eye(2)), r"got csr_array; pass its toarray\(\)"),
        (Items([torch.eye(2).to_sparse()]), r"dense real .*sparse_coo .* at 0"),
        (Items([torch.ones(2, dtype=torch.complex64)]), r"dense real .*complex64 .* at 0"),
        (Own(lambda i: torch.ones(len(i), 2).to_sparse()), "dense real .* Own gave torch.sparse"),
        ([torch.zeros(2)], "got list. Stack a list"),
        ((torch.zeros(2) for _ in range(3)), "got generator"),
        ("data", "got str"),
        (None, "got NoneType"),
        (Endless(), "got Endless"),
        (Items(["image"]), "items that are dense real tensors .* got str at 0"),
        (Own(lambda i: [1]), r"data\[indices\] to give a dense real tensor .* Own gave list"),
        (Own(lambda i: torch.zeros(4, 2)), r"data\[indices\] to give a dense real tensor"),
        (
            Own(lambda i: (torch.zeros(1), torch.zeros(()))),
            r"data\[indices\] to give a dense real tensor",
        ),
    ],
)
def test_data_of_another_kind_is_refused(data, complaint):
    with pytest.raises(TypeError, match=complaint):
        as_source(data)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_and_nested_tensors_are_refused():
    quantised = torch.quantize_per_tensor(torch.eye(2, dtype=torch.float32), 0.1, 0, torch.quint8)
    nested = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged)
    with pytest.raises(TypeError, match=r"got torch\.quint8 .*dequantize"):
        as_source(quantised)
    with pytest.raises(TypeError, match="got a nested tensor"):
        as_source(nested)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (torch.zeros(0, 3), "at least one example"),
        (np.zeros((0, 3)), "at least one example"),
        (Items([]), "at least one example"),
        ((), r"got lengths \[\]"),
        ((torch.zeros(3), torch.zeros(2)), r"one length, got lengths \[3, 2\]"),
        (torch.tensor([[0.0], [float("inf")]]), "at index 1. Remove or impute"),
        (np.array([0.0, 0.0, np.nan]), "at index 2"),
        (np.full((5000, 1), 1e300), "at index 0"),
        ((torch.zeros(2), torch.tensor([0.0, float("nan")])), "at index 1"),
        (Items([torch.tensor([float("nan")])]), "at index 0"),
    ],
)
def test_bad_contents_are_refused(data, complaint):
    torch.set_default_dtype(torch.float32)
    with pytest.raises(ValueError, match=complaint):
        as_source(data)


def test_bad_items_are_refused_when_they_are_read():
    items = Items([torch.zeros(2), torch.zeros(3), torch.tensor([0.0, float("nan")])])
    with pytest.raises(ValueError, match=r"one shape, got \[2\] at 0 and \[3\] at 1"):
        as_source(items)[torch.tensor([0, 1])]
    with pytest.raises(ValueError, match="at index 2"):
        as_source(items)[torch.tensor([0, 2])]


def test_a_data_set_may_have_methods_that_tables_have():
    class Table(Items):
        def to_numpy(self):
            raise AssertionError("nobody asked for it")

    assert torch.equal(as_source(Table(list(torch.eye(4))))[SOME], torch.eye(4)[SOME])
