"""Files without a name for what is too much for memory: on a disk, and gone when they are closed."""

import errno
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

# So many bytes of a file stay in memory.
MOST_IN_MEMORY = 4_000_000

# What names the folder, to the standard library too, and the folders where none of them names one.
VARIABLES = ("TMPDIR", "TEMP", "TMP")
FOLDERS = ("/var/tmp", "/tmp")


def file() -> IO[bytes]:
    """A new file. Writing more than `MOST_IN_MEMORY` raises `OSError` where there is no disk for it."""
    return _Spooled(_folder())


class _Spooled(tempfile.SpooledTemporaryFile[bytes]):
    def __init__(self, folder: str | None):
        self.folder = folder
        super().__init__(MOST_IN_MEMORY, dir=folder)

    def rollover(self) -> None:
        if self.folder is None:
            raise OSError(errno.ENOSPC, "no temporary folder is on a disk")
        super().rollover()


def _folder() -> str | None:
    """The folder that the environment names, or else the first that is on a disk.

    A container's /tmp is often in memory, where a file of a gigabyte would end the service. It is looked anew each
    time, unlike `tempfile.gettempdir`: a disk that is full or away may be there again.
    """
    named = [folder for name in VARIABLES if (folder := os.environ.get(name))]
    usable = (folder for folder in (*named, *FOLDERS) if os.access(folder, os.W_OK))
    return next((folder for folder in usable if folder in named or not _is_in_memory(folder)), None)


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
