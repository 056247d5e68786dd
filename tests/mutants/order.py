"""A pytest plugin: how long each test takes, and with that known, the fast ones first, and not more than are worth it.

What it keeps is in the file that MUTANTS_TIMES names.
"""

import json
import os
import signal
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest

TIMES = Path(os.environ["MUTANTS_TIMES"])

# Seconds that all tests of one change may take, the fastest of them first.
MOST = 150

# Seconds of a fast test: all of them come before all others.
FAST = 0.3

# A test hangs that takes so many seconds more than so many times what it took.
MORE, TIMES_AS_LONG = 10, 4

_known: dict[str, float] = json.loads(TIMES.read_text()) if TIMES.exists() else {}
_took: dict[str, float] = defaultdict(float)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the fast tests, those of a file together, in the order of the files; then the slower ones."""
    if not _known:
        return
    places = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}
    fastest = sorted(items, key=_seconds)
    kept = bisect_right([*accumulate(map(_seconds, fastest))], MOST)
    config.hook.pytest_deselected(items=fastest[kept:])
    items[:] = sorted(fastest[:kept], key=lambda item: (_seconds(item) > FAST, places[item.path]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End a test that hangs."""
    if not _known:
        return (yield)
    signal.signal(signal.SIGALRM, _hangs)
    signal.setitimer(signal.ITIMER_REAL, MORE + TIMES_AS_LONG * _seconds(item))
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _seconds(item: pytest.Item) -> float:
    """How long a test took; nothing where it is new."""
    return _known.get(item.nodeid, 0.0)


def _hangs(*_: object) -> None:
    raise TimeoutError("the test hangs")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how long each part of a test took."""
    _took[report.nodeid] += report.duration


def pytest_sessionfinish() -> None:
    """Keep the times of the first run."""
    if not _known:
        TIMES.write_text(json.dumps(_took))
