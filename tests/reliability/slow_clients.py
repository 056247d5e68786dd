"""Clients that never finish their requests, beside clients that do."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from conftest import GUNICORN, running
from load import Question, load, percentile
from soak import clients_of

SLOW_LORIS, HALF_SENT = 200, 50
CLIENTS = 4


class SlowClients(NamedTuple):
    """What slow clients do to the others."""

    alone: float  # the normal clients' 99th percentile in ms, median of the rounds
    beside: float  # the same beside the slow ones
    ratio: float  # median of the ratios within a round
    right: int  # answers beside the slow ones


def slow_clients(asked: list[Question], seconds: float, rounds: int) -> SlowClients:
    """Measure normal clients for so long alone and so long beside slow ones, in turns.

    Asserts that every normal client's answer was right all the while; the times are only measured.
    """
    # Single customers, whose times are alike, so that the percentile is not that of the largest table.
    asked = [question for question in asked if len(question.probabilities) == 1]
    alone, beside = [], []
    right = 0
    with running([*GUNICORN, "--workers", "2"]) as service:
        for _ in range(rounds):
            with load(service, CLIENTS, asked) as seen:
                time.sleep(seconds)
            alone.append(percentile(seen.times, 0.99) * 1000)
            assert not seen.wrong, seen.wrong[:3]
            assert not seen.cut_off, seen.cut_off[:3]
            with dripping(service.port), load(service, CLIENTS, asked) as seen:
                time.sleep(seconds)
                held = sum(len(clients_of(pid, service.port)) for pid in service.pids())
                assert held > SLOW_LORIS, "the slow clients are not connected"
            beside.append(percentile(seen.times, 0.99) * 1000)
            assert not seen.wrong, seen.wrong[:3]
            assert not seen.cut_off, seen.cut_off[:3]
            right += seen.right
        assert "Traceback" not in service.log()
    return SlowClients(
        median(alone), median(beside), median(slow / fast for slow, fast in zip(beside, alone, strict=True)), right
    )


@contextlib.contextmanager
def dripping(port: int) -> Iterator[None]:
    """Slow clients, connected when the block begins.

    Each sends a byte a second, and starts anew when the service ends its connection.
    """
    loris = b"GET /ping HTTP/1.1\r\nHost: x\r\nX-Slow: "
    starts = [loris] * SLOW_LORIS + [half_sent(kind) for kind in range(HALF_SENT)]
    connections = [begun(port, start) for start in starts]
    stop = threading.Event()

    def drip() -> None:
        chance = random.Random(4)
        while not stop.is_set():
            turn = time.monotonic()
            for number in chance.sample(range(len(starts)), len(starts)):
                try:
                    connections[number].send(b"x")
                except BlockingIOError:
                    continue
                except OSError:
                    connections[number].close()
                    connections[number] = begun(port, starts[number])
            stop.wait(max(0.0, 1 - (time.monotonic() - turn)))

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for connection in connections:
            connection.close()


def half_sent(kind: int) -> bytes:
    """An upload of which half is missing: an object, a table, one that is large, one of unknown length."""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
    return [
        head + b'Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"gender": "fem',
        head + b"Content-Type: text/csv\r\nContent-Length: 900000\r\n\r\n" + b"gender,tenure\n" * 30_000,
        head + b"Content-Type: text/csv\r\nContent-Length: 90000000\r\n\r\n" + b"gender,tenure\n" * 1000,
        head + b"Content-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\ngender,",
    ][kind % 4]


def begun(port: int, start: bytes) -> socket.socket:
    """A connection on which a request has begun, and which waits for nothing any more."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=15)
    with contextlib.suppress(OSError):
        connection.sendall(start)
    connection.setblocking(False)
    return connection
