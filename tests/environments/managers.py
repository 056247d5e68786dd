"""What docs/environments.md has readers type, typed in a clean folder.

Knows the document's form: the indented lines of a section are commands. The last asks the service, the one before it
starts the service, and the others set up what both need.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from conftest import ROOT, running
from packaging.markers import Marker
from packaging.utils import canonicalize_name

CATEGORIES = ["default", "develop", "score", "notebook"]

# venv puts these into a new environment (setuptools up to Python 3.11), and others leave them out.
BEFORE = {"pip", "setuptools"}

# Run by the environment's own Python.
WHAT_IT_HAS = """
import importlib.metadata, json, platform
packages = {each.name: each.version for each in importlib.metadata.distributions()}
print(json.dumps({"python": platform.python_version(), "packages": packages}))
"""


class Seen(NamedTuple):
    """What following a section showed."""

    python: str
    packages: dict[str, str]  # versions by name
    seconds: float  # that setting up took
    answer: str


class CommandFailed(Exception):
    """A command of the document ended with an error; its message has both."""


def install(package: str, folder: Path) -> Path:
    """A folder for PATH with nothing in it but a manager's newest version, which has an environment of its own."""
    environment, programs = folder / package, folder / f"{package}-alone"
    _run([sys.executable, "-m", "venv", str(environment)], folder, {})
    _run([str(environment / "bin" / "pip"), "install", "--quiet", package], folder, {})
    programs.mkdir()
    (programs / package).symlink_to(environment / "bin" / package)
    return programs


def version(command: str, **environment: str) -> str:
    """The number that a program tells as its version."""
    [number] = re.findall(r"\d+(?:\.\d+)+", _run([command, "--version"], ROOT, environment))[:1]
    return number


def follow(title: str, folder: Path, **environment: str) -> Seen:
    """Type the commands of a section in a copy of what is committed, or is to be; raises CommandFailed.

    Nothing is added but a free port, to the last two of them.
    """
    copy = folder / "copy"
    _run(["git", "checkout-index", "--all", f"--prefix={copy}/"], ROOT, {})
    *set_up, serve, ask = map(shlex.split, _commands(copy / "docs" / "environments.md", title))
    environment |= {"VIRTUAL_ENV": "", "CONDA_PREFIX": ""}  # what is active here is not to be touched
    started = time.monotonic()
    for command in set_up:
        _run(command, copy, environment)
    seconds = time.monotonic() - started
    has = json.loads(_run([*ask[:-1], "-c", WHAT_IT_HAS], copy, environment))
    with running([*serve, "--bind", "127.0.0.1:{port}"], cwd=copy, **environment) as service:
        answer = _run([*ask, "--url", service.url], copy, environment).splitlines()[0]
    packages = {canonicalize_name(name): number for name, number in has["packages"].items()}
    return Seen(has["python"], packages, seconds, answer)


def locked(python: str) -> dict[str, str]:
    """The versions that the lock has for this platform and a version of Python, by name."""
    lock = json.loads((ROOT / "Pipfile.lock").read_text())
    here = {"python_version": ".".join(python.split(".")[:2]), "python_full_version": python}
    return {
        canonicalize_name(name): package["version"].removeprefix("==")
        for category in CATEGORIES
        for name, package in lock[category].items()
        if "markers" not in package or Marker(package["markers"]).evaluate(here)
    }


def differences(seen: Seen) -> list[str]:
    """The packages that are not as the lock has them."""
    expected = locked(seen.python)
    return [
        f"{name} {seen.packages.get(name, 'is missing')}, locked {expected.get(name, 'not at all')}"
        for name in sorted({*seen.packages, *expected} - BEFORE)
        if seen.packages.get(name) != expected.get(name)
    ]


def _commands(document: Path, title: str) -> list[str]:
    section = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", document.read_text(), re.MULTILINE | re.DOTALL)
    assert section, title
    return re.findall(r"^    (\S.*)$", section[1], re.MULTILINE)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CommandFailed(f"{shlex.join(command)}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout
