"""What users have, as one thing: a source with `len(data)` and `data[indices]`."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pyro_bvae.datasets.factors import FactorDataset

Batch = Tensor | tuple[Tensor, ...]
_CHUNK = 4096


@runtime_checkable
class Source(Protocol):
    """Data: `len(data)` of them, `data[indices]` for the batch at a 1-d LongTensor.

    A batch is a tensor `[batch, *shape]`, or a tuple of tensors of equal length.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor, /) -> Batch: ...


def as_source(data: Any) -> Source:
    """Turn data of any usual kind into a :class:`Source`; a source is returned as it is.

    - A tensor: itself, checked to be finite. So its dtype stays.
    - A NumPy array or memory map: converted batch by batch to the default float dtype, never
      copied whole. A memory map is checked to be finite when it is read, an array at once.
    - `uint8` in either: pixels, divided by 255 as they are read. No other dtype is rescaled.
    - A tuple of these: batches are tuples.
    - A map-style PyTorch `Dataset`: its items are stacked. Of an item that is a tuple, such as
      (input, target), the first element is taken.
    - A :class:`FactorDataset`, or an object of your own that already gives batches.

    Raises:
        TypeError: data of another kind, without a length, of objects, complex, sparse, quantised
            or masked.
        ValueError: no data, unequal lengths, values that are not finite.

    Example:
        >>> source = as_source(np.array([[0, 51], [255, 255]], dtype=np.uint8))
        >>> source[torch.tensor([0])]
        tensor([[0.0000, 0.2000]])
    """
    return TupleSource(data) if isinstance(data, tuple) else _checked(_by_kind(data))


def _checked(source: Source) -> Source:
    if len(source) == 0:
        raise ValueError("data: expected at least one example, got none.")
    if isinstance(source, Tensor) or (isinstance(source, ArraySource) and source.in_memory):
        for part in torch.arange(len(source)).split(_CHUNK):
            _finite(source[part], part)
        return source
    first = source[torch.tensor([0])]
    parts = first if isinstance(first, tuple) else (first,)
    if not all(isinstance(p, Tensor) and _is_plain(p) and len(p) == 1 for p in parts):
        raise TypeError(
            "data: expected data[indices] to give a dense real tensor [batch, *shape], or a tuple, "
            f"for a 1-d LongTensor; a {type(source).__name__} gave {_kind(first)}."
        )
    return source


def _by_kind(data: Any) -> Source:
    if isinstance(data, Tensor | np.ndarray):
        if not _is_plain(data):
            raise TypeError(
                "data: expected dense real numbers with a first dimension that counts the "
                f"examples, got {_kind(data)}. Convert it (to_dense, dequantize, filled), or stack "
                "equal examples."
            )
        stays = isinstance(data, Tensor) and data.dtype != torch.uint8
        return data if stays else ArraySource(data)
    for convert in ("to_numpy", "toarray"):
        if hasattr(data, convert) and not isinstance(data, Dataset):
            raise TypeError(
                f"data: expected a tensor or an array, got {type(data).__name__}; pass its "
                f"{convert}()."
            )
    if isinstance(data, DataLoader):
        raise TypeError(
            "data: expected data, of which batches are drawn here, got a DataLoader; pass "
            "loader.dataset, and batch_size= beside it"
        )
    sized = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    if not sized or isinstance(data, IterableDataset | list | str | dict):
        raise TypeError(
            "data: expected a tensor, a NumPy array, a tuple of them, a map-style Dataset or an "
            f"object with a length that gives batches, got {type(data).__name__}. Stack a list "
            "with torch.stack; collect an iterable into a tensor."
        )
    if isinstance(data, Dataset) and not isinstance(data, FactorDataset):
        return ItemSource(data)
    return data


class ArraySource:
    """An array, a memory map or a `uint8` tensor, converted to floats as it is read."""

    def __init__(self, array: np.ndarray | Tensor) -> None:
        self.array = array
        self.in_memory = not isinstance(array, np.memmap)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, indices: Tensor) -> Tensor:
        if isinstance(self.array, Tensor):
            batch = _floats(self.array[indices])
        else:
            batch = _floats(self.array[indices.cpu().numpy()])
        return batch if self.in_memory else _finite(batch, indices)


class ItemSource:
    """A map-style Dataset, read item by item; of a tuple the first element is taken."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, indices: Tensor) -> Tensor:
        items = [self._item(number) for number in indices.tolist()]
        for number, item in zip(indices.tolist(), items, strict=True):
            if item.shape != items[0].shape:
                raise ValueError(
                    f"data: expected items of one shape, got {list(items[0].shape)} at "
                    f"{int(indices[0])} and {list(item.shape)} at {number}."
                )
        return _finite(torch.stack(items), indices)

    def _item(self, number: int) -> Tensor:
        item = self.data[number]
        first = item[0] if isinstance(item, tuple | list) else item
        if not isinstance(first, Tensor | np.ndarray) or not _is_plain(first, dims=0):
            raise TypeError(
                f"data: expected items that are dense real tensors or (tensor, target), got "
                f"{_kind(first)} at {number}. For images pass "
                "transform=torchvision.transforms.ToTensor() to the Dataset."
            )
        return _floats(first)


class TupleSource:
    """Sources of equal length, side by side: a batch is a tuple of their batches."""

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.sources = tuple(_checked(_by_kind(part)) for part in parts)
        lengths = [len(source) for source in self.sources]
        if len(set(lengths)) != 1:
            raise ValueError(f"data: expected a tuple of one length, got lengths {lengths}.")

    def __len__(self) -> int:
        return len(self.sources[0])

    def __getitem__(self, indices: Tensor) -> Batch:
        batches = [source[indices] for source in self.sources]
        return tuple(part for b in batches for part in (b if isinstance(b, tuple) else (b,)))


def _is_plain(values: np.ndarray | Tensor, *, dims: int = 1) -> bool:
    """Whether these are real numbers, one after another in memory, of so many dimensions."""
    if isinstance(values, np.ndarray):
        plain = values.dtype.kind in "fiub" and not isinstance(values, np.ma.MaskedArray)
    else:
        odd = values.is_complex() or values.is_quantized or values.is_nested or values.is_meta
        plain = values.layout == torch.strided and not odd
    return plain and values.ndim >= dims


def _kind(values: Any) -> str:
    """Describe what came, in the words that tell it from what was expected."""
    if not isinstance(values, Tensor | np.ndarray):
        return type(values).__name__
    if isinstance(values, Tensor) and values.is_nested:
        return "a nested tensor"
    layout = getattr(values, "layout", torch.strided)
    words = [layout] if layout != torch.strided else []
    if isinstance(values, np.ma.MaskedArray) or getattr(values, "is_meta", False):
        words.append("masked" if isinstance(values, np.ndarray) else "meta")
    return f"{' '.join(map(str, [*words, values.dtype]))} of shape {tuple(values.shape)}"


def _floats(values: np.ndarray | Tensor) -> Tensor:
    """Pixels divided by 255, other arrays converted, other tensors as they are."""
    dtype = torch.get_default_dtype()
    if isinstance(values, np.ndarray) and values.dtype != np.uint8:
        with np.errstate(over="ignore"):
            return torch.from_numpy(values.astype(str(dtype).removeprefix("torch.")))
    tensor = torch.as_tensor(values)
    return tensor.to(dtype) / 255 if tensor.dtype == torch.uint8 else tensor


def _finite(batch: Tensor, indices: Tensor) -> Tensor:
    bad = ~batch.isfinite().flatten(1).all(1) if batch.dim() > 1 else ~batch.isfinite()
    if bool(bad.any()):
        raise ValueError(
            f"data: expected finite numbers, got NaN or infinity (in {batch.dtype}) at index "
            f"{int(indices[bad.cpu()][0])}. Remove or impute such examples."
        )
    return batch
