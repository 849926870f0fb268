"""What a run was trained with, in words: written beside it, compared when it goes on."""

import inspect
from collections.abc import Mapping
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any

from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler

from pyro_bvae.objectives import Objective

if TYPE_CHECKING:
    from pyro_bvae.training.loop import Loop


def check_seed(seed: Any) -> int:
    """Return `seed` as an int; ValueError unless it is a whole number that torch takes as one."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) < 2**63:
        raise ValueError(f"seed: expected a whole number from 0 to 2**63 - 1, got {seed!r}")
    return int(seed)


def settings_of(
    loop: "Loop",
    *,
    optim: Any,
    critic_optim: Any,
    lr_schedule: Any,
    steps: int,
    compile: str,
    precision: str,
) -> dict[str, Any]:
    """Return all settings of a training, in words and numbers."""
    beta, gradients = loop.beta, loop.svi.gradients
    return {
        "beta": described(beta.schedule) if beta.schedule else beta.read(),
        "objective": described(loop.objective),
        "steps": steps,
        "batch_size": loop.batches.batch_size,
        "accumulate": gradients.accumulate,
        "clip_norm": gradients.clip_norm,
        "average": None if loop.average is None else loop.average.decay,
        "lr_schedule": None if lr_schedule is None else described(lr_schedule),
        "processes": loop.group.size,
        "seed": loop.seed,
        "every": loop.every,
        "optim": described(optim),
        "critic_optim": described(critic_optim) if loop.objective.critic is not None else None,
        "compile": compile,
        "precision": precision,
        "data": len(loop.source),
        "validation": 0 if loop.held_out is None else len(loop.held_out),
    }


def described(value: Any) -> str:
    """Return a callable, an optimiser or an objective in words, with what it was given.

    >>> import torch
    >>> described(partial(torch.optim.Adam, lr=0.1))
    'Adam(lr=0.1)'
    """
    if isinstance(value, partial):
        return _call(described(value.func), value.keywords)
    if isinstance(value, PyroOptim):
        made_with = value.pt_optim_args
        words = described(value.pt_optim_constructor)
        words = _call(words, made_with) if isinstance(made_with, dict) and made_with else words
        if isinstance(value, PyroLRScheduler):
            given = {"optimizer": words, **value.kwargs}
            words = _call(described(value.pt_scheduler_constructor), given)
        return words
    if isinstance(value, Objective):
        names = inspect.signature(type(value)).parameters
        made = {name: getattr(value, name) for name in names if hasattr(value, name)}
        made = {name: described(v) if callable(v) else v for name, v in made.items()}
        return _call(type(value).__qualname__, made)
    return getattr(value, "__qualname__", type(value).__qualname__)


def check_settings(before: Mapping[str, Any], now: Mapping[str, Any], *, step: int) -> None:
    """Raise ValueError, naming it, if a setting is another than before; steps may be more.

    Args:
        before: the settings of the run.
        now: those it is to go on with.
        step: how many steps have been taken.
    """
    changed = {
        name: (before.get(name), now.get(name))
        for name in {**before, **now}
        if name != "steps" and before.get(name) != now.get(name)
    }
    if changed:
        words = "; ".join(f"{name}: it has {a!r}, got {b!r}" for name, (a, b) in changed.items())
        raise ValueError(
            f"run: expected the settings of the run that goes on, but {words}; give these, or "
            "start another run"
        )
    if now["steps"] < step:
        raise ValueError(
            f"steps: the run has taken {step} already, got {now['steps']}; give at least as many"
        )


def _call(name: str, keywords: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in keywords.items())})"
