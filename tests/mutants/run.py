"""Small changes of the code, one at a time, and whether the tests notice: `make mutants`, into tests/MUTANTS.md.

A seeded sample of all changes of each file is tried, each in a copy of the project, with the tests that are about the
file. A change that the tests pass with is a survivor; the word on it in MUTANTS.md is written by hand and kept.
"""

import argparse
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
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutations import Mutant, mutants
from suites import suites

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "tests" / "MUTANTS.md"

# Of a file: at least so many changes, and one for so many lines; with MODULE so many.
LEAST, LINES, OF_ONE = 1, 75, 40

# Seconds after which a change counts as noticed, since the tests hang; without one they end in a third of it.
LONGEST = 600

CHANGES_NOTHING = "changes nothing"


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


def is_noticed(mutant: Mutant, copies: Copies) -> bool:
    """Whether the tests of a change's file fail with it."""
    copy = copies.of_thread()
    source = (ROOT / mutant.file).read_text()
    (copy / mutant.file).write_text(mutant.of(source))
    try:
        return not passes(suites(mutant.file), copy, LONGEST)
    finally:
        (copy / mutant.file).write_text(source)


def passes(files: Iterable[str], copy: Path, longest: float) -> bool:
    """Whether the tests in these files pass in a copy, within so many seconds."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    # Without files of bytecode, which are told apart by second and length alone.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with (copy.with_suffix(".log")).open("w") as said:
        tests = subprocess.Popen(
            command,
            cwd=copy,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            return tests.wait(longest) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            if tests.poll() is None:
                os.killpg(tests.pid, signal.SIGKILL)
                tests.wait()


def words() -> dict[str, str]:
    """The word on each survivor of the last report, by the change."""
    if not REPORT.exists():
        return {}
    return dict(re.findall(r"^- (`.+?`, `.+` → `.*`): (.+)$", REPORT.read_text(), re.MULTILINE))


def report(tried: dict[Mutant, bool], seeds: Iterable[int], seconds: float) -> str:
    """What was seen, as a page."""
    known = words()
    survivors: dict[str, list[str]] = defaultdict(list)
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for mutant, noticed in tried.items():
        name = f"`{mutant.file}`, {mutant.told((ROOT / mutant.file).read_text())}"
        word = known.get(name, "?")
        if not noticed:
            survivors[mutant.file].append(f"- {name}: {word}")
        if noticed or not word.startswith(CHANGES_NOTHING):
            counted[mutant.file][0] += noticed
            counted[mutant.file][1] += 1
    rows = [f"| {file} | {noticed} of {all_} | {noticed / all_:.0%} |" for file, (noticed, all_) in counted.items()]
    noticed, all_ = (sum(each) for each in zip(*counted.values(), strict=True))
    lines = [
        "# Small faults, and whether the tests notice",
        "",
        f"`make mutants` changed one small thing at a time, {len(tried)} in all, drawn by chance (seeds "
        f"{', '.join(map(str, seeds))}), and ran the tests of the file each time: {seconds / 60:.0f} minutes. What "
        "changes nothing is left out of the rates.",
        "",
        f"**{noticed} of {all_} were noticed: {noticed / all_:.1%}.**",
        "",
        "| file | noticed | |",
        "| --- | --- | --- |",
        *rows,
        "",
        "## Not noticed",
        "",
        *(line for lines in survivors.values() for line in lines),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", default="", help="the start of a file's path: more changes of it alone, no report")
    parser.add_argument("--seeds", default="1", help="with commas")
    args = parser.parse_args()
    seeds = [*map(int, args.seeds.split(","))]
    chosen = [
        *dict.fromkeys(
            mutant for seed in seeds for file in files(args.module) for mutant in sample(file, seed, bool(args.module))
        )
    ]
    began = time.monotonic()
    tried: dict[Mutant, bool] = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        copies = Copies(Path(folder))
        files_ = dict.fromkeys(name for mutant in chosen for name in suites(mutant.file))
        if not pool.submit(lambda: passes(sorted(files_), copies.of_thread(), 10 * LONGEST)).result():
            sys.exit(f"The tests fail without any change:\n{copies.said()}")
        order = random.Random(1).sample(chosen, len(chosen))  # so that a look at half of them tells something
        for mutant, noticed in zip(order, pool.map(lambda each: is_noticed(each, copies), order), strict=True):
            tried[mutant] = noticed
            if not noticed:
                print(f"{mutant.file}:{mutant.line}: {mutant.told((ROOT / mutant.file).read_text())}", flush=True)
    noticed = sum(tried.values())
    print(
        f"{noticed} of {len(tried)} were noticed: {noticed / len(tried):.1%}, in {time.monotonic() - began:.0f} seconds"
    )
    if not args.module:
        REPORT.write_text(report({mutant: tried[mutant] for mutant in chosen}, seeds, time.monotonic() - began))


if __name__ == "__main__":
    main()
