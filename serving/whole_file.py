"""A file that is written whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex


def write(path: Path, data: bytes) -> None:
    """Write a file; it appears under its name once it is complete, so a failure leaves an older one as it was.

    Of a symbolic link it is the file that it leads to. Raises `OSError`, also where there is no regular file.
    """
    with _unfinished(path) as unfinished:
        with unfinished.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(os.path.realpath(path))


def require(path: Path) -> None:
    """Raise `OSError` where a file cannot be written, before there is something to write."""
    with _unfinished(path) as unfinished:
        unfinished.touch()


@contextlib.contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """The name of a file beside the one that is to be; what is left of it goes."""
    target = Path(os.path.realpath(path))
    # Not a name that one before may have left: in a container each has the same process id.
    unfinished = target.parent / f".{target.name}.{token_hex(4)}"
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, f"it is {'a folder' if path.is_dir() else 'no regular file'}")
        yield unfinished
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
