"""Have the C library keep the memory that is freed, for as long as training needs it again."""

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
ADAPTED = {MMAP_THRESHOLD: 32 * 2**20, TRIM_THRESHOLD: 64 * 2**20}
KEEP = {MMAP_THRESHOLD: 2**30, TRIM_THRESHOLD: 2**31 - 1}

_lock = threading.Lock()
_users = 0


@contextmanager
def kept_memory(*, enabled: bool = True) -> Iterator[None]:
    """Keep freed memory in the process while inside, and give it back at the end.

    A training step frees and asks for the same large activation buffers again and again. glibc
    by default returns every large one to the kernel and faults it in again, page by page, which
    on a CPU can take as long as the arithmetic. Inside, blocks of up to 1 GiB stay on its heap.

    The setting belongs to the process: other threads have it too. Blocks may be nested, within
    and across threads; the last to leave trims the heap and sets the thresholds to 32 and 64 MiB.
    glibc cannot be asked what they were. It starts at 128 KiB and raises them by itself to the
    largest block freed, up to these 32 and 64 MiB, until they are set once: so they are what
    any process that handled blocks as large as training's would have, but they no longer move.

    Nothing happens where the C library is not glibc, or where the environment says how it is to
    be tuned (`MALLOC_MMAP_THRESHOLD_`, `MALLOC_TRIM_THRESHOLD_`, `GLIBC_TUNABLES` with `malloc`),
    or with another allocator preloaded (`LD_PRELOAD`).

    Args:
        enabled: whether to do anything.

    References: mallopt(3), malloc_trim(3).

    >>> with kept_memory():
    ...     total = sum(range(10))
    """
    library = _glibc() if enabled else None
    if library is None:
        yield
        return
    _enter(library)
    try:
        yield
    finally:
        _leave(library)


def _enter(library: ctypes.CDLL) -> None:
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _set(library, KEEP)


def _leave(library: ctypes.CDLL) -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            _set(library, ADAPTED)
            library.malloc_trim(ctypes.c_size_t(0))


def _set(library: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        library.mallopt(ctypes.c_int(option), ctypes.c_int(value))


def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc and nobody else has tuned its allocator."""
    if platform.libc_ver()[0] != "glibc" or is_tuned(os.environ):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def is_tuned(environment: os._Environ[str] | dict[str, str]) -> bool:
    """Whether the environment says how memory is to be allocated.

    >>> is_tuned({"MALLOC_ARENA_MAX": "2"}), is_tuned({"HOME": "/root"})
    (True, False)
    """
    return (
        any(name.startswith("MALLOC_") for name in environment)
        or "malloc" in environment.get("GLIBC_TUNABLES", "")
        or "alloc" in environment.get("LD_PRELOAD", "")
    )
