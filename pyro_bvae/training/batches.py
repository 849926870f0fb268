"""The order in which training sees the data."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pyro_bvae.checks import check_count


class BatchOrder:
    """Endless batches of indices `[batch_size]`: one permutation of the data after another.

    A batch may run over from one permutation into the next, so every batch is full and every
    datum comes up equally often.

    Raises:
        ValueError: batch_size < 1, or there are fewer data than that.

    >>> batches = BatchOrder(5, batch_size=2, generator=torch.Generator().manual_seed(0))
    >>> stream = iter(batches)
    >>> torch.cat([next(stream) for _ in range(5)]).bincount()
    tensor([2, 2, 2, 2, 2])
    """

    def __init__(self, data: int, *, batch_size: int, generator: torch.Generator) -> None:
        if check_count(batch_size, "batch_size") > data:
            raise ValueError(
                f"batch_size: expected at most {data}, the number of data, got {batch_size}"
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
