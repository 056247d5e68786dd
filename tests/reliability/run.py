"""Run every line of the reliability list against real servers, and write RESULTS.md as each finishes.

Everything is bounded: the whole takes about a quarter of an hour.
"""

import argparse
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_bytes import BadBytes, bad_bodies, bad_http
from load import questions
from reloads import reloads
from slow_clients import HALF_SENT, SLOW_LORIS, slow_clients
from soak import soak
from stops import stops

HERE = Path(__file__).parent

# What needs no longer version than the tests have.
TESTS = {"wrong disk": "test_wrong_disk.py", "security": "test_security.py"}

# A function that runs a line and says what it showed, or raises AssertionError.
Line = Callable[[], str]


class Results:
    """The page of results, written anew with every line; with `only`, of an earlier page that line alone."""

    def __init__(self, file: Path, only: str | None):
        self._only = only
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        self._file = file
        self._lines = [
            "# What the service withstands",
            "",
            "Made by `make reliability`, on loopback, against real processes; a short version is in `make test`.",
            "",
            f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores; {platform.system()}; "
            f"Python {platform.python_version()}.",
            "",
            "| what was done | what it showed | took |",
            "| --- | --- | --: |",
        ]
        if only:
            self._lines = file.read_text().splitlines()
        self.failed = False

    def add(self, title: str, line: Line) -> None:
        """Run a line, and write down what it showed."""
        if self._only not in (None, title):
            return
        print(f"{time.strftime('%H:%M:%S')} {title} ...", flush=True)
        started = time.monotonic()
        try:
            shown = line()
        except Exception as wrong:  # the other lines have something to show all the same
            traceback.print_exc()
            self.failed = True
            shown = "**failed**: " + (str(wrong).splitlines() or [repr(wrong)])[0][:500].replace("|", "\\|")
        seconds = time.monotonic() - started
        print(f"{time.strftime('%H:%M:%S')}   {shown}", flush=True)
        row = f"| {title} | {shown} | {seconds:.0f} s |"
        if self._only:
            self._lines = [row if each.startswith(f"| {title} |") else each for each in self._lines]
        else:
            self._lines.append(row)
        self._file.write_text("\n".join([*self._lines, ""]))


def require(condition: bool, shown: str) -> str:
    """What was shown, where it is good enough; else it is raised."""
    if not condition:
        raise AssertionError(shown)
    return shown


class Outcomes:
    """What pytest's tests came to: a plugin."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.others: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
        if report.when == "call" and report.passed:
            self.passed.append(name)
        elif report.skipped:
            self.others.append(f"{name} (skipped: {report.longrepr[2].removeprefix('Skipped: ')})")
        elif report.failed:
            self.others.append(f"{name} (failed)")


def tested(file: str) -> str:
    """Run tests of which there is one version only, and name them."""
    outcomes = Outcomes()
    status = pytest.main(["-q", "--no-header", str(HERE / file)], plugins=[outcomes])
    return require(status == 0, "; ".join(outcomes.passed + outcomes.others))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of all counts and times, to try it out")
    parser.add_argument("--only", metavar="LINE", help="run this line of the page anew, and no other")
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    scale = options.scale
    asked = questions()
    results = Results(options.output, options.only)

    def soaked(server: str, seconds: float) -> str:
        shown = soak(asked, max(10, seconds * scale), server)
        change = shown.memory_at_end / shown.memory_at_start - 1
        killed = f"{shown.kills} kills cut off {shown.cut_off} requests; " if shown.kills else ""
        return require(
            change <= 0.1,
            f"{shown.right:,} answers, all right; {killed}never longer than {shown.longest_silence:.2f} s without an "
            f"answer; memory {shown.memory_at_start:.1f} MB, at the end {shown.memory_at_end:.1f} MB ({change:+.1%})",
        )

    def reloaded() -> str:
        shown = reloads(asked, max(5, round(50 * scale)))
        return (
            f"{shown.taken_over} models taken over, {shown.refused} broken ones refused; "
            f"{shown.right:,} answers, all right, no request failed"
        )

    def stopped() -> str:
        shown = stops(asked, max(1, round(6 * scale)))
        return (
            f"{shown.stops} stops, each with exit status 0 after at most {shown.slowest:.1f} s; {shown.right:,} "
            f"answers, all right, and every request that was taken was answered; {shown.never_taken} came too late"
        )

    def slowed() -> str:
        shown = slow_clients(asked, max(2, 5 * scale), 3)
        return require(
            shown.ratio <= 3,
            f"99th percentile {shown.alone:.1f} ms alone, {shown.beside:.1f} ms beside them: {shown.ratio:.2f} ×; "
            f"{shown.right:,} answers beside them, all right",
        )

    def mutated(shown: BadBytes) -> str:
        statuses = ", ".join(f"{number:,} × {status}" for status, number in shown.statuses.items())
        return f"{shown.requests:,} requests; no answer but valid ones, no worker died: {statuses}"

    mixed = "mixed load (objects, arrays, tables, bad input)"
    results.add(f"{mixed}, a worker killed every 3 s", lambda: soaked("gunicorn", 600))
    results.add(f"{mixed} under waitress", lambda: soaked("waitress", 30))
    results.add("reloads under load, every fifth with a broken model", reloaded)
    results.add("SIGTERM under load", stopped)
    results.add(f"{SLOW_LORIS} slow-loris connections and {HALF_SENT} half-sent uploads", slowed)
    results.add("mutated bodies", lambda: mutated(bad_bodies(round(185_000 * scale))))
    results.add("mutated bodies under waitress", lambda: mutated(bad_bodies(round(5_000 * scale), "waitress")))
    results.add("mutated HTTP", lambda: mutated(bad_http(round(10_000 * scale))))
    for title, file in TESTS.items():
        results.add(title, lambda file=file: tested(file))
    if results.failed:
        sys.exit("a line failed")


if __name__ == "__main__":
    main()
