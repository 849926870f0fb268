"""What the training loop needs to know of a pair and its data."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from pyro_bvae.datasets.arrays import Batch, Source, as_source
from pyro_bvae.training.notices import said
from pyro_bvae.types import PairLike, as_pair

_CHUNK = 4096


class Part:
    """Some of a data source, as a data source."""

    def __init__(self, source: Any, indices: Tensor) -> None:
        self.source = source
        self.indices = indices
        self.in_memory = _in_memory(source)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, indices: Tensor) -> Any:
        return self.source[self.indices[indices]]


@contextmanager
def about(name: str) -> Iterator[None]:
    """Put the name of an argument before what errors in it say."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {said(error).removeprefix('data: ')}") from error


def split(source: Any, validation: Any, *, seed: int) -> tuple[Any, Any]:
    """Return training and validation data: the latter a share of the source, other data or None.

    Raises: ValueError if the share is not in (0, 1) or leaves one of the two empty.
    """
    if validation is None:
        return source, None
    if not isinstance(validation, Real):
        with about("validation"):
            return source, as_source(validation)
    share = float(validation)
    held_out = round(share * len(source)) if 0 < share < 1 else 0
    if not 0 < held_out < len(source):
        raise ValueError(
            f"validation: expected data, or a share in (0, 1) of the {len(source)} data that "
            f"leaves both parts some, got {validation}"
        )
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))
    return Part(source, order[held_out:]), Part(source, order[:held_out])


def takes_size(pair: PairLike) -> bool:
    """Whether model and guide both take `size`, the number of data a batch was drawn from."""
    return all("size" in inspect.signature(function).parameters for function in as_pair(pair))


def device_of(pair: PairLike) -> torch.device | None:
    """Return the device of the pair's first parameter, None where the pair is no module."""
    if not isinstance(pair, nn.Module):
        return None
    first = next(pair.parameters(), None)
    return None if first is None else first.device


@contextmanager
def evaluating(pair: PairLike) -> Iterator[None]:
    """Put a pair that is a module into evaluation mode, and all of it back afterwards."""
    modes: dict[nn.Module, bool] = {}
    if isinstance(pair, nn.Module):
        modes = {module: module.training for module in pair.modules()}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def own_randomness(device: torch.device | None, seed: int | None = None) -> Iterator[None]:
    """Draw from torch's generators, seeded if asked, and put them back as they were afterwards."""
    with torch.random.fork_rng([device] if device is not None and device.type == "cuda" else []):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def read(source: Source, indices: Tensor, pair: object) -> tuple[Tensor, ...]:
    """Return the batch at `indices` as the arguments of model and guide.

    Where the pair is a module, the batch goes to its device, and real numbers to its dtype.
    """
    parts = _parts(_at(source, indices))
    first = next(pair.parameters(), None) if isinstance(pair, nn.Module) else None
    if first is None:
        return parts
    return tuple(
        part.to(first.device, first.dtype if part.is_floating_point() else part.dtype)
        for part in parts
    )


def _at(source: Source, indices: Tensor) -> Batch:
    """Return `source[indices]`, by the faster of torch's two ways where there is a choice.

    Indices reach a GPU from pinned memory, so that nothing waits for it.
    """
    if isinstance(source, Part):
        return _at(source.source, source.indices[indices])
    if isinstance(source, Tensor) and source.is_cuda and not indices.is_cuda:
        indices = indices.pin_memory().to(source.device, non_blocking=True)
    if isinstance(source, Tensor) and source.device == indices.device:
        return source.index_select(0, indices)
    return source[indices]


def check_arguments(pair: PairLike, source: Source) -> None:
    """Raise TypeError if model or guide take another number of arguments than a batch has."""
    parts = _parts(source[torch.tensor([0])])
    for function in as_pair(pair):
        try:
            inspect.signature(function).bind(*parts)
        except TypeError as error:
            raise TypeError(
                f"data: expected what model and guide take, got batches of {len(parts)} tensors: "
                f"{error}; of labelled images pass data.images"
            ) from error


def _parts(batch: Batch) -> tuple[Tensor, ...]:
    return batch if isinstance(batch, tuple) else (batch,)


def checked(pair: PairLike, source: Source) -> Callable[..., object]:
    """Check data in memory against the pair's likelihood at once, all other data when read.

    Returns: the check for a batch, which does nothing if all has been checked.
    """
    check: Callable[..., object] = getattr(pair, "check", lambda *_: None)
    if not _in_memory(source):
        return check
    for indices in torch.arange(len(source)).split(_CHUNK):
        check(*_parts(source[indices]))
    return lambda *_: None


def _in_memory(source: Source) -> bool:
    return isinstance(source, Tensor) or getattr(source, "in_memory", False)
