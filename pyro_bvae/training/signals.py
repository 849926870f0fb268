"""Requests to stop that come from outside, heard between two steps."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Requests:
    """Which signal asked training to stop, 0 while none did."""

    def __init__(self) -> None:
        self.signal = 0

    def __bool__(self) -> bool:
        return self.signal != 0


@contextmanager
def stop_requests(*, terminate: bool) -> Iterator[Requests]:
    """Turn Ctrl-C, and with `terminate` SIGTERM, into a request that the loop reads between steps.

    A second signal does at once what it did before. Handlers are set in the main thread only, and
    put back at the end; signals that are ignored or not Python's stay so. After SIGTERM the end
    is as without this: the earlier handler is called, or SystemExit(143) raised. Processes forked
    meanwhile, such as those of a pool, are ended by a signal as if this were not there.

    >>> with stop_requests(terminate=False) as requests:
    ...     signal.raise_signal(signal.SIGINT)
    >>> requests.signal == signal.SIGINT
    True
    """
    requests, process = Requests(), os.getpid()
    before = _handlers(terminate) if threading.current_thread() is threading.main_thread() else {}

    def request(number: int, frame: FrameType | None) -> None:
        if requests or os.getpid() != process:
            _restore(before)
            signal.raise_signal(number)
        requests.signal = number

    for number in before:
        signal.signal(number, request)
    try:
        yield requests
    finally:
        _restore(before)
    if requests.signal == signal.SIGTERM and signal.SIGTERM in before:
        if callable(before[signal.SIGTERM]):
            signal.raise_signal(signal.SIGTERM)
        else:
            raise SystemExit(128 + signal.SIGTERM)


def _handlers(terminate: bool) -> dict[int, Any]:
    """The handlers to be replaced, by signal."""
    found: dict[int, Any] = {}
    if callable(handler := signal.getsignal(signal.SIGINT)):
        found[signal.SIGINT] = handler
    handler = signal.getsignal(signal.SIGTERM)
    if terminate and (callable(handler) or handler == signal.SIG_DFL):
        found[signal.SIGTERM] = handler
    return found


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
