"""What a run was trained with, in words: written beside it, compared when it goes on."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

from pyro_bvae.training.callbacks import Callback, stateful
from pyro_bvae.training.fingerprint import fingerprint
from pyro_bvae.training.state import to_bytes
from pyro_bvae.training.words import described, told

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
    beta, gradients, held_out = loop.beta, loop.svi.gradients, loop.held_out
    loop.objective.advance(0)  # one that was trained with before is as far as that went
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
        "data_content": fingerprint(loop.source, loop.device),
        "validation": 0 if held_out is None else len(held_out),
        "validation_content": None if held_out is None else fingerprint(held_out, loop.device),
    }


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


def check_states(callbacks: Sequence[Callback]) -> list[str]:
    """Return callbacks that have a state in words; TypeError if it cannot be written.

    One that fails to tell its state is asked again when it is needed.

    >>> from pyro_bvae.training import EarlyStopping
    >>> check_states([EarlyStopping(patience=2, monitor="loss")])
    ["pyro_bvae.training.callbacks.EarlyStopping(patience=2, monitor='loss', margin=0.0)"]
    """
    for callback in stateful(callbacks):
        try:
            state = callback.state()
        except Exception:
            continue
        try:
            to_bytes(state)
        except TypeError as error:
            place = next(n for n, other in enumerate(callbacks) if other is callback)
            raise TypeError(f"callbacks[{place}].state(): {error}") from error
    return [told(callback) for callback in stateful(callbacks)]


def check_alike(found: Sequence[Mapping[str, Any]], *, what: str = "settings") -> None:
    """Raise ValueError, naming what differs, unless all processes have the same.

    Args:
        found: what each process has, in their order.
        what: they are.

    >>> check_alike([{"seed": 0}, {"seed": 1}])
    Traceback (most recent call last):
    ValueError: processes: expected the same settings in all, but seed: process 0 has 0, ...
    """
    names = dict.fromkeys(name for each in found for name in each)
    words = []
    for name in names:
        values = [each.get(name) for each in found]
        other = next((n for n, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            words.append(f"{name}: process 0 has {values[0]!r}, process {other} {values[other]!r}")
    if words:
        raise ValueError(
            f"processes: expected the same {what} in all, but {'; '.join(words)}; give "
            "all of them the same"
        )
