"""The order in which training sees the data."""

from collections.abc import Iterator

import torch
from torch import Tensor


class Batches:
    """Endless batches of indices `[batch_size]`: one permutation of the data after another.

    A batch may run over from one permutation into the next, so every batch is full and every
    datum comes up equally often.

    Raises:
        ValueError: there are no data, or fewer than one batch of them.

    >>> batches = Batches(5, batch_size=2, generator=torch.Generator().manual_seed(0))
    >>> stream = iter(batches)
    >>> torch.cat([next(stream) for _ in range(5)]).bincount()
    tensor([2, 2, 2, 2, 2])
    """

    def __init__(self, data: int, *, batch_size: int, generator: torch.Generator) -> None:
        if data < 1:
            raise ValueError("data: expected at least one datum, got none")
        if not 1 <= batch_size <= data:
            raise ValueError(
                f"batch_size: expected 1 to {data}, the number of data, got {batch_size}"
            )
        self.data = data
        self.batch_size = batch_size
        self.generator = generator

    def __iter__(self) -> Iterator[Tensor]:
        rest = torch.empty(0, dtype=torch.long)
        while True:
            while len(rest) < self.batch_size:
                rest = torch.cat([rest, torch.randperm(self.data, generator=self.generator)])
            yield rest[: self.batch_size]
            rest = rest[self.batch_size :]
