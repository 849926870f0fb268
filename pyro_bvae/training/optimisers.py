"""Optimisers of torch as optimisers of Pyro, one over all parameters."""

from collections.abc import Callable, Iterable
from typing import Any

from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor
from torch.optim import LBFGS, Optimizer, SparseAdam

from pyro_bvae.checks import check_takes

OptimiserFactory = Callable[[list[Tensor]], Optimizer]
EXAMPLE = "write for instance functools.partial(torch.optim.Adam, lr=1e-3)"


class TorchOptim(PyroOptim):
    """A `pyro.optim` optimiser that is one `torch.optim` optimiser over all parameters.

    Pyro's own wrappers hold one optimiser for each parameter. This one builds a single optimiser
    when the first parameters appear, and adds a group to it for those that appear later.

    Args:
        factory: a callable from a list of parameters to an optimiser, such as
            `functools.partial(torch.optim.Adam, lr=1e-3)`.
        name: of the argument it came as, for errors.

    Attributes:
        optimiser: the torch optimiser; None before the first step.
        made_with: the hyper-parameters that its groups had when they were made.

    Raises:
        TypeError: `factory` is an optimiser already, cannot be called with parameters, or (at the
            first step) gives no torch optimiser.
        ValueError: at the first step, what it gives cannot train these parameters.

    >>> import torch
    >>> optim = TorchOptim(lambda parameters: torch.optim.SGD(parameters, lr=0.5))
    >>> weight = torch.ones((), requires_grad=True)
    >>> weight.grad = torch.ones(())
    >>> optim([weight])
    >>> weight.item()
    0.5
    """

    def __init__(self, factory: OptimiserFactory, *, name: str = "optim") -> None:
        check_factory(factory, name)
        super().__init__(factory, {})
        self.factory, self.name = factory, name
        self.optimiser: Optimizer | None = None
        self.made_with: list[dict[str, Any]] = []
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
            self.optimiser = made(self.factory, new, self.name)
            self.made_with = [_numbers(group) for group in self.optimiser.param_groups]
            if self._waiting is not None:
                self.optimiser.load_state_dict(self._waiting)
        else:
            self.optimiser.add_param_group({"params": new})
            self.made_with.append(_numbers(self.optimiser.param_groups[-1]))
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


def check_factory(factory: Any, name: str) -> None:
    """Raise TypeError unless this is a callable from parameters alone."""
    if isinstance(factory, Optimizer | PyroOptim) or not callable(factory):
        either = "a pyro.optim optimiser or " if name == "optim" else ""
        raise TypeError(
            f"{name}: expected {either}a callable from parameters to a torch.optim one, got "
            f"{type(factory).__name__}; {EXAMPLE}"
        )
    is_torchs = isinstance(factory, type) and issubclass(factory, Optimizer)
    if not is_torchs and str(getattr(factory, "__module__", "")).startswith("pyro.optim"):
        raise TypeError(
            f"{name}: expected an optimiser, got pyro.optim's {factory.__name__} uncalled; "
            'write for instance pyro.optim.Adam({"lr": 1e-3})'
        )
    check_takes(factory, name, "parameters")


def made(factory: OptimiserFactory, parameters: list[Tensor], name: str = "optim") -> Optimizer:
    """Return the optimiser that a factory makes of parameters, able to train them.

    Raises: TypeError if that is no torch optimiser; ValueError if it has none of the parameters,
        needs a closure, or sparse gradients.

    >>> import torch
    >>> made(torch.optim.SGD, [torch.ones(1, requires_grad=True)]).param_groups[0]["lr"]
    0.001
    """
    optimiser = factory(parameters)
    if not isinstance(optimiser, Optimizer):
        raise TypeError(
            f"{name}: expected a callable that returns a torch.optim optimiser, got one that "
            f"returns {type(optimiser).__name__}; {EXAMPLE}"
        )
    dense = any(p.grad is not None and not p.grad.is_sparse for p in parameters)
    if isinstance(optimiser, LBFGS) or (isinstance(optimiser, SparseAdam) and dense):
        raise ValueError(
            f"{name}: expected an optimiser that takes one dense gradient of each parameter per "
            f"step, got {type(optimiser).__name__}; {EXAMPLE}"
        )
    if {p for group in optimiser.param_groups for p in group["params"]}.isdisjoint(parameters):
        raise ValueError(
            f"{name}: expected an optimiser of the parameters that the callable is given, got one "
            f"that has none of them, so nothing would be trained; {EXAMPLE}"
        )
    return optimiser


def _numbers(group: dict[str, Any]) -> dict[str, Any]:
    """Return the hyper-parameters of a group that are numbers, words or tuples of them."""
    plain = {n: v.item() if isinstance(v, Tensor) and not v.dim() else v for n, v in group.items()}
    kinds = (bool, int, float, str, tuple, type(None))
    return {n: v for n, v in plain.items() if n != "params" and isinstance(v, kinds)}


def check_rate(optim: PyroOptim) -> None:
    """Raise ValueError if every learning rate is 0 after the first step, and nobody will raise it.

    >>> check_rate(PyroOptim(print, {}))
    """
    optimisers = {torch_optimiser(optim, p) for p in optim.optim_objs}
    rates = [group.get("lr") for o in optimisers if o is not None for group in o.param_groups]
    if not isinstance(optim, PyroLRScheduler) and rates and all(rate == 0 for rate in rates):
        raise ValueError(
            "optim: expected a learning rate > 0, got 0, so nothing would be trained; "
            "give one > 0, or for a rate that begins at 0 a schedule of it, lr_schedule="
        )


def as_pyro_optim(optim: PyroOptim | OptimiserFactory) -> PyroOptim:
    """Return a Pyro optimiser as it is, and a factory of torch ones as a `TorchOptim`."""
    return optim if isinstance(optim, PyroOptim) else TorchOptim(optim)


def torch_optimiser(optim: PyroOptim, parameter: Tensor) -> Optimizer | None:
    """Return the torch optimiser that looks after a parameter, None if there is none yet."""
    found = optim.optim_objs.get(parameter)
    return getattr(found, "optimizer", found)
