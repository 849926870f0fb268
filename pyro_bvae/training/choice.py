"""Which way of taking steps is fastest, counting what it costs to get there.

Recording a step takes two steps in Python at some hundred times their normal length; compiling the
recording takes seconds. Both pay where enough steps are left. What a mode would gain is guessed
until it has been measured: the figures below are what was measured on small and large networks on
a CPU, and are meant to err towards the mode at hand. What compiling takes is guessed from the
recording, once there is one; before, it is taken for little, since a recording costs less than a
compile that is missed.
"""

import statistics
import time
from collections.abc import Mapping

import torch

from pyro_bvae.training.compiler_cache import Prospect

MEASURED = 5
WARM_UP = {"eager": 2, "recorded": 4, "compiled": 3}

RECORDING_FACTOR, RECORDING_MOST = 200.0, 1.2
UNKNOWN = Prospect(seconds=4.0)
PYTHON, PYTHON_MOST = 0.45, 1.5e-3
KERNELS, KERNELS_MOST = 0.5, 0.75e-3


def next_mode(seconds: Mapping[str, float], left: int, *, compiling: Prospect = UNKNOWN) -> str:
    r"""Return how to take the next steps: "eager", "recorded" or "compiled".

    With :math:`t` seconds per step now, :math:`g` the seconds a mode is expected to save per step
    and :math:`c` the seconds it takes to get there, it is worth trying if :math:`g \cdot left > c`.
    A mode that was tried costs nothing to return to, so the fastest known one is the alternative.

    Args:
        seconds: per step, of the modes measured so far, "eager" among them.
        left: steps still to be taken.
        compiling: what it costs and saves to compile a recording, as far as that is known.

    >>> next_mode({"eager": 0.002}, left=100)
    'eager'
    >>> next_mode({"eager": 0.002}, left=1000)
    'recorded'
    >>> next_mode({"eager": 0.002, "recorded": 0.001}, left=100_000)
    'compiled'
    >>> next_mode({"eager": 0.002, "recorded": 0.001}, left=10_000, compiling=Prospect(17.0))
    'recorded'
    >>> next_mode({"eager": 0.002, "recorded": 0.003, "compiled": 0.004}, left=100_000)
    'eager'
    """
    best = min(seconds, key=lambda mode: seconds[mode])
    if "compiled" in seconds:
        return best
    recorded = seconds.get("recorded", _if_recorded(seconds["eager"]))
    gain = seconds[best] - _if_compiled(recorded, compiling.share)
    if "recorded" in seconds:
        return "compiled" if gain * left > compiling.seconds else best
    cost = min(RECORDING_FACTOR * seconds["eager"], RECORDING_MOST)
    worth = (seconds[best] - recorded) * left > cost or gain * left > cost + compiling.seconds
    return "recorded" if worth else best


def _if_recorded(eager: float) -> float:
    """Without the Python of model, guide and handlers, which takes at most so long."""
    return eager - min(PYTHON * eager, PYTHON_MOST)


def _if_compiled(recorded: float, share: float) -> float:
    """Without a call for each operation, and with fewer passes over memory."""
    return recorded - min(KERNELS * recorded, KERNELS_MOST) - share * recorded


class Choice:
    """Times steps as they are taken, and says how to take the next.

    Steps of a new mode are timed after a few to warm up, in which they are recorded and compiled.

    Args:
        steps: how many there will be.

    Attributes:
        mode: how to take the next step.
        seconds: the median time per step of the modes tried so far.
        compiling: what a compile is going to cost and save, to be set once there is a recording.

    >>> choice = Choice(steps=1000)
    >>> for _ in range(7):
    ...     choice.add(0.002)
    >>> choice.mode, choice.seconds
    ('recorded', {'eager': 0.002})
    """

    def __init__(self, steps: int) -> None:
        self.mode = "eager"
        self.seconds: dict[str, float] = {}
        self.compiling = UNKNOWN
        self._left = steps
        self._times: list[float] = []

    def settled(self) -> bool:
        """Whether the mode has been timed, and is kept."""
        return self.mode in self.seconds

    def add(self, seconds: float) -> None:
        """Note how long a step took."""
        self._left -= 1
        self._times.append(seconds)
        warm_up = WARM_UP[self.mode]
        if len(self._times) == warm_up + MEASURED:
            self.seconds[self.mode] = statistics.median(self._times[warm_up:])
            self.mode = next_mode(self.seconds, self._left, compiling=self.compiling)
            self._times = []

    def give_up(self) -> None:
        """Stay with Pyro's steps, because the others cannot be taken."""
        self.mode = "eager"
        self.seconds.setdefault("eager", 0.0)


def now() -> float:
    """Return the time, when the device has done what it was told."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
