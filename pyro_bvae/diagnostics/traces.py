"""Running a pair: at latents of one's own, several draws at once, with what it predicts."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.uncondition_messenger import UnconditionMessenger
from torch import Tensor

from pyro_bvae.diagnostics.layout import DRAWS, Layout, Values, held, samples
from pyro_bvae.types import Pair


class Traces(NamedTuple):
    """Traces of a guide, of the model at the guide's draw, and of what that predicts, if asked."""

    guide: Trace
    model: Trace
    predicted: Trace | None = None


def run(
    pair: Pair,
    args: tuple[Any, ...],
    *,
    values: Values | None = None,
    predict: bool = False,
    plate: Callable[..., Any] | None = None,
) -> Traces:
    """Trace guide and model on `args`, in a plate of draws if given.

    `values` fixes latents of both; with `predict`, the model also draws what it would observe.
    """
    around = plate or (lambda function: function)
    model, guide = (held(around(function), values or {}) for function in pair)
    drawn = poutine.trace(guide).get_trace(*args)
    scored = poutine.trace(poutine.replay(model, trace=drawn)).get_trace(*args)
    if not predict:
        return Traces(drawn, scored)
    free = poutine.replay(unconditioned(model), trace=drawn)
    return Traces(drawn, scored, poutine.trace(free).get_trace(*args))


def unconditioned(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return a model that draws what it observes; what `pyro.deterministic` computes stays.

    `poutine.uncondition` would draw that too, from a Delta that each plate around it expands.
    """
    free: Callable[..., Any] = _Unconditioned()(model)
    return free


class _Unconditioned(UnconditionMessenger):
    def _pyro_sample(self, msg: Any) -> None:
        if not msg["infer"].get("_deterministic"):
            super()._pyro_sample(msg)


def plate_of(draws: int, layout: Layout) -> pyro.plate:
    """Return a plate of draws around all of the pair's own."""
    return pyro.plate(DRAWS, draws, dim=-1 - layout.nesting)


def values_of_draw(trace: Trace, draw: int, layout: Layout) -> dict[str, Tensor]:
    """Return what a trace in a plate of draws drew in one of them, the auxiliary sites' too."""
    return {
        name: _of_draw(site, draw, layout)
        for name, site in samples(trace).items()
        if not site["is_observed"]
    }


def _of_draw(site: Any, draw: int, layout: Layout) -> Tensor:
    value: Tensor = site["value"]
    event_dim = site["fn"].event_dim
    dims = {f.name: -f.dim for f in site["cond_indep_stack"] if f.vectorized}
    if dims.pop(DRAWS, None) is None:
        return value
    value = value.select(-1 - layout.nesting - event_dim, draw)
    return value.reshape(value.shape[value.dim() - event_dim - max(dims.values(), default=0) :])


def simulated_arguments(
    trace: Trace, layout: Layout, args: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Put what an unconditioned model drew in the place of what it would have observed.

    Raises: ValueError if the model observes something else than its arguments, or a copy of what
        may be either of two.
    """
    arguments = list(args)
    for name in layout.observed:
        site = samples(trace)[name]
        given, drawn = site["infer"]["obs"], site["value"]
        same = arguments_observed(args, given)
        if not same:
            raise ValueError(
                f"model: expected observed site {name!r} to observe an argument of the model as "
                "it is, so that data can be simulated"
            )
        if len(same) > 1:
            raise ValueError(
                f"x: expected data of which the arguments of the model differ, so that it can be "
                f"told which one site {name!r} observes, got the same numbers as arguments {same}"
            )
        arguments[same[0]] = drawn.reshape(args[same[0]].shape).to(args[same[0]].dtype)
    return tuple(arguments)


def arguments_observed(args: tuple[Tensor, ...], observed: Tensor) -> list[int]:
    """Return the places of the argument that is observed, or else of all that equal it.

    An argument is known by its memory; of a copy, such as another dtype, only the numbers are left.
    """
    same = [i for i, arg in enumerate(args) if _same_numbers(arg, observed)]
    return [i for i in same if args[i].data_ptr() == observed.data_ptr()] or same


def _same_numbers(argument: Tensor, observed: Tensor) -> bool:
    """Whether an argument and what is observed are the same but for their shape."""
    return argument.numel() == observed.numel() and torch.equal(
        argument.reshape(-1), observed.reshape(-1).to(argument.dtype)
    )
