"""A file that is written whole or not at all."""

import contextlib
import os
from pathlib import Path
from secrets import token_hex


def write(path: Path, data: bytes) -> None:
    """Write a file; it appears under its name once it is complete, so a failure leaves an older one as it was.

    Raises `OSError`.
    """
    # Not a name that one before may have left: in a container each has the same process id.
    unfinished = path.parent / f".{path.name}.{token_hex(4)}"
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
