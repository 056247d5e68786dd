"""What is not to be trusted is read by a process of its own, which holds itself to limits."""

import contextlib
import os
import sys
from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """The environment in which a process finds this package and those that it needs, and none of the keys."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("SERVING_")}
    return {**others, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]), **more}


def interpreter() -> str:
    """Python's program: a server that has Python inside, as uWSGI does, gives itself as `sys.executable`."""
    if "python" in Path(sys.executable or "").name.lower():
        return sys.executable
    return str(Path(sys.prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))


def give_back() -> None:
    """Give freed memory back to the system: what a model file was read from is more than what it becomes.

    glibc keeps it, and has a function for this; other C libraries have none.
    """
    import ctypes  # noqa: PLC0415 (it is needed where a model is read)

    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def hold_to(seconds: int, memory: int) -> None:
    """Limit what this process may use: seconds of work, and bytes of address space.

    Where the system runs out of memory, it ends this process and not the one that serves. On Windows there are no
    limits, and on macOS none of memory.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(ImportError):
        import resource  # noqa: PLC0415

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
