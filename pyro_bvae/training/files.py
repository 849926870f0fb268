"""Files that are replaced whole or not at all."""

import os
from pathlib import Path


def replace(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file beside `path`, then put it in its place in one step.

    Args:
        path: the file.
        content: what it shall hold.
        durable: wait until it is on the disk, so that it survives the loss of power too.

    Raises:
        OSError: it could not be written; an older file of that name is as it was, and nothing
            is left beside it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace(Path(folder) / "greeting", b"hello")
    ...     (Path(folder) / "greeting").read_bytes()
    b'hello'
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable and os.name == "posix":
            _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"{error.strerror} while writing {len(content)} bytes; what was saved before is "
            "intact; make room, then go on with resume=True",
            str(path),
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
