"""The order in which training sees the data."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.training.state import State


class BatchOrder:
    """Endless batches of indices `[batch_size]`: one permutation of the data after another.

    A batch may run over from one permutation into the next, so every batch is full and every
    datum comes up equally often.

    Raises:
        ValueError: batch_size < 1, or there are fewer data than that.

    >>> batches = BatchOrder(5, batch_size=2, generator=torch.Generator().manual_seed(0))
    >>> torch.cat([next(batches) for _ in range(5)]).bincount()
    tensor([2, 2, 2, 2, 2])
    """

    def __init__(self, data: int, *, batch_size: int, generator: torch.Generator) -> None:
        self.batch_size = check_count(batch_size, "batch_size")
        if self.batch_size > data:
            raise ValueError(
                f"batch_size: expected at most {data}, the number of data, got {batch_size}"
            )
        self.data = data
        self.generator = generator
        self._drawn_from = generator.get_state()
        self._rest = torch.empty(0, dtype=torch.long)

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        if len(self._rest) < self.batch_size:
            self._rest = torch.cat([self._rest, self._permutation()])
        batch = self._rest[: self.batch_size]
        self._rest = self._rest[self.batch_size :]
        return batch

    def state(self) -> State:
        """Return where the last permutation was drawn from, and how much of it is left."""
        return {"generator": self._drawn_from, "left": len(self._rest)}

    def load_state(self, state: State) -> None:
        """Go on from there: what is left is always the end of the last permutation."""
        self.generator.set_state(state["generator"])
        permutation = self._permutation()
        self._rest = permutation[self.data - state["left"] :]

    def _permutation(self) -> Tensor:
        self._drawn_from = self.generator.get_state()
        return torch.randperm(self.data, generator=self.generator)
