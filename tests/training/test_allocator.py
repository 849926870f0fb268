"""Freed memory is kept inside the block, and given back after it."""

import os
import platform
import subprocess
import sys
import threading

import pytest

from pyro_bvae.training import allocator
from pyro_bvae.training.allocator import ADAPTED, KEEP, is_tuned, kept_memory


@pytest.fixture
def calls(monkeypatch):
    """Record what the C library is told, in place of telling it."""
    seen = []

    class Library:
        def mallopt(self, option, value):
            seen.append((option.value, value.value))
            return 1

        def malloc_trim(self, pad):
            seen.append("trim")
            return 1

    monkeypatch.setattr(allocator, "_glibc", Library)
    return seen


def test_set_at_the_start_and_undone_at_the_end(calls):
    with kept_memory():
        assert calls == list(KEEP.items())
    assert calls == [*KEEP.items(), *ADAPTED.items(), "trim"]


def test_undone_after_an_exception(calls):
    with pytest.raises(KeyError), kept_memory():
        raise KeyError
    assert calls[-1] == "trim"
    with kept_memory():
        pass
    assert calls.count("trim") == 2


def test_nested_blocks_count_as_one(calls):
    with kept_memory(), kept_memory(), kept_memory(enabled=False):
        pass
    assert calls == [*KEEP.items(), *ADAPTED.items(), "trim"]


def test_another_thread_may_leave_first(calls):
    inside, leave = threading.Event(), threading.Event()

    def other():
        with kept_memory():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with kept_memory():
        thread.start()
        assert inside.wait(10)
    assert "trim" not in calls
    leave.set()
    thread.join(10)
    assert calls[-1] == "trim"


def test_disabled_does_nothing(calls):
    with kept_memory(enabled=False):
        pass
    assert calls == []


@pytest.mark.parametrize(
    ("environment", "tuned"),
    [
        ({}, False),
        ({"PATH": "/malloc"}, False),
        ({"MALLOC_TRIM_THRESHOLD_": "1"}, True),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"}, True),
        ({"GLIBC_TUNABLES": "glibc.rtld.nns=2"}, False),
        ({"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"}, True),
        ({"LD_PRELOAD": "/usr/lib/libtcmalloc.so"}, True),
    ],
)
def test_who_has_tuned_the_allocator_is_left_alone(environment, tuned):
    assert is_tuned(environment) == tuned


@pytest.mark.parametrize("reason", ["another C library", "tuned by the environment"])
def test_no_library_to_be_told(monkeypatch, reason):
    if reason == "another C library":
        monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    else:
        monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "4096")
    assert allocator._glibc() is None
    with kept_memory():
        pass


FAULTS = """
import resource
from pyro_bvae.training.allocator import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        bytearray(b"x") * (64 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
with kept_memory():
    faults()
    inside = faults()
print(before, inside, faults())
"""


def test_pages_are_not_faulted_in_again():
    """Blocks above 32 MiB are mapped anew each time, except inside the block, on glibc.

    Pages may be huge, of 2 MiB: at least 32 faults a block; inside, at most a stray few.
    """
    environment = {k: v for k, v in os.environ.items() if not is_tuned({k: v})}
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    before, inside, after = map(int, done.stdout.split())
    assert min(before, after) >= 10 * 32
    if allocator._glibc() is not None:
        assert inside <= before // 10, (before, inside, after)
