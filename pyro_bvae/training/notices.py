"""What a trainer that records its steps has to say."""

import re
import sys
import warnings
from pathlib import Path

HERE = str(Path(__file__).parent)
PAGES = r"\n\s*Trace Shapes:|\. This could be because the operator"
UNLIKE_PYRO = (
    "a recorded step was not what pyro.infer.SVI's is: something around model, guide, objective or "
    "optimiser changed where recordings do not look,"
)
MANY_KINDS = (
    "arguments come in many kinds, and steps with those that do not stay run as pyro.infer.SVI's; "
    "pass numbers that change as 0-dim tensors, and give batches one shape: here "
)


class FallbackWarning(UserWarning):
    """Steps are taken more slowly than asked: they cannot be recorded, compiled or captured."""


class RecompileWarning(UserWarning):
    """A step is compiled once more, for arguments of another kind."""


def said(error: BaseException) -> str:
    r"""Return an error's words, without the pages of shapes or backends that libraries add to them.

    These are what Pyro's traces put below an error, and torch's list of who has an operation.

    >>> said(ValueError("a scale below 0\n  Trace Shapes:\n   Param Sites:"))
    'a scale below 0'
    """
    return re.split(PAGES, str(error), maxsplit=1)[0]


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line that called the trainer.

    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     warn("recorded", FallbackWarning)
    >>> caught[0].category.__name__
    'FallbackWarning'
    """
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(HERE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
