"""The loop: batches in, steps taken, a record every so many of them."""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext

import pyro
import torch
from pyro import poutine
from torch import Tensor
from tqdm.auto import tqdm

from pyro_bvae.datasets.arrays import Source
from pyro_bvae.objectives import Objective
from pyro_bvae.training.batches import BatchOrder
from pyro_bvae.training.beta_now import BetaNow
from pyro_bvae.training.buffers import MovingBuffers, buffers_kept
from pyro_bvae.training.callbacks import Record
from pyro_bvae.training.distributed import Group
from pyro_bvae.training.evaluate import evaluate
from pyro_bvae.training.history import NonFiniteLossError, Values, Window
from pyro_bvae.training.moving import Moving
from pyro_bvae.training.moving_average import MovingAverage
from pyro_bvae.training.names import (
    constraints_of,
    kept_on_error,
    modules_of,
    named_tensors,
    restore,
)
from pyro_bvae.training.optimiser_state import load_optimiser_state, optimiser_state
from pyro_bvae.training.optimisers import check_rate
from pyro_bvae.training.parameters import parameters_in
from pyro_bvae.training.randomness import foreign_randomness_kept, randomness, set_randomness
from pyro_bvae.training.rates import Rates
from pyro_bvae.training.settings import check_alike
from pyro_bvae.training.source import (
    about,
    check_arguments,
    checked,
    device_of,
    own_randomness,
    read,
    takes_size,
)
from pyro_bvae.training.state import State, Stateful
from pyro_bvae.training.svi import CompiledSVI
from pyro_bvae.training.words import outline
from pyro_bvae.types import PairLike


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
        every: int,
        rates: Rates | None = None,
        average: MovingAverage | None = None,
        group: Group | None = None,
    ) -> None:
        self.pair, self.source, self.held_out = pair, source, held_out
        self.svi, self.objective, self.beta = svi, objective, beta
        self.batches, self.seed, self.every = batches, seed, every
        self.rates, self.average, self.group = rates, average, group or Group()
        self.moving = Moving(beta, objective)
        self.step = 0
        self.window = Window(every)
        check_arguments(pair, source)
        if held_out is not None:
            with about("validation"):
                check_arguments(pair, held_out)
                checked(pair, held_out)
        self.device = device_of(pair)
        self.modules = modules_of(pair)
        self._random: State = None
        self.keywords = {"size": len(source)} if takes_size(pair) else {}
        self.check: Callable[..., object] = checked(pair, source)

    def records(
        self, steps: int, *, pause: Callable[[], bool], progress: bool
    ) -> Generator[Record | None]:
        """Take steps up to `steps`; yield a record every so many of them, and None at each pause.

        A pause comes after the last step, and after a step when `pause` returns True. Only then
        may the state be read.
        """
        first = self.step + 1
        with (
            own_randomness(self.device, self.seed + self.group.rank),
            nullcontext() if self._random is None else foreign_randomness_kept(),
            tqdm(
                total=steps,
                initial=self.step,
                unit="step",
                disable=not (progress and self.group.is_first),
            ) as bar,
        ):
            if self._random is not None:
                set_randomness(self.device, self._random)
            buffers = MovingBuffers(self.group, self.modules)
            for number, indices in zip(range(first, steps + 1), self.batches, strict=False):
                self.beta.advance(number - 1)
                self.objective.advance(number - 1)
                with self.modules.watched() if number == first else nullcontext():
                    self.window.add(self._take(indices, validate=number == first))
                self.step = number
                self._follow()
                buffers.share()
                bar.update()
                if number % self.every == 0 or number == steps:
                    with self.averaged():
                        row = self._row(number)
                        shown = ("loss", "elbo", "kl")
                        bar.set_postfix({name: f"{row[name]:.2f}" for name in shown})
                        yield Record(number, steps, row, self.pair)
                if number == steps or pause():
                    yield None

    def begin(self) -> None:
        """Begin with the tensors of the first process; ValueError, in all, if one's are others."""
        if self.group.size == 1:
            return
        with buffers_kept():
            known = self._parameters()
        tensors = named_tensors(self.pair, self.modules, known.values())
        kinds = {name: outline(tensor) for name, tensor in tensors.items()}
        check_alike(self.group.gathered(kinds), what="parameters and buffers")
        self.group.copy_from_first(tensors.values())

    def averaged(self) -> AbstractContextManager[None]:
        """Have the moving average, if there is one, in the place of the weights for a while."""
        return nullcontext() if self.average is None else self.average.in_place()

    def is_finite(self) -> bool:
        """Whether all parameters are finite."""
        return all(bool(value.isfinite().all()) for value in self.svi.parameters.values())

    def state(self) -> State:
        """Return all that the next steps depend on; to be called while `records` pauses."""
        known = [*self.svi.parameters.values(), *self.svi.optim.optim_objs]
        tensors = named_tensors(self.pair, self.modules, known)
        own = {"random": randomness(self.device), "window": self.window.state()}
        return {
            "step": self.step,
            "processes": self.group.gathered(own),
            "batches": self.batches.state(),
            "tensors": tensors,
            "constraints": constraints_of(tensors),
            "optimiser": optimiser_state(self.svi.optim, tensors),
            "moving": self.moving.state(),
            "rates": None if self.rates is None else self.rates.state(),
            "average": None if self.average is None else self.average.state(tensors),
            "objective": self.objective.state() if isinstance(self.objective, Stateful) else None,
            "trainer": self.svi.state() if isinstance(self.svi, Stateful) else None,
        }

    def load_state(self, state: State) -> None:
        """Bring a state back, before `records`; ValueError if it is of another pair or optim."""
        known = self._parameters()
        tensors = named_tensors(self.pair, self.modules, known.values())
        with kept_on_error([*tensors.values(), *self.moving.tensors.values()]):
            self._load(state, known, restore(tensors, state["tensors"], state["constraints"]))

    def _load(
        self, state: State, known: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
    ) -> None:
        load_optimiser_state(self.svi.optim, state["optimiser"], tensors)
        if self.rates is not None:
            self.rates.load_state(state["rates"])
        if self.average is not None:
            self.average.load_state(state["average"], tensors)
        self.svi.parameters = known
        self.batches.load_state(state["batches"])
        self.moving.load_state(state["moving"])
        own = state["processes"][self.group.rank]
        self.window.load_state(own["window"], device=self.device)
        if isinstance(self.objective, Stateful):
            self.objective.load_state(state["objective"])
        if isinstance(self.svi, Stateful):
            self.svi.load_state(state["trainer"])
        self.step, self._random = state["step"], own["random"]
        self.beta.advance(max(self.step - 1, 0))
        self.objective.advance(max(self.step - 1, 0))
        self.moving.check(state["moving"], step=self.step)

    @torch.no_grad()
    def _parameters(self) -> Mapping[str, Tensor]:
        """Run the pair on the first data, so that all parameters made on the way exist."""
        batch = read(self.source, torch.arange(self.batches.batch_size), self.pair)
        with (
            own_randomness(self.device, self.seed),
            self.modules.watched(),
            poutine.trace(param_only=True) as captured,
        ):
            self.objective.estimate(self.svi.model, self.svi.guide, *batch, **self.keywords)
        return parameters_in(captured.trace)

    def _take(self, indices: Tensor, *, validate: bool) -> Mapping[str, Tensor]:
        batch = read(self.source, self.group.share(indices), self.pair)
        self.check(*batch)
        with pyro.validation_enabled(validate):
            measured = self.svi.step_terms(*batch, **self.keywords)[1]
        if validate and self.rates is None:
            check_rate(self.svi.optim)
        return measured

    def _follow(self) -> None:
        """Do what comes after every step."""
        if self.rates is not None:
            self.rates.step()
        if self.average is not None:
            self.average.add(self.svi.parameters.values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return what a record of the steps so far would have, and in which shapes."""
        row: dict[str, tuple[int, ...]] = dict.fromkeys(("step", *self.beta.read()), ())
        names = ("validation_loss", "validation_elbo") if self.held_out is not None else ()
        return row | self.window.shapes() | dict.fromkeys(names, ())

    def _row(self, number: int) -> Values:
        measured = self.window.read(step=number, average=self.group.average)
        row: Values = {"step": number, **self.beta.read(), **measured}
        if not self.is_finite():
            raise NonFiniteLossError(number, row, what="a parameter")
        return row if self.held_out is None else row | self.group.from_first(self._validation)

    def _validation(self) -> Values:
        with about("validation"):
            measured = evaluate(
                self.pair,
                self.held_out,
                beta=self.beta.value,
                objective=self.objective,
                size=len(self.source),
                seed=self.seed,
            )
        return {f"validation_{name}": float(measured[name]) for name in ("loss", "elbo")}
