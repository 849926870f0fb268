"""How often to do what takes time: so rarely that it takes no more than a share of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """When it is time to do something again, by how long it took the last time.

    Args:
        share: of the time that it may take, in (0, 1): after one of `s` seconds, the next is due
            in `s / share`.
        least: seconds that pass at least from one to the next.

    >>> pace = Pace(share=0.05, least=60.0)
    >>> pace.is_due()
    True
    >>> with pace.timed():
    ...     pass
    >>> pace.is_due()
    False
    """

    def __init__(self, *, share: float, least: float = 0.0) -> None:
        self.share, self.least = share, least
        self._last, self._cost = -float("inf"), 0.0

    def begin(self) -> None:
        """Count from now on as if it had just been done."""
        self._last = time.perf_counter()

    def is_due(self) -> bool:
        """Whether it is time; at first it is."""
        waited = time.perf_counter() - self._last
        return waited >= max(self.least, self._cost / self.share)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measure how long it takes."""
        start = time.perf_counter()
        yield
        self._last = time.perf_counter()
        self._cost = self._last - start
