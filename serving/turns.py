"""Others get their turn while something long is worked through: gunicorn's gevent worker has one thread for all."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

# A turn's length, and the pause after it. Under gevent, a pause of 0 would let those who wait for their connection
# wait for fifty turns; this one lasts until all that has arrived has been looked at, which takes up to 1 ms.
TURN_SECONDS, PAUSE_SECONDS = 0.005, 1e-6


def in_turns(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, with a pause every few milliseconds in which other requests go on."""
    end = time.monotonic() + TURN_SECONDS
    for item in items:
        yield item
        if time.monotonic() >= end:
            time.sleep(PAUSE_SECONDS)
            end = time.monotonic() + TURN_SECONDS
