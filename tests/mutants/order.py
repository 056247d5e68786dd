"""A pytest plugin: how long each test takes, and with that known, the fast ones first, and not more than are worth it.

What it keeps is in the file that MUTANTS_TIMES names.
"""

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

TIMES = Path(os.environ["MUTANTS_TIMES"])

# Seconds that all tests of one change may take, the fastest of them first.
MOST = 90

_took: dict[str, float] = defaultdict(float)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the fast tests, those of a file together, in the order of the files."""
    known: dict[str, float] = json.loads(TIMES.read_text()) if TIMES.exists() else {}
    if not known:
        return
    kept: set[str] = set()
    seconds = 0.0
    for item in sorted(items, key=lambda item: known.get(item.nodeid, 0.0)):
        seconds += known.get(item.nodeid, 0.0)
        if seconds > MOST:
            break
        kept.add(item.nodeid)
    places = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = sorted(
        (item for item in items if item.nodeid in kept),
        key=lambda item: (places[item.path], known.get(item.nodeid, 0.0)),
    )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how long each part of a test took."""
    _took[report.nodeid] += report.duration


def pytest_sessionfinish() -> None:
    """Keep the times of the first run."""
    if not TIMES.exists():
        TIMES.write_text(json.dumps(_took))
