"""What a trainer that records its steps has to say."""

import sys
import warnings
from pathlib import Path

HERE = str(Path(__file__).parent)


class FallbackWarning(UserWarning):
    """Steps are taken more slowly than asked: they cannot be recorded, compiled or captured."""


class RecompileWarning(UserWarning):
    """A step is compiled once more, for arguments of another kind."""


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
