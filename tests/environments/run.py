"""Type what docs/environments.md says, with each manager that a package index has, and write RESULTS.md.

It takes some three minutes, most of them pip's.
"""

import os
import platform
import re
import sys
import tempfile
from importlib.metadata import version as installed
from pathlib import Path

from conftest import GUNICORN, run, running
from managers import CommandFailed, Seen, differences, follow, install, locked, version

PAGE = Path(__file__).parent / "RESULTS.md"

# The sections of the document, and the package of each manager.
MANAGERS = {"venv and pip": None, "uv": "uv", "Poetry": "poetry"}


def followed(title: str, package: str | None, folder: Path) -> tuple[str, Seen]:
    """The manager's version, and what following its section showed: with empty caches, in a folder of its own."""
    caches = {f"{name}_CACHE_DIR": str(folder / "caches" / name) for name in ("PIP", "UV", "POETRY")}
    if package is None:
        seen = follow(title, folder, **caches)
        return f"pip {seen.packages['pip']}", seen
    environment = {**caches, "PATH": f"{install(package, folder)}:{os.environ['PATH']}"}
    return version(package, **environment), follow(title, folder, **environment)


def row(title: str, package: str | None, expected: str) -> str:
    """A line of the page; raises AssertionError where the environment or its answer is another one."""
    with tempfile.TemporaryDirectory() as name:
        number, seen = followed(title, package, Path(name))
    assert not differences(seen), "; ".join(differences(seen))
    assert seen.answer == expected, seen.answer
    count = len(locked(seen.python))
    return f"| {title} | {number} | {seen.python} | {seen.seconds:.0f} s | {count}, as locked | the same |"


def main() -> None:
    with running(GUNICORN) as service:
        expected = run("predict-test.py", "--url", service.url).stdout.splitlines()[0]
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    lines = [
        "# Environments other than Pipenv's",
        "",
        "Made by `make environments`: the commands of docs/environments.md, typed in a clean copy of the repository,",
        "with empty caches, Python's own pip, and the newest uv and Poetry.",
        "",
        f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores; {platform.system()}.",
        "",
        f"With Pipenv {installed('pipenv')} (`make serve`) and Python {platform.python_version()} "
        "`python predict-test.py` prints",
        "",
        f"    {expected}",
        "",
        "| manager | version | Python | set up in | packages | answer |",
        "| --- | --- | --- | --: | --- | --- |",
    ]
    failed = False
    for title, package in MANAGERS.items():
        try:
            lines.append(row(title, package, expected))
        except (CommandFailed, AssertionError) as wrong:
            # What went wrong is printed, and not written: it may name a package index.
            print(wrong, file=sys.stderr)
            lines.append(f"| {title} | | | | | **failed** |")
            failed = True
        print(lines[-1], flush=True)
        PAGE.write_text("\n".join([*lines, ""]))
    if failed:
        sys.exit("a manager failed")


if __name__ == "__main__":
    main()
