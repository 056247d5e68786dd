"""Files without a name for what is too much for memory: on a disk, and gone when they are closed."""

import errno
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

# So many bytes of a file stay in memory.
MOST_IN_MEMORY = 4_000_000

# What names the folder, to the standard library too.
VARIABLES = ("TMPDIR", "TEMP", "TMP")


def file() -> IO[bytes]:
    """A new file. Writing more than `MOST_IN_MEMORY` raises `OSError` where there is no disk for it."""
    return _Spooled(MOST_IN_MEMORY, dir=_folder())


class _Spooled(tempfile.SpooledTemporaryFile[bytes]):
    def rollover(self) -> None:
        if _folder() is None:
            raise OSError(errno.ENOSPC, "no temporary folder is on a disk")
        super().rollover()


def _folder() -> str | None:
    """The folder that the environment names, where it can be written to, or else the first that is on a disk.

    A container's /tmp is often in memory, where a file of a gigabyte would end the service. None is not remembered: a
    disk that is full now may have room later.
    """
    try:
        usual = tempfile.gettempdir()
    except FileNotFoundError:  # none can be written to
        return None
    if Path(usual).resolve() in (Path(named).resolve() for name in VARIABLES if (named := os.environ.get(name))):
        return usual
    folders = (folder for folder in ("/var/tmp", usual) if os.access(folder, os.W_OK))
    return next((folder for folder in folders if not _is_in_memory(folder)), None)


@cache
def _is_in_memory(folder: str) -> bool:
    """Whether what is written there takes memory, as far as Linux tells."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    # "36 35 98:0 / /where options - type source options": of two at one place the later counts.
    kinds = {line.split()[4]: line.partition(" - ")[2].split()[0] for line in lines}
    real = Path(folder).resolve()
    nearest = next((str(place) for place in (real, *real.parents) if str(place) in kinds), "")
    return kinds.get(nearest) in ("tmpfs", "ramfs")
