"""SIGTERM under load: what is in flight finishes, and the service ends with exit status 0."""

import random
import signal
import time
from typing import NamedTuple

from conftest import GUNICORN, running
from load import Question, load

CLIENTS = 8
GRACEFUL_SECONDS = 30


class Stops(NamedTuple):
    """What a number of stops has shown."""

    stops: int
    right: int
    never_taken: int  # connections that nobody had accepted when the service stopped listening
    slowest: float  # s, from SIGTERM to the end of the process


def stops(asked: list[Question], number: int) -> Stops:
    """Start, ask, stop, so many times; asserts that no request that was taken was left without its answer."""
    chance = random.Random(3)
    right = never_taken = 0
    slowest = 0.0
    for _ in range(number):
        with running([*GUNICORN, "--workers", "2"]) as service:
            service.close()
            with load(service, CLIENTS, asked) as seen:
                time.sleep(0.5 + chance.random())
                told = time.monotonic()
                service.process.send_signal(signal.SIGTERM)
                assert service.process.wait(timeout=GRACEFUL_SECONDS) == 0, service.log()
                slowest = max(slowest, time.monotonic() - told)
        assert not seen.wrong, seen.wrong[:3]
        left_alone = [cut_off for cut_off in seen.cut_off if not cut_off.is_first]
        assert not left_alone, left_alone
        assert "Traceback" not in service.log()
        right += seen.right
        never_taken += len(seen.cut_off)
    return Stops(number, right, never_taken, slowest)
