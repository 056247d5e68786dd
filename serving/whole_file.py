"""A file that is written whole or not at all."""

import contextlib
import os
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Write a file; it appears under its name once it is complete, so a failure leaves an older one as it was.

    Raises `OSError`.
    """
    unfinished = path.parent / f".{path.name}.{os.getpid()}"
    try:
        with unfinished.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
