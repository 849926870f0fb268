"""Signals while a pair is trained: those of its process are heard, those of its children act."""

import multiprocessing
import os
import signal
import threading
import time
from typing import Any

import pytest

from pyro_bvae.training.signals import stop_requests

SLEEP = 60.0


def sleep_long(runs: Any) -> None:
    runs.set()
    time.sleep(SLEEP)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_is_ended_by_sigterm():
    """As the workers of a pool are, which would wait for them for ever."""
    forks = multiprocessing.get_context("fork")
    runs = forks.Event()
    child = forks.Process(target=sleep_long, args=(runs,))
    with stop_requests(terminate=True) as requests:
        child.start()
        assert runs.wait(SLEEP)
        child.terminate()
        child.join(SLEEP / 2)
        ended = child.exitcode
        child.kill()
    assert ended == -signal.SIGTERM
    assert not requests


def test_a_signal_that_another_process_got_ends_nothing_where_none_was_awaited():
    """Where SIGTERM is ignored, and outside the main thread."""
    heard = []

    def work():
        with stop_requests(terminate=True) as requests:
            requests.signal = signal.SIGTERM
        heard.append(requests.signal)

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        work()
    finally:
        signal.signal(signal.SIGTERM, before)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [signal.SIGTERM] * 2


def test_a_terminated_process_ends_with_its_exit_code():
    ended = pytest.raises(SystemExit, match=str(128 + signal.SIGTERM))
    with ended, stop_requests(terminate=True):
        os.kill(os.getpid(), signal.SIGTERM)
