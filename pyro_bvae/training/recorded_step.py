"""One step of SVI (handlers, loss, gradients, update) as a recorded graph."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro.infer.util import zero_grads
from torch import Tensor

from pyro_bvae.training.captured import Captured, compiled
from pyro_bvae.training.compiler_cache import Prospect, prospect
from pyro_bvae.training.notices import said
from pyro_bvae.training.python_state import PythonState
from pyro_bvae.training.recorded_optim import NotReady, RecordedOptim, recordable
from pyro_bvae.training.recording import Recording, record
from pyro_bvae.training.surroundings import Call, Modules, Surroundings
from pyro_bvae.training.trial import Trial, devices
from pyro_bvae.training.undone import stored, undone_on_error

FIRST_TRIAL, EVERY = 16, 512

Parameters = Mapping[str, Tensor]
Evaluate = Callable[..., tuple[Parameters, Any, Mapping[str, Tensor]]]


class Taken(NamedTuple):
    """What a step gave: the loss (a tuple of them for some objectives) and named terms."""

    loss: Any
    terms: dict[str, Tensor]

    @classmethod
    def of(cls, loss: Any, terms: Mapping[str, Tensor]) -> "Taken":
        """Keep values as they are now, apart from how they came about."""
        return cls(_detached(loss), {name: _detached(term) for name, term in terms.items()})

    def values(self) -> list[Tensor]:
        """Return all of it as tensors, in the order of a recording's outputs."""
        return list(map(torch.as_tensor, (*_losses(self.loss), *self.terms.values())))


class RecordedStep:
    """A step that was taken once, in Python, and can be taken again without.

    Args:
        evaluate: runs model and guide on the arguments, adds gradients to the parameters, and
            returns the parameters, the loss and terms.
        optim: a `PyroOptim` whose update can be recorded, or else called after the graph.
        call: the arguments of the step that is taken now.
        parameters: those of the step before.
        modules: those that took part in the step before; extended here.
        like: an earlier recording of the same step, whose optimiser update is kept.

    Attributes:
        taken: what the step gave while it was recorded.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        optim: Callable[[list[Tensor]], Any],
        call: Call,
        *,
        parameters: Parameters,
        modules: Modules,
        like: "RecordedStep | None" = None,
    ) -> None:
        self._evaluate, self._optim, self._call = evaluate, optim, call
        self._parameters = dict(parameters)
        tensors = list(parameters.values())
        self._update: RecordedOptim | None = like._update if like else recordable(optim, tensors)
        self._trained: list[Tensor] = []
        self._used_before = [p for p in tensors if p.grad is not None]
        self.steps, self._can_be_tried = 0, True
        leaves = tensors + [p for _, p in modules.parameters().values()]
        before, around = _elsewhere_drawn(), PythonState(modules.functions, modules)
        with undone_on_error(modules, leaves), self._advanced(), modules.watched():
            torch.clear_autocast_cache()
            self._recording = record(self._function, call.tensors)
            states = {id(t) for t in self._update.tensors()} if self._update else set()
            live = [t for t in self._recording.live if id(t) not in states]
            self._surroundings = Surroundings(parameters, modules, live, around)
        self._draws_elsewhere = _elsewhere_drawn() != before
        self._compiled: Recording | Captured = self._recording
        self.taken = self._finish(self._recording.outputs)
        self._recording.outputs.clear()

    def __call__(self, tensors: Sequence[Tensor], *, compiled: bool) -> Taken:
        """Take a step with tensors of the recorded kinds."""
        self.steps += 1
        recording = self._compiled if compiled else self._recording
        with self._advanced(), without_autocast(tensors):
            return self._finish(recording(tensors))

    def is_due(self) -> bool:
        """Whether the next step is one of those to be held against Pyro's."""
        number = self.steps + 1
        regular = number & (number - 1) == 0 or number % EVERY == 0
        return self._can_be_tried and number >= FIRST_TRIAL and regular

    def last_tried(self) -> int:
        """How many steps ago, when this one is tried, or since when there is the recording."""
        return self.steps if self.steps == FIRST_TRIAL else min(self.steps // 2, EVERY)

    def trial(self, tensors: Sequence[Tensor]) -> Trial | str:
        """Take a step and undo it, but for its being counted; return why if that cannot be."""
        self.steps += 1
        try:
            if self._update is not None:
                self._update.advance()
            try:
                with without_autocast(tensors):
                    return Trial(self._recording, tensors)
            finally:
                if self._update is not None:
                    self._update.rewind()
        except Exception as error:
            self._can_be_tried = False
            return f"{type(error).__name__}: {said(error)}"

    def is_current(self) -> bool:
        """Whether all that the recording took from elsewhere is still what it was."""
        return (
            not self._draws_elsewhere
            and self._surroundings.is_current()
            and all(p.grad is None for p in self._never_used)
            and (self._update is None or self._update.is_current())
        )

    def changed(self) -> str:
        """Say what the recording took from elsewhere that is not what it was."""
        if self._draws_elsewhere:
            return "the random generators of Python or NumPy"
        if self._update is None or self._update.is_current():
            return self._surroundings.changed()
        return "optimisers, their state or their hyper-parameters"

    def is_compiled(self) -> bool:
        """Whether `compile` has been called."""
        return self._compiled is not self._recording

    def compile(self, tensors: Sequence[Tensor]) -> str | None:
        """Compile the graph for tensors of these shapes, as one graph of a device that has such.

        Returns: why it is not one graph although the device has them, None otherwise.
        """
        with torch.random.fork_rng(devices()), without_autocast(tensors):
            self._compiled, why = compiled(self._recording, tensors)
        return why

    def prospect(self, tensors: Sequence[Tensor]) -> Prospect:
        """Return what `compile` is going to cost and save, about."""
        return prospect(self._recording.graph, [*self._recording.live, *tensors])

    def difference(self, other: "RecordedStep") -> str | None:
        """Say where two recordings of one step differ; None if the step is static."""
        return self._recording.difference(other._recording)

    def _function(self, *tensors: Tensor) -> list[Tensor]:
        args, kwargs = self._call.arguments(tensors)
        before = stored()
        parameters, loss, terms = self._evaluate(*args, **kwargs)
        if list(map(id, parameters.values())) != list(map(id, self._parameters.values())):
            raise NotReady("the step has other parameters than the one before")
        if [(name, id(p)) for name, p in before.items()] != [
            (name, id(p)) for name, p in stored().items()
        ]:
            raise NotReady("the step replaces what Pyro's parameter store holds")
        for p in self._used_before:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        self._never_used = [p for p in parameters.values() if p.grad is None]
        losses = _losses(loss)
        self._several, self._losses, self._names = type(loss), len(losses), list(terms)
        outputs = [torch.as_tensor(x).detach().clone() for x in (*losses, *terms.values())]
        if self._update is not None:
            self._update.record()
            return outputs
        self._trained = [p for p in parameters.values() if p.grad is not None]
        return outputs + [p.grad for p in self._trained if p.grad is not None]

    def _finish(self, outputs: Sequence[Tensor]) -> Taken:
        count = self._losses
        loss: Any = outputs[0]
        if issubclass(self._several, tuple):
            loss = self._several(outputs[:count])
        terms = dict(zip(self._names, outputs[count:], strict=False))
        if self._update is None:
            grads = outputs[count + len(terms) :]
            for parameter, grad in zip(self._trained, grads, strict=True):
                parameter.grad = grad
            self._optim(list(self._parameters.values()))
            zero_grads(self._trained)
        return Taken(loss, terms)

    @contextmanager
    def _advanced(self) -> Iterator[None]:
        """Bring the update's learning rates up to date, and undo it if the step fails."""
        if self._update is None:
            yield
            return
        self._update.advance()
        try:
            yield
        except BaseException:
            self._update.rewind()
            raise


def without_autocast(tensors: Sequence[Tensor]) -> AbstractContextManager[Any]:
    """Do operations in the precision they were recorded in."""
    device = tensors[0].device.type if tensors else "cpu"
    enabled = torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if enabled else nullcontext()


def _elsewhere_drawn() -> tuple[Any, str]:
    """Return where the random generators are that no graph draws from."""
    return random.getstate(), str(np.random.get_state(legacy=False))


def _losses(loss: Any) -> tuple[Any, ...]:
    return loss if isinstance(loss, tuple) else (loss,)


def _detached(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
