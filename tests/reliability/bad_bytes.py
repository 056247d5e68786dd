"""Requests that were right once, mutated: bodies under a valid head, and heads that may be no HTTP any more."""

import concurrent.futures
import contextlib
import csv
import http.client
import io
import json
import multiprocessing
import random
import socket
from typing import NamedTuple

from conftest import GUNICORN, WAITRESS, Answer, Service, running, wait_until
from load import CSV, JSON, PROBLEM, customers_and_probabilities, table

CLIENTS = 2
# Requests that are sent in one piece, before their answers are read.
PIPELINED = 16
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# What a parser may stumble over.
TOKENS = [
    *(b"", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\ud800", b"\\u0000", b'"', b"\\", b"'", b","),
    *(b";", b"\t", b"\r", b"\n", b"\r\n", b"{", b"}", b"[", b"]", b":", b"=cmd()", b"null", b"true", b"NaN"),
    *(b"Infinity", b"-0", b"1e999", b"-1", b"9" * 400, b"0." + b"0" * 400 + b"1", b"[" * 3000, b'{"a":' * 3000),
    *(b'"' * 1001, b"x" * 5000, b"gender", b"tenure", b"customerid", "ä€😀".encode(), b"99999999999999999999"),
]
OTHER_TYPES = [JSON, CSV, "text/csv; charset=latin-1", "application/json; charset=utf-16", "a/b", ""]
REFUSED_BY_GUNICORN = (400, 417, 431, 501)
QUERIES = ["", "", "?explain=true", "?explain=maybe", "?explain=%ff&explain=1"]


class BadBytes(NamedTuple):
    """What mutated requests have shown."""

    requests: int
    statuses: dict[int, int]  # how often each status was answered


def valid_bodies() -> list[bytes]:
    """What the mutations start from: objects, arrays and tables."""
    customers = customers_and_probabilities()[0][::500]
    return [
        *(json.dumps(customer).encode() for customer in customers),
        *(json.dumps(customers[:size]).encode() for size in (0, 1, 3)),
        json.dumps(customers[0] | {"customerid": "7590-VHVEG", "notes": [None, {"a": [1.5, "ü"]}]}).encode(),
        *(table(customers[:size]) for size in (1, 5)),
        table(customers[:3]).replace(b",", b";").replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + table([customer | {"note": 'a, "b"\nc'} for customer in customers[:3]]),
    ]


def mutated(valid: list[bytes], chance: random.Random) -> bytes:
    """One of these, changed in a few places."""
    body = bytearray(chance.choice(valid))
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        start = chance.randint(0, len(body))
        end = min(len(body), start + int(chance.expovariate(0.1)))
        match chance.randrange(6):
            case 0:
                body[start:end] = b""
            case 1:
                body[start:end] = chance.choice(TOKENS)
            case 2:
                body[start:start] = chance.choice(TOKENS)
            case 3:
                body[start:end] = chance.randbytes(end - start)
            case 4:
                body[start:start] = body[start:end] * chance.randint(1, 20)
            case _:
                body[start:] = chance.choice(valid)[start:]
    return bytes(body)


def bad_bodies(number: int, server: str = "gunicorn") -> BadBytes:
    """Send so many mutated bodies; asserts that each got a valid answer, none of them a 5xx, from a living worker."""
    valid = valid_bodies()
    with (
        running([*GUNICORN, "--workers", "2"] if server == "gunicorn" else WAITRESS) as service,
        concurrent.futures.ProcessPoolExecutor(CLIENTS, multiprocessing.get_context("spawn")) as pool,
    ):
        if server == "gunicorn":
            wait_until(lambda: len(service.pids()) == 3)
        before = service.pids()
        share = -(-number // (CLIENTS * PIPELINED)) * PIPELINED
        clients = [pool.submit(_send_bodies, service.port, valid, share, seed) for seed in range(CLIENTS)]
        statuses: dict[int, int] = {}
        for each in clients:
            for status in each.result():
                statuses[status] = statuses.get(status, 0) + 1
        assert service.pids() == before, service.log()[-2000:]
        assert "Traceback" not in service.log(), service.log()[-2000:]
    return BadBytes(share * CLIENTS, dict(sorted(statuses.items())))


def _send_bodies(port: int, valid: list[bytes], number: int, seed: int) -> list[int]:
    chance = random.Random(seed)
    statuses = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        stream = connection.makefile("rb")
        for _ in range(0, number, PIPELINED):
            requests = [_request(mutated(valid, chance), chance) for _ in range(PIPELINED)]
            connection.sendall(b"".join(requests))
            for request in requests:
                answer = read_answer(stream)
                require_valid(answer, request)
                statuses.append(answer.status)
    return statuses


def _request(body: bytes, chance: random.Random) -> bytes:
    kind = JSON if body[:1] in b"{[" else CSV
    if chance.random() < 0.1:
        kind = chance.choice(OTHER_TYPES)
    return (
        f"POST /predict{chance.choice(QUERIES)} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def read_answer(stream: io.BufferedIOBase) -> Answer:
    """The next answer on a connection. Raises `http.client.HTTPException` where it is none."""
    status_line = stream.readline()
    if not status_line.startswith(b"HTTP/1."):
        raise http.client.BadStatusLine(repr(status_line))
    headers = {}
    while line := stream.readline().strip().decode("latin-1"):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers["content-length"]))
    return Answer(int(status_line.split()[1]), headers, body)


def require_valid(answer: Answer, request: bytes) -> None:
    """Raise `AssertionError` where an answer is a 5xx, or not what its type says."""
    # 501 is what a strange Transfer-Encoding gets.
    assert answer.status < 500 or answer.status == 501, f"{request!r}: {answer}"
    kind, _, charset = answer.headers.get("content-type", "").partition("; charset=")
    try:
        if kind == CSV:
            require_table(answer.body.decode(charset))
        elif kind == "text/plain":
            assert answer.body == b"PONG"
        elif kind == "text/html":  # the page, or gunicorn's own for what is no HTTP
            assert b"GET / " in request or answer.status in REFUSED_BY_GUNICORN
            assert answer.body.rstrip().endswith(b"</html>")
        elif answer.body:
            assert kind in (JSON, PROBLEM)
            json.loads(answer.body, parse_constant=_no_json)
            assert kind == JSON or answer.json["status"] == answer.status
    except (AssertionError, ValueError, csv.Error) as wrong:
        raise AssertionError(f"{wrong!r}; {request!r}: {answer}") from wrong


def require_table(text: str) -> None:
    """Raise where a text is no table with our columns, with as many cells in each row."""
    delimiter = text[text.index("churn_probability") - 1]
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    assert len({len(row) for row in rows}) == 1, "rows of different lengths"
    assert rows[0][-1] == "error"


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def bad_http(number: int) -> BadBytes:
    """Send so many requests that are mutated as a whole, head and body, each on a connection of its own.

    What comes back must be valid, or nothing where the request was not whole; others are answered all the while.
    """
    body = valid_bodies()[0]
    whole = [
        b"POST /predict HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"7\r\ngender,\r\n7\r\ntenure\n\r\n0\r\n\r\n",
        b"GET /model HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
        b"GET /ping HTTP/1.0\r\n\r\n",
        b"PUT /predict?explain=true HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    ]
    chance = random.Random(5)
    statuses: dict[int, int] = {}
    with running([*GUNICORN, "--workers", "2"]) as service:
        wait_until(lambda: len(service.pids()) == 3)
        before = service.pids()
        for turn in range(number):
            request = mutated(whole, chance)
            for answer in _answers(service, request):
                require_valid(answer, request)
                statuses[answer.status] = statuses.get(answer.status, 0) + 1
            if turn % 50 == 0:
                assert service.predict(body).status == 200
        assert service.pids() == before, service.log()[-2000:]
        assert "Traceback" not in service.log(), service.log()[-2000:]
    return BadBytes(number, dict(sorted(statuses.items())))


def _answers(service: Service, request: bytes) -> list[Answer]:
    """What comes back for some bytes after which nothing follows."""
    answers = []
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        with contextlib.suppress(OSError):  # it may be refused before it is read
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        stream = connection.makefile("rb")
        with contextlib.suppress(ConnectionResetError):
            while start := stream.peek(1):
                if start.startswith(CONTINUE):
                    stream.read(len(CONTINUE))
                else:
                    answers.append(read_answer(stream))
    return answers
