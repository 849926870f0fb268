"""Optimisers of torch as optimisers of Pyro, one over all parameters."""

from collections.abc import Callable, Iterable
from typing import Any

from pyro.optim import PyroOptim
from torch import Tensor
from torch.optim import Optimizer

OptimiserFactory = Callable[[list[Tensor]], Optimizer]


class TorchOptim(PyroOptim):
    """A `pyro.optim` optimiser that is one `torch.optim` optimiser over all parameters.

    Pyro's own wrappers hold one optimiser for each parameter. This one builds a single optimiser
    when the first parameters appear, and adds a group to it for those that appear later.

    Args:
        factory: a callable from a list of parameters to an optimiser, such as
            `functools.partial(torch.optim.Adam, lr=1e-3)`.

    Attributes:
        optimiser: the torch optimiser; None before the first step.

    Raises: TypeError if `factory` is an optimiser already, or cannot be called.

    >>> import torch
    >>> optim = TorchOptim(lambda parameters: torch.optim.SGD(parameters, lr=0.5))
    >>> weight = torch.ones((), requires_grad=True)
    >>> weight.grad = torch.ones(())
    >>> optim([weight])
    >>> weight.item()
    0.5
    """

    def __init__(self, factory: OptimiserFactory) -> None:
        if isinstance(factory, Optimizer) or not callable(factory):
            raise TypeError(
                "optim: expected a pyro.optim optimiser or a callable from parameters to a "
                f"torch.optim one, got {type(factory).__name__}; write for instance "
                "functools.partial(torch.optim.Adam, lr=1e-3)"
            )
        super().__init__(factory, {})
        self.factory = factory
        self.optimiser: Optimizer | None = None
        self._waiting: dict[str, Any] | None = None

    def __call__(self, params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        """Take a step with the gradients of these parameters; others stay."""
        params = list(params)
        self.extend(params)
        chosen = set(params)
        others = [(p, p.grad) for p in self.optim_objs if p not in chosen]
        for p, _ in others:
            p.grad = None
        if self.optimiser is not None:
            self.optimiser.step(*args, **kwargs)
        for p, gradient in others:
            p.grad = gradient

    def extend(self, params: Iterable[Tensor]) -> None:
        """Have the optimiser look after these parameters too."""
        new = [p for p in params if p not in self.optim_objs]
        if not new:
            return
        if self.optimiser is None:
            self.optimiser = self.factory(new)
            if self._waiting is not None:
                self.optimiser.load_state_dict(self._waiting)
        else:
            self.optimiser.add_param_group({"params": new})
        self.optim_objs.update(dict.fromkeys(new, self.optimiser))
        self.grad_clip.update(dict.fromkeys(new))

    def get_state(self) -> dict[str, Any]:
        """Return the optimiser's `state_dict`."""
        return {} if self.optimiser is None else self.optimiser.state_dict()

    def set_state(self, state_dict: dict[str, Any]) -> None:
        """Load a state that `get_state` returned, now or once there is an optimiser."""
        if self.optimiser is None:
            self._waiting = state_dict
        else:
            self.optimiser.load_state_dict(state_dict)


def as_pyro_optim(optim: PyroOptim | OptimiserFactory) -> PyroOptim:
    """Return a Pyro optimiser as it is, and a factory of torch ones as a `TorchOptim`."""
    return optim if isinstance(optim, PyroOptim) else TorchOptim(optim)


def torch_optimiser(optim: PyroOptim, parameter: Tensor) -> Optimizer | None:
    """Return the torch optimiser that looks after a parameter, None if there is none yet."""
    found = optim.optim_objs.get(parameter)
    return getattr(found, "optimizer", found)
