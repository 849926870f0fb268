"""Learning rates that follow one of torch's schedules."""

from collections.abc import Callable
from typing import Any

from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pyro_bvae.checks import check_takes
from pyro_bvae.training.optimisers import OptimiserFactory, check_factory, made
from pyro_bvae.training.state import State
from pyro_bvae.training.words import described

ScheduleFactory = Callable[[Optimizer], LRScheduler]


class Rates:
    """A factory of optimisers whose learning rate follows a schedule, one step of it per step.

    Args:
        optim: a callable from parameters to a torch optimiser.
        schedule: a callable from that optimiser to one of `torch.optim.lr_scheduler`.

    Raises:
        TypeError: one of the two is not such a callable, or the schedule needs a metric.
        ValueError: the schedule is of another optimiser; parameters appear after the first step,
            for which it has no rate.

    >>> import torch
    >>> from functools import partial
    >>> halving = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    >>> rates = Rates(partial(torch.optim.SGD, lr=1.0), halving)
    >>> optimiser = rates([torch.ones(1, requires_grad=True)])
    >>> optimiser.step()
    >>> rates.step()
    >>> optimiser.param_groups[0]["lr"]
    0.5
    """

    def __init__(self, optim: Any, schedule: Any) -> None:
        if isinstance(schedule, LRScheduler) or not callable(schedule):
            raise TypeError(
                "lr_schedule: expected a callable from a torch optimiser to a schedule, got "
                f"{type(schedule).__name__}; write for instance "
                "functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=steps)"
            )
        check_takes(schedule, "lr_schedule", "a torch optimiser")
        if isinstance(optim, PyroOptim):
            raise TypeError(
                "lr_schedule: expected optim to be a callable from parameters to a torch "
                f"optimiser, got {type(optim).__name__}; with pyro.optim leave lr_schedule out"
            )
        check_factory(optim, "optim")
        self.optim: OptimiserFactory = optim
        self.schedule: ScheduleFactory = schedule
        self._scheduler: LRScheduler | None = None

    def __call__(self, parameters: list[Tensor]) -> Optimizer:
        """Make the optimiser, and its schedule."""
        optimiser = made(self.optim, parameters)
        scheduler = self.schedule(optimiser)
        if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
            raise TypeError(
                "lr_schedule: expected a torch.optim.lr_scheduler whose step() takes nothing, got "
                f"{type(scheduler).__name__}"
            )
        if scheduler.optimizer is not optimiser:
            raise ValueError(
                "lr_schedule: expected a schedule of the optimiser that the callable is given, got "
                "one of another, which would leave these rates as they are; use the argument"
            )
        self._scheduler, self._groups = scheduler, len(optimiser.param_groups)
        self._made = {name: described(value) for name, value in scheduler.state_dict().items()}
        return optimiser

    def step(self) -> None:
        """Go on to the rates of the next step; to be called after one."""
        if self._scheduler is None:
            return
        if len(self._scheduler.optimizer.param_groups) != self._groups:
            raise ValueError(
                "lr_schedule: expected a pair whose parameters all exist after the first step, "
                "got new ones; create them in the first step, or leave lr_schedule out"
            )
        self._scheduler.step()

    def state(self) -> State:
        """Return which schedule it is, and where it is; None before the first step."""
        if self._scheduler is None:
            return None
        return {
            "class": _classes(self._scheduler),
            "made": self._made,
            "state": dict(self._scheduler.state_dict()),
        }

    def load_state(self, state: State) -> None:
        """Go on from there, once the optimiser exists; ValueError if it was another schedule."""
        if self._scheduler is None or state is None:
            return
        before, now = state["class"], _classes(self._scheduler)
        lacks = sorted(self._scheduler.state_dict().keys() - state["state"].keys())
        if before != now or lacks:
            raise ValueError(
                f"lr_schedule: the run was trained with {before}, got {now}"
                + (f", whose state has {lacks} as well" if lacks else "")
                + "; give the same, or start another run"
            )
        for name, value in self._made.items():
            first = state["made"].get(name, value)
            if first != value:
                raise ValueError(
                    f"lr_schedule: the run was trained with {name}={first}, got {value}; give the "
                    "same, or start another run"
                )
        self._scheduler.load_state_dict(state["state"])


def check_unscheduled(optim: Any) -> None:
    """Raise TypeError if a Pyro optimiser has a schedule, which its user has to step."""
    if isinstance(optim, PyroLRScheduler):
        raise TypeError(
            f"optim: expected one without a schedule of its own, got {described(optim)}, which fit "
            "would never step; give fit the schedule as lr_schedule="
        )


def _classes(scheduler: LRScheduler) -> str:
    """Name the class of a schedule, and those of its parts."""
    parts = ", ".join(map(_classes, getattr(scheduler, "_schedulers", ())))
    return described(type(scheduler)) + (f"({parts})" if parts else "")
