"""A model file is tried in a process of its own before it is served: whatever is in it, it harms nothing.

That process has a limit of time and of memory, where the system knows such limits, and no more threads than it
needs. The bytes that were tried are the bytes that are served.
"""

import contextlib
import os
import signal
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from serving import limits
from serving.model import file
from serving.model.base import Model
from serving.model.file import Source
from serving.model.stand_ins import BadModel

# A trial's limits: seconds of work, and bytes of address space. (With half of these the import of scikit-learn hangs.)
MOST_SECONDS, MOST_MEMORY = 10, 1_000_000_000

# Bytes of a file: what is read takes some times as many.
MOST_BYTES = 300_000_000

# Characters of a reason, which may quote the file.
LONGEST_REASON = 500

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


class Header(msgspec.Struct):
    """What a trial is told before the bytes: the names of the files, their sizes, and the schema's JSON."""

    names: list[str]
    sizes: list[int]
    schema: str


def read(paths: Sequence[Path], schema: Path | None = None) -> Model:
    """The model of one file, or of two, that was tried, with the schema of a file of its own where there is one.

    Raises `BadModel` where it cannot be served, and `OSError`.
    """
    source = tried(paths, schema)
    try:
        found = file.of(source)
    except BadModel as error:
        raise _of(paths, error) from error
    source.data.clear()
    limits.give_back()
    return found


def tried(paths: Sequence[Path], schema: Path | None = None) -> Source:
    """What `read` reads a model from, once it was tried: for those who read it elsewhere. Raises as that does."""
    try:
        source = _source(paths, schema)
        if hasattr(os, "posix_spawn") and (reason := _refusal(source)):
            raise BadModel(reason)
        return source
    except BadModel as error:
        raise _of(paths, error) from error


def _of(paths: Sequence[Path], error: BadModel) -> BadModel:
    return BadModel(f"{','.join(map(str, paths))}: {error}")


def _source(paths: Sequence[Path], schema: Path | None) -> Source:
    """The bytes of files, none of which changed while they were read. Raises `BadModel` and `OSError`."""
    files = [*paths, *([schema] if schema else [])]
    before = [_state(path) for path in files]
    data = [path.read_bytes() for path in files]
    if [_state(path) for path in files] != before or [len(each) for each in data] != [size for _, _, size in before]:
        raise BadModel("it was written to while it was read; have it taken over once it is whole")
    return Source([path.name for path in paths], data[: len(paths)], data[len(paths)] if schema else b"")


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
        raise BadModel(f"{path.name} is a {'folder' if stat.S_ISDIR(found.st_mode) else 'pipe or a device'}")
    if found.st_size > MOST_BYTES:
        raise BadModel(f"{path.name} has {found.st_size:,} bytes, and can have {MOST_BYTES:,}")
    return found.st_ino, found.st_mtime_ns, found.st_size


def _refusal(source: Source) -> str:
    """Why these bytes cannot be served, if so."""
    import posix  # noqa: PLC0415 (Windows has none)

    (asking, telling), (hearing, saying) = os.pipe(), os.pipe()
    # Not by subprocess or os: in gunicorn's main process gevent has replaced what starts processes and waits for them.
    python = limits.interpreter()
    try:
        child = posix.posix_spawn(
            python,
            [python, "-m", "serving.model.trial"],
            limits.environment(**ONE_THREAD),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, asking, 0),
                (os.POSIX_SPAWN_DUP2, saying, 1),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
        )
    except OSError:
        posix.close(telling)
        posix.close(hearing)
        raise
    finally:
        posix.close(asking)
        posix.close(saying)
    with contextlib.suppress(BrokenPipeError), open(telling, "wb") as pipe:  # noqa: PTH123
        header = Header(source.names, [*map(len, source.data)], source.schema.decode("utf-8", "replace"))
        pipe.writelines([msgspec.json.encode(header), b"\n", *source.data])
    with open(hearing, "rb") as pipe:  # noqa: PTH123
        said = pipe.read()
    ended = None
    with contextlib.suppress(ChildProcessError):  # gunicorn's main process was faster
        ended = os.waitid(os.P_PID, child, os.WEXITED)
    try:
        return msgspec.json.decode(said, type=str)
    except msgspec.DecodeError:
        by = signal.Signals(ended.si_status).name if ended and ended.si_code != os.CLD_EXITED else "something"
        why = f"took more than {MOST_SECONDS} seconds" if by == "SIGXCPU" else f"was ended by {by}"
        return f"the process that tried it {why}"


def verdict(source: Source) -> str:
    """Why the model in these bytes cannot be read, tested and described, if so; in this process."""
    try:
        found = file.of(source)
        file.test(found, is_its_own=not source.schema)
        msgspec.json.encode([found.schema, found.about])
        reason = ""
    except BadModel as error:
        reason = str(error)
    except MemoryError:
        reason = f"it takes more than {MOST_MEMORY / 1e9:.0f} GB of memory"
    except Exception as error:  # what is in a file can raise anything
        reason = f"it cannot be read: {type(error).__name__}: {error}"
    return " ".join(reason.split())[:LONGEST_REASON]


if __name__ == "__main__":
    limits.hold_to(MOST_SECONDS, MOST_MEMORY)
    told = msgspec.json.decode(sys.stdin.buffer.readline(), type=Header)
    given = Source(told.names, [sys.stdin.buffer.read(size) for size in told.sizes], told.schema.encode())
    sys.stdout.buffer.write(msgspec.json.encode(verdict(given)))
