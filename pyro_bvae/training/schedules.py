"""Values that change while training, such as β: functions of the step."""

import math

from pyro_bvae.types import Schedule


def linear(start: float, end: float, *, steps: int) -> Schedule:
    """Go from `start` to `end` in a straight line over `steps` steps, then stay at `end`.

    References: Bowman et al. (2016), Generating Sentences from a Continuous Space.

    >>> beta = linear(0.0, 4.0, steps=100)
    >>> beta(0), beta(50), beta(1000)
    (0.0, 2.0, 4.0)
    """
    _check_steps(steps)
    return lambda step: start + (end - start) * min(step / steps, 1.0)


def cosine(start: float, end: float, *, steps: int) -> Schedule:
    """Go from `start` to `end` along half a cosine over `steps` steps, then stay at `end`.

    References: Loshchilov, Hutter (2017), SGDR: Stochastic Gradient Descent with Warm Restarts.

    >>> beta = cosine(0.0, 4.0, steps=100)
    >>> beta(0), round(beta(50), 6), beta(1000)
    (0.0, 2.0, 4.0)
    """
    _check_steps(steps)
    return lambda step: end - (end - start) * (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2


def cyclical(start: float, end: float, *, steps: int, ramp: float = 0.5) -> Schedule:
    """Repeat cycles of `steps` steps: a straight line from `start` to `end`, then stay at `end`.

    Args:
        ramp: the share of each cycle that the line takes, in (0, 1].

    References: Fu et al. (2019), Cyclical Annealing Schedule: A Simple Approach to Mitigating KL
        Vanishing.

    >>> beta = cyclical(0.0, 4.0, steps=100)
    >>> beta(25), beta(75), beta(125)
    (2.0, 4.0, 2.0)
    """
    _check_steps(steps)
    if not 0 < ramp <= 1:
        raise ValueError(f"ramp: expected a share of the cycle in (0, 1], got {ramp}")
    return lambda step: start + (end - start) * min(step % steps / (ramp * steps), 1.0)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
