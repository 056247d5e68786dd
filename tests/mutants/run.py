"""Small changes of the code, one at a time, and whether the tests notice: `make mutants`, into tests/MUTANTS.md.

A seeded sample of all changes of each file is tried, each in a copy of the project, with the tests that are about the
file, the fast ones first. A change that the tests pass with is a survivor; the word on it in MUTANTS.md is written by
hand and kept. What was noticed is remembered in .mutants while the changed file stays as it is; survivors are tried
again each time, but for those of which the word is that they change nothing.
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from mutations import Mutant, mutants
from suites import suites

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REPORT = ROOT / "tests" / "MUTANTS.md"
# What was noticed so far: by the place and text of a change, the hash of the file that it was made in.
NOTICED = ROOT / ".mutants" / "noticed.json"
# How long each test took.
TIMES = ROOT / ".mutants" / "times.json"

# Of a file: at least so many changes, and one for so many lines; with MODULE so many.
LEAST, LINES, OF_ONE = 1, 75, 40

# Seconds after which a change counts as noticed, since the tests hang; without one they end in half of it.
LONGEST = 300

# Changes that are tried at once: half of the time tests wait for servers.
AT_ONCE = 2 * (os.cpu_count() or 1)

CHANGES_NOTHING = "changes nothing"

# Tests run in forks of a process that has imported what takes them seconds.
PROCESSES = multiprocessing.get_context("forkserver")
IMPORTED = (
    *("hypothesis", "numpy", "openpyxl", "pandas", "playwright.sync_api", "pytest", "requests", "schemathesis"),
    *("sklearn.ensemble", "sklearn.linear_model", "sklearn.model_selection", "statsmodels.api"),
)


def files(module: str) -> list[str]:
    """The files of the project that are changed, or of a part of it."""
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    chosen = [each for each in tracked.stdout.split() if not each.startswith(("tests/", "bench/", "docs/", "ping"))]
    return [each for each in chosen if each.startswith(module) and (ROOT / each).read_text().count("\n") > 5]


def sample(file: str, seed: int, is_alone: bool) -> list[Mutant]:
    """Some changes of a file."""
    source = (ROOT / file).read_text()
    found = mutants(file, source)
    number = OF_ONE if is_alone else max(LEAST, source.count("\n") // LINES)
    chosen = random.Random(f"{seed} {file}").sample(found, min(number, len(found)))
    return sorted(chosen, key=lambda mutant: mutant.start)


class Copies:
    """Copies of the project, one for each thread that tries changes."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._own = threading.local()

    def of_thread(self) -> Path:
        """The copy of the thread that asks."""
        if not hasattr(self._own, "path"):
            path = self._own.path = self._folder / str(threading.get_ident())
            subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, path], check=True)
            listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
            names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
            for name in filter(None, names.split("\0")):
                if (ROOT / name).is_file():
                    (path / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / name, path / name)
            (path / ".venv").symlink_to(ROOT / ".venv")
            if (shared := ROOT.parent / "shared").is_dir() and not (self._folder / "shared").is_symlink():
                (self._folder / "shared").symlink_to(shared)
        copy: Path = self._own.path
        return copy

    def said(self) -> str:
        """What the last tests printed at their end, in each copy."""
        return "\n".join(log.read_text()[-2000:] for log in self._folder.glob("*.log"))


def is_noticed(mutant: Mutant, copies: Copies, times: Path) -> bool:
    """Whether the tests of a change's file fail with it."""
    copy = copies.of_thread()
    source = (ROOT / mutant.file).read_text()
    (copy / mutant.file).write_text(mutant.of(source))
    try:
        return not passes(suites(mutant.file), copy, times)
    finally:
        (copy / mutant.file).write_text(source)


def passes(files: Iterable[str], copy: Path, times: Path, longest: float = LONGEST) -> bool:
    """Whether the tests in these files pass in a copy, within so many seconds."""
    tests = PROCESSES.Process(target=run_tests, args=([*files], copy, times))
    tests.start()
    assert tests.pid
    tests.join(longest)
    with contextlib.suppress(ProcessLookupError):  # what is left of them too
        os.killpg(tests.pid, signal.SIGKILL)
    tests.join()
    return tests.exitcode == 0


def run_tests(files: list[str], copy: Path, times: Path) -> None:
    """Run the tests in a copy, as `python -m pytest` there, in a process of a group of its own."""
    os.setsid()
    os.chdir(copy)
    with copy.with_suffix(".log").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    # Without files of bytecode, which are told apart by second and length alone.
    os.environ |= {"PYTHONPATH": f".:{HERE}", "PYTHONDONTWRITEBYTECODE": "1", "MUTANTS_TIMES": str(times)}
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(copy), str(HERE)]
    imported = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # their assertions are not the tests'
    sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "order", *imported, *files]))


def measured(files: Iterable[str], copies: Copies, folder: Path, pool: ThreadPoolExecutor) -> Path:
    """How long each test takes without any change, in a file. Exits where they fail.

    It is remembered, by file, while nothing in the project changes.
    """
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    there = [ROOT / name for name in listed.split("\0") if (ROOT / name).is_file()]
    project = hashlib.sha256(b"".join(path.read_bytes() for path in there)).hexdigest()
    found = remembered(TIMES)
    known: dict[str, dict[str, float]] = found["files"] if found.get("project") == project else {}

    def measure(file: str) -> dict[str, float]:
        times = folder / f"{Path(file).stem}.json"
        if not passes([file], copies.of_thread(), times, 10 * LONGEST):
            sys.exit(f"The tests fail without any change:\n{copies.said()}")
        took: dict[str, float] = json.loads(times.read_text())
        return took

    left = [file for file in files if file not in known]
    for file, took in zip(left, pool.map(measure, left), strict=True):
        known[file] = took
        remember(TIMES, {"project": project, "files": known})
    together = folder / "times.json"
    together.write_text(json.dumps({name: took for each in known.values() for name, took in each.items()}))
    return together


def remembered(file: Path) -> dict[str, Any]:
    """What a file keeps from run to run; nothing at first."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def remember(file: Path, found: Mapping[str, Any]) -> None:
    """Keep it from run to run."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(found))


def key(mutant: Mutant) -> str:
    """A change, as it is remembered."""
    return f"{mutant.file} {mutant.start} {mutant.end} {mutant.text}"


def hash_of(file: str) -> str:
    """What a file is known by."""
    return hashlib.sha256((ROOT / file).read_bytes()).hexdigest()


def words() -> dict[str, str]:
    """The word on each survivor of the last report, by the change."""
    if not REPORT.exists():
        return {}
    return dict(re.findall(r"^- (`.+?`, `.+` → `.*`): (.+)$", REPORT.read_text(), re.MULTILINE))


class Rate:
    """How many of the changes that change something were noticed."""

    def __init__(self, tried: Mapping[Mutant, bool], known: Mapping[str, str]):
        counted = {
            mutant: noticed
            for mutant, noticed in tried.items()
            if noticed or not known.get(name(mutant), "").startswith(CHANGES_NOTHING)
        }
        self.noticed, self.all = sum(counted.values()), len(counted)

    def __str__(self) -> str:
        return f"{self.noticed} of {self.all}"

    def __format__(self, form: str) -> str:
        if not form:
            return str(self)
        return format(self.noticed / self.all, form) if self.all else "–"


def name(mutant: Mutant) -> str:
    """A change, as the report names it."""
    return f"`{mutant.file}`, {mutant.told((ROOT / mutant.file).read_text())}"


def report(tried: Mapping[Mutant, bool], by_seed: Mapping[int, list[Mutant]], last: int, seconds: float) -> str:
    """What was seen, as a page; in the last run so many were tried, in so many seconds."""
    known = words()
    of_all = Rate(tried, known)
    of_seeds = {seed: Rate({mutant: tried[mutant] for mutant in chosen}, known) for seed, chosen in by_seed.items()}
    of_files = {
        file: Rate({mutant: noticed for mutant, noticed in tried.items() if mutant.file == file}, known)
        for file in dict.fromkeys(mutant.file for mutant in tried)
    }
    lines = [
        "# Small faults, and whether the tests notice",
        "",
        f"`make mutants` changed one small thing at a time, {len(tried)} in all, drawn by chance, and ran the "
        f"tests of the file each time: in the last run {last}, in {seconds / 60:.0f} minutes; what was noticed before "
        "is remembered. What changes nothing is left out of the rates.",
        "",
        f"**{of_all} were noticed: {of_all:.1%}.**",
        "",
        "| seed | noticed | |",
        "| --- | --- | --- |",
        *(f"| {seed} | {rate} | {rate:.1%} |" for seed, rate in of_seeds.items()),
        "",
        "| file | noticed | |",
        "| --- | --- | --- |",
        *(f"| {file} | {rate} | {rate:.0%} |" for file, rate in of_files.items()),
        "",
        "## Not noticed",
        "",
        *(f"- {name(mutant)}: {known.get(name(mutant), '?')}" for mutant, noticed in tried.items() if not noticed),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", default="", help="the start of a file's path: more changes of it alone, no report")
    parser.add_argument("--seeds", default="1", help="with commas")
    args = parser.parse_args()
    by_seed = {
        int(seed): [mutant for file in files(args.module) for mutant in sample(file, int(seed), bool(args.module))]
        for seed in args.seeds.split(",")
    }
    chosen = sorted({*chain.from_iterable(by_seed.values())})
    PROCESSES.set_forkserver_preload([*IMPORTED])
    began = time.monotonic()
    known = remembered(NOTICED)
    tried = {mutant: known.get(key(mutant)) == hash_of(mutant.file) for mutant in chosen}
    said = words()
    left = [
        mutant
        for mutant, noticed in tried.items()
        if not noticed and not said.get(name(mutant), "").startswith(CHANGES_NOTHING)
    ]
    random.Random(1).shuffle(left)  # so that a look at half of them tells something
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        copies = Copies(Path(folder))
        times = measured(sorted({each for mutant in left for each in suites(mutant.file)}), copies, Path(folder), pool)
        print(f"The tests pass without any change ({time.monotonic() - began:.0f} s); {len(left)} changes:", flush=True)
        asked = {pool.submit(is_noticed, mutant, copies, times): mutant for mutant in left}
        for number, done in enumerate(as_completed(asked), start=1):
            mutant = asked[done]
            tried[mutant] = done.result()
            if tried[mutant]:
                known[key(mutant)] = hash_of(mutant.file)
                remember(NOTICED, known)
            else:
                print(f"{number}: {mutant.file}:{mutant.line}: {name(mutant)}", flush=True)
    print(f"{Rate(tried, {})} were noticed: {Rate(tried, {}):.1%}, in {time.monotonic() - began:.0f} seconds")
    if not args.module:
        REPORT.write_text(report(tried, by_seed, len(left), time.monotonic() - began))


if __name__ == "__main__":
    main()
