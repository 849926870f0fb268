"""β while a pair is trained: a constant, or what a schedule says of the step."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from pyro_bvae.beta import Beta, SiteBetas, check_beta
from pyro_bvae.checks import check_takes
from pyro_bvae.training.history import Values
from pyro_bvae.types import Schedule


class BetaNow:
    """β during training: constant, or a 0-dim tensor that follows a schedule."""

    def __init__(self, beta: Beta | SiteBetas | Schedule) -> None:
        self.schedule = beta if callable(beta) and not isinstance(beta, Tensor) else None
        if self.schedule is not None:
            check_takes(self.schedule, "beta", "the step")
        self.value: Any = beta if self.schedule is None else torch.tensor(0.0)
        self.advance(0)

    def advance(self, step: int) -> None:
        """Set β to the schedule's value at `step`; ValueError or TypeError if that is no β."""
        if self.schedule is not None:
            name = f"beta, by its schedule at step {step}"
            self.value.fill_(float(check_beta(self.schedule(step), name=name)))

    def check(self, rows: list[Values]) -> None:
        """Raise ValueError if β did not follow this schedule when these records were made."""
        for row in rows if self.schedule is not None else ():
            self.advance(int(cast(int, row["step"])) - 1)
            if float(self.value) != row["beta"]:
                raise ValueError(
                    f"beta: the run was trained with {row['beta']} at step {row['step']}, this "
                    f"schedule gives {float(self.value)}; give the same, or start another run"
                )

    def read(self) -> dict[str, float]:
        """Return β now, under "beta", or "beta.SITE" where every site has its own."""
        if isinstance(self.value, Mapping):
            return {f"beta.{site}": float(beta) for site, beta in self.value.items()}
        return {"beta": float(self.value)}
