"""The loop: batches in, steps taken, a record every so many of them."""

from collections.abc import Callable, Generator, Mapping
from typing import Any

import pyro
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_bvae.beta import Beta, SiteBetas
from pyro_bvae.datasets.arrays import Source
from pyro_bvae.objectives import Objective
from pyro_bvae.training.batches import BatchOrder
from pyro_bvae.training.callbacks import Record
from pyro_bvae.training.evaluate import evaluate
from pyro_bvae.training.history import NonFiniteLossError, Values, Window
from pyro_bvae.training.source import (
    check_arguments,
    checked,
    device_of,
    own_randomness,
    read,
    takes_size,
)
from pyro_bvae.training.svi import CompiledSVI
from pyro_bvae.types import PairLike, Schedule


class BetaNow:
    """β during training: constant, or a 0-dim tensor that follows a schedule."""

    def __init__(self, beta: Beta | SiteBetas | Schedule) -> None:
        self.schedule = beta if callable(beta) and not isinstance(beta, Tensor) else None
        self.value: Any = beta if self.schedule is None else torch.tensor(0.0)
        self.advance(0)

    def advance(self, step: int) -> None:
        """Set β to the schedule's value at `step`; ValueError if that is negative or not finite."""
        if self.schedule is not None:
            beta = self.schedule(step)
            if not 0 <= beta < float("inf"):
                raise ValueError(
                    f"beta: expected a schedule of finite numbers >= 0, got {beta} at step {step}"
                )
            self.value.fill_(beta)

    def read(self) -> dict[str, float]:
        """Return β now, under "beta", or "beta.SITE" where every site has its own."""
        if isinstance(self.value, Mapping):
            return {f"beta.{site}": float(beta) for site, beta in self.value.items()}
        return {"beta": float(self.value)}


class Loop:
    """Train a pair on a source, yielding a `Record` every so many steps."""

    def __init__(
        self,
        pair: PairLike,
        source: Source,
        held_out: Source | None,
        *,
        svi: CompiledSVI,
        objective: Objective,
        beta: BetaNow,
        batches: BatchOrder,
        seed: int,
    ) -> None:
        self.pair, self.source, self.held_out = pair, source, held_out
        self.svi, self.objective, self.beta = svi, objective, beta
        self.batches, self.seed = batches, seed
        check_arguments(pair, source)
        self.device = device_of(pair)
        self.keywords = {"size": len(source)} if takes_size(pair) else {}
        self.check: Callable[[Tensor], object] = checked(pair, source)

    def records(self, steps: int, *, every: int, progress: bool) -> Generator[Record]:
        """Take `steps` steps and yield a record after each `every`, and after the last."""
        window = Window(every)
        with (
            own_randomness(self.device, self.seed),
            tqdm(total=steps, unit="step", disable=not progress) as bar,
        ):
            for number, indices in zip(range(1, steps + 1), self.batches, strict=False):
                self.beta.advance(number - 1)
                window.add(self._take(indices, validate=number == 1))
                bar.update()
                if number % every == 0 or number == steps:
                    row = self._row(number, window)
                    bar.set_postfix({name: f"{row[name]:.2f}" for name in ("loss", "elbo", "kl")})
                    yield Record(number, steps, row, self.pair)

    def _take(self, indices: Tensor, *, validate: bool) -> Mapping[str, Tensor]:
        batch = read(self.source, indices, self.pair)
        self.check(batch[0])
        with pyro.validation_enabled(validate):
            return self.svi.step_terms(*batch, **self.keywords)[1]

    def _row(self, number: int, window: Window) -> Values:
        row: Values = {"step": number, **self.beta.read(), **window.read(step=number)}
        if not all(bool(value.isfinite().all()) for value in self.svi.parameters.values()):
            raise NonFiniteLossError(number, row, what="a parameter")
        if self.held_out is not None:
            measured = evaluate(
                self.pair,
                self.held_out,
                beta=self.beta.value,
                objective=self.objective,
                size=len(self.source),
                seed=self.seed,
            )
            row |= {f"validation_{name}": float(measured[name]) for name in ("loss", "elbo")}
        return row
