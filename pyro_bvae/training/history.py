"""What training measured: windows of steps, read off the device once each."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from pyro_bvae.training.state import State

Values = dict[str, float | list[float]]


class NonFiniteLossError(FloatingPointError):
    """The loss or a parameter became NaN or infinite at `step`; `last` was measured before."""

    def __init__(self, step: int, last: Values | None, *, what: str = "the loss") -> None:
        self.step = step
        self.last = last
        before = (
            ", ".join(f"{name} {value:.6g}" for name, value in last.items() if _is_number(value))
            if last
            else "nothing, it was the first step"
        )
        super().__init__(
            f"{what} is not finite at step {step}; measured just before, in nats per datum: "
            f"{before}. Try a smaller learning rate, clipped gradients, a fixed or larger "
            "likelihood scale, or a smaller β; what was saved before is kept"
        )


class Window:
    """The values of up to `steps` training steps, on the device until `read` averages them."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._rows: Tensor | None = None
        self._shapes: dict[str, torch.Size] = {}
        self._last: Values | None = None
        self._count = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one step's named values, each of shape `[]` or `[n]`, the loss first."""
        row = torch.cat([value.detach().reshape(-1) for value in values.values()])
        if self._rows is None:
            self._shapes = {name: value.shape for name, value in values.items()}
            self._rows = row.new_empty(self.steps, len(row))
        self._rows[self._count] = row
        self._count += 1

    def read(self, *, step: int, average: Callable[[Tensor], Tensor] | None = None) -> Values:
        """Return the averages over the window that ends at `step`, and start a new one.

        Args:
            step: the last one.
            average: over what several processes measured; by default there is one alone.

        Raises: NonFiniteLossError if a loss in it is not finite.
        """
        if self._rows is None:
            raise ValueError("nothing was added to the window")
        rows = self._rows[: self._count]
        rows = rows if average is None else average(rows)
        bad = (~rows[:, 0].isfinite()).nonzero()
        if len(bad):
            first = int(bad[0])
            last = self._named(rows[first - 1]) if first else self._last
            raise NonFiniteLossError(step - self._count + first + 1, last)
        self._last = self._named(rows[-1])
        self._count = 0
        return self._named(rows.mean(0))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the values that were added."""
        return {name: tuple(shape) for name, shape in self._shapes.items()}

    def state(self) -> State:
        """Return the steps since the last record, and the last step before it."""
        rows = None if self._rows is None else self._rows[: self._count]
        shapes = {name: list(shape) for name, shape in self._shapes.items()}
        return {"rows": rows, "shapes": shapes, "last": self._last}

    def load_state(self, state: State, *, device: torch.device | None = None) -> None:
        """Go on with these steps, on the device that training is on."""
        self._shapes = {name: torch.Size(shape) for name, shape in state["shapes"].items()}
        self._last = state["last"]
        rows = state["rows"]
        if rows is not None:
            self._count = len(rows)
            self._rows = rows.new_empty(self.steps, rows.shape[1], device=device)
            self._rows[: self._count] = rows

    def _named(self, row: Tensor) -> Values:
        parts = row.split([shape.numel() for shape in self._shapes.values()])
        return {
            name: part.reshape(shape).tolist()
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }


def as_arrays(
    rows: list[Values], shapes: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, np.ndarray]:
    """Stack the rows of a history: `[rows]` for numbers, `[rows, n]` for lists.

    Args:
        rows: of the history.
        shapes: of the values that a row has, for where there is none yet.
    """
    if not rows:
        return {name: np.empty((0, *shape)) for name, shape in (shapes or {}).items()}
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))
