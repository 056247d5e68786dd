"""A model file is tried in a process of its own before it is served: whatever is in it, it harms nothing.

That process has a limit of time and of memory, where the system knows such limits, and no more threads than it
needs. The bytes that were tried are the bytes that are served.
"""

import contextlib
import hashlib
import os
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from serving import about, model
from serving.model import Model
from serving.pickles import BadModel

# A trial's limits: seconds of work, and bytes of address space. (With half of these the import of scikit-learn hangs.)
MOST_SECONDS, MOST_MEMORY = 10, 1_000_000_000

# Bytes of a file: what is read takes some times as many.
MOST_BYTES = 300_000_000

# Characters of a reason, which may quote the file.
LONGEST_REASON = 500

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


class Verdict(msgspec.Struct):
    """What came of a trial: the SHA-256 of the bytes, and why they cannot be served, if so."""

    sha256: str
    reason: str = ""


def read(path: Path) -> Model:
    """The model of a file that was tried. Raises `BadModel` where it cannot be served, and `OSError`."""
    with _opened(path) as file:
        try:
            verdict = _tried(file, path.name) if hasattr(os, "posix_spawn") else None
            if verdict and verdict.reason:
                raise BadModel(verdict.reason)
            data = file.read(MOST_BYTES)
            if verdict and hashlib.sha256(data).hexdigest() != verdict.sha256:
                raise BadModel("it was written to while it was tried; have it taken over once it is whole")
            return model.of(data, path.name)
        except BadModel as error:
            raise BadModel(f"{path}: {error}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
        raise BadModel(f"{path}: it is a {'folder' if stat.S_ISDIR(found.st_mode) else 'pipe or a device'}")
    if found.st_size > MOST_BYTES:
        raise BadModel(f"{path}: it has {found.st_size:,} bytes, and can have {MOST_BYTES:,}")
    with path.open("rb", buffering=0) as file:
        yield file


def _tried(file: IO[bytes], name: str) -> Verdict:
    """The verdict on an open file, which is read from its beginning again afterwards."""
    import posix  # noqa: PLC0415 (Windows has none)

    environment = {**os.environ, **ONE_THREAD}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    receiving, sending = os.pipe()
    # Not by subprocess or os: in gunicorn's main process gevent has replaced what starts processes and waits for them.
    child = posix.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "serving.trial", name],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, file.fileno(), 0),
            (os.POSIX_SPAWN_DUP2, sending, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
    )
    posix.close(sending)
    with open(receiving, "rb") as pipe:  # noqa: PTH123
        said = pipe.read()
    ended = None
    with contextlib.suppress(ChildProcessError):  # gunicorn's main process was faster
        ended = os.waitid(os.P_PID, child, os.WEXITED)
    file.seek(0)
    try:
        return msgspec.json.decode(said, type=Verdict)
    except msgspec.DecodeError:
        by = signal.Signals(ended.si_status).name if ended and ended.si_code != os.CLD_EXITED else "something"
        why = f"took more than {MOST_SECONDS} seconds" if by == "SIGXCPU" else f"was ended by {by}"
        return Verdict("", f"the process that tried it {why}")


def verdict(data: bytes, name: str) -> Verdict:
    """What comes of reading, testing and describing the model in these bytes, in this process."""
    try:
        found = model.of(data, name)
        model.test(found)
        msgspec.json.encode(about.served(found))
        reason = ""
    except BadModel as error:
        reason = str(error)
    except MemoryError:
        reason = f"it takes more than {MOST_MEMORY / 1e9:.0f} GB of memory"
    except Exception as error:  # what is in a file can raise anything
        reason = f"it cannot be read: {type(error).__name__}: {error}"
    return Verdict(hashlib.sha256(data).hexdigest(), " ".join(reason.split())[:LONGEST_REASON])


def _limit() -> None:
    """Hold this process to the limits. On Windows there are none."""
    with contextlib.suppress(ImportError):
        import resource  # noqa: PLC0415

        resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(ValueError, OSError):  # macOS knows no such limit
            resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


if __name__ == "__main__":
    _limit()
    sys.stdout.buffer.write(msgspec.json.encode(verdict(sys.stdin.buffer.read(), sys.argv[1])))
