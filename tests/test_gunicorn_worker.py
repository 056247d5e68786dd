"""One client's trouble is not the others': slow ones, stuck ones, too many, and nonsense on the wire."""

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import GUNICORN, ROOT, Running, Service, running, wait_until, workers
from test_metrics import Counts
from werkzeug.test import EnvironBuilder

from predict import app
from serving.web import gunicorn_worker
from serving.web.examples import STALLED

ONE_WORKER = [*GUNICORN, "--workers", "1"]


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running(ONE_WORKER) as service:
        yield service


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no memory to write files to")
def test_the_workers_heartbeat_needs_no_disk(service):
    [worker] = workers(service)
    opened = [str(each.readlink()) for each in Path(f"/proc/{worker}/fd").iterdir() if each.is_symlink()]
    assert any(name.startswith("/dev/shm/wgunicorn-") for name in opened)


@pytest.fixture
def predict(customer) -> bytes:
    """A whole request for a prediction, on a connection that is kept."""
    body = json.dumps(customer).encode()
    return head("application/json", len(body)) + body


def head(content_type: str, length: int | None) -> bytes:
    """The head of a POST; its body has a length, or comes in chunks."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n".encode()


@contextlib.contextmanager
def connections(service: Service, number: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=60))
            for _ in range(number)
        ]


def answers(connection: socket.socket, number: int) -> list[tuple[int, bytes]]:
    """So many answers that come on a connection: status and body."""
    found = []
    with connection.makefile("rb") as stream:
        for _ in range(number):
            status = int(stream.readline().split()[1])
            length = 0
            while line := stream.readline().strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            found.append((status, stream.read(length)))
    return found


def is_ended(connection: socket.socket) -> bool:
    """Whether the service ends a connection; waits for that, and for what it says before."""
    try:
        while connection.recv(65536):
            pass
        return True
    except ConnectionResetError:
        return True


def test_stuck_clients_hold_up_nobody(service, predict, customer):
    halfway = len(predict) - 100
    with connections(service, 250) as stuck:
        for number, connection in enumerate(stuck):
            # A head that does not end, a body that does not end, a table that does not end, and nothing at all.
            connection.sendall([predict[:60], predict[:halfway], head("text/csv", 90_000), b""][number % 4])
        for _ in range(20):
            assert service.predict(customer).status == 200
            assert service.get("/health").status == 200
        # Those that go on after all are answered too.
        for number, connection in enumerate(stuck):
            if number % 4 < 2:
                connection.sendall(predict[[60, halfway][number % 4] :])
                assert answers(connection, 1)[0][0] == 200


def test_stalled_connections_free_themselves_with_a_408_where_a_body_stopped(customer, predict):
    starts = [
        b"",
        predict[:60],
        predict[:-10],
        head("text/csv", 90_000) + b"gender,",
        head("application/json", None) + b"100\r\n{",
    ]
    asks_for_much = predict.replace(b"/predict", b"/docs/swagger-ui-bundle.js", 1).replace(b"POST", b"GET")
    with running(ONE_WORKER) as service:
        service.close()
        with connections(service, 1500) as stalled, connections(service, 1) as [patient]:
            for number, connection in enumerate(stalled):
                with contextlib.suppress(OSError):
                    # The last kind asks for megabytes and reads none of them.
                    connection.sendall([*starts, asks_for_much * 20][number % 6])
            # More than a worker holds at once: this one waits until the first of them have gone.
            patient.sendall(predict)
            assert answers(patient, 1)[0][0] == 200
            for connection in stalled[2:5]:
                [(status, body)] = answers(connection, 1)
                assert status == 408
                assert STALLED.answer.items() <= json.loads(body).items()
            assert all(is_ended(connection) for connection in stalled[:5])
            # And those of which half a body has come are counted.
            wait_until(lambda: Counts(service).of("serving_requests_total", route="/predict", status="408") >= 400)
        assert "Traceback" not in service.log()
        assert "Socket error" not in service.log()


@pytest.mark.parametrize("length", [900_000_000, None], ids=["length", "chunks"])
def test_too_many_large_bodies_at_once_are_refused_and_others_answered(service, customer, published_csv, length):
    table = published_csv.read_bytes()
    started = head("text/csv", length) + (b"" if length else b"%x\r\n" % (len(table) * 2)) + table
    with contextlib.ExitStack() as uploads:

        def one_more_is_too_many() -> bool:
            [upload] = uploads.enter_context(connections(service, 1))
            upload.sendall(started)
            return service.predict(table, "text/csv").status == 503

        assert not one_more_is_too_many()
        wait_until(one_more_is_too_many)
        refused = service.predict(table, "text/csv")
        assert (refused.json["status"], refused.headers["retry-after"]) == (503, "1")
        assert "8 large bodies" in refused.json["detail"]
        body = json.dumps([customer] * 200).encode()
        assert 90_000 < len(body) <= 100_000
        assert service.predict(body).status == 200
    # Those that broke off make room again.
    wait_until(lambda: service.predict(table, "text/csv").status == 200)


@pytest.fixture(scope="module")
def long_bodies(published_csv) -> dict[str, tuple[bytes, str, int | None, bytes]]:
    """Requests that keep a worker busy for a while: a path, a media type, a length or None for chunks, and the body."""
    columns, _, rows = published_csv.read_bytes().partition(b"\n")
    header = columns + b"\n"
    bad = rows.replace(b"Month-to-month", b"weekly") * 2
    further = b"".join(b",%d" % number for number in range(49_000))
    formulas = b"".join(row + b",=" * 49_000 + b"\n" for row in rows.splitlines()[:30])
    tables = {
        "a long table": header + rows * 8,
        "a table of bad rows": header + bad,
        "a table of blank lines": header + b"\n" * 9_000_000,
        "a table of wide rows": header + (b"," * 99_000 + b"\n") * 300,
        "a table of formulas": columns.rstrip() + further + b"\n" + formulas,
        "a table of quoted rows": header + b'"a",' * 2_000_000,
    }
    bytewise = b"1\r\n \r\n" * 300_000
    chunked = {
        "a byte a chunk": (bytewise, "application/json"),
        "a byte a chunk that nobody wants": (bytewise, "text/plain"),
        "a chunk's endless extension": (b"1;" + b"a" * 3_000_000, "application/json"),
        "an endless trailer": (b"0\r\nX: " + b"a" * 3_000_000, "application/json"),
    }
    return {
        **{name: (b"POST /predict", "text/csv", len(body), body) for name, body in tables.items()},
        **{name: (b"POST /predict", kind, None, body) for name, (body, kind) in chunked.items()},
        "a body that nobody reads": (b"GET /ping", "text/plain", 10**12, b" " * 50_000_000),
    }


@pytest.mark.parametrize(
    "name",
    [
        *("a long table", "a table of bad rows", "a table of blank lines", "a table of wide rows"),
        *("a table of formulas", "a table of quoted rows", "a byte a chunk", "a byte a chunk that nobody wants"),
        *("a chunk's endless extension", "an endless trailer", "a body that nobody reads"),
    ],
)
def test_others_are_answered_all_the_while(service, long_bodies, name):
    start, kind, length, body = long_bodies[name]
    _, worker = service.pids()
    before = memory(worker, "VmRSS")

    def send(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it may be refused before all is sent
            connection.sendall(head(kind, length).replace(b"POST /predict", start) + body)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1_000_000):
                pass

    with connections(service, 1) as [slow], concurrent.futures.ThreadPoolExecutor() as pool:
        sent = pool.submit(send, slow)
        longest, started = 0.0, time.monotonic()
        while not sent.done():
            asked = time.monotonic()
            assert service.get("/ping").status == 200
            longest = max(longest, time.monotonic() - asked)
        # Not how fast it is, but that nobody waits for the end: a few turns are a fraction of the whole.
        assert longest < max(0.5, (time.monotonic() - started) / 2)
    assert memory(worker, "VmHWM") - before < 150
    assert "Traceback" not in service.log()


def memory(pid: int, figure: str) -> float:
    """A process's resident memory (VmRSS), or its peak (VmHWM), in MB."""
    return int(re.search(rf"^{figure}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]) / 1000


def test_a_place_for_a_large_body_is_taken_by_bytes_and_kept_until_its_answer_has_gone(service, customer):
    body = json.dumps([customer] * 2000).encode()
    explained = head("application/json", len(body)).replace(b"/predict", b"/predict?explain=true") + body
    with connections(service, 8) as announced, contextlib.ExitStack() as unread:
        for connection in announced:
            connection.sendall(head("application/json", 5_000_000))  # and nothing more
        assert service.predict(body).status == 200

        def one_more_is_too_many() -> bool:
            [connection] = unread.enter_context(connections(service, 1))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(explained)
            return service.predict(body).status == 503

        assert not one_more_is_too_many()
        wait_until(one_more_is_too_many, 120)
    wait_until(lambda: service.predict(body).status == 200)


def test_a_long_answer_goes_out_in_pieces_that_each_have_their_time(customer):
    environ = EnvironBuilder(path="/predict?explain=true", method="POST", json=[customer] * 500).get_environ()
    pieces = [*app(environ, lambda *_: None)]
    assert len(pieces) > 5
    assert max(map(len, pieces)) <= 65_536


def test_requests_in_one_piece_are_answered_one_by_one(service, predict):
    with connections(service, 1) as [connection]:
        connection.sendall(predict * 3 + predict[:100])
        found = answers(connection, 3)
        connection.sendall(predict[100:])
        assert [*found, *answers(connection, 1)] == [found[0]] * 4


def test_large_bodies_that_come_together_are_read_one_by_one(service, customer):
    whole = json.dumps([customer] * 300).encode()
    large = head("application/json", len(whole)) + whole
    assert 100_000 < len(whole) < 200_000
    with connections(service, 1) as [connection]:
        connection.sendall(large * 3)
        found = answers(connection, 3)
    assert [status for status, _ in found] == [200] * 3
    assert found[0] == found[1] == found[2]
    assert len(json.loads(found[0][1])) == 300


def test_a_request_may_come_byte_by_byte(service, predict):
    with connections(service, 1) as [connection]:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in predict:
            connection.send(bytes([byte]))
        assert answers(connection, 1)[0][0] == 200


def test_a_client_that_asks_whether_to_go_on_is_told_so(service, customer):
    body = json.dumps(customer).encode()
    with connections(service, 1) as [connection]:
        asking = head("application/json", len(body)).replace(b"Host: x", b"Host: x\r\nExpect: 100-continue")
        connection.sendall(asking)
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(body)
        wait_until(lambda: b"churn_probability" in connection.recv(1000))


def test_a_body_may_come_in_chunks(service, customer):
    body = json.dumps(customer).encode()
    chunks = [f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in (body[:100], body[100:])]
    with connections(service, 1) as [connection]:
        for piece in (head("application/json", None), *chunks, b"0\r\n\r\n"):
            connection.sendall(piece)
        assert answers(connection, 1)[0][0] == 200


@pytest.mark.parametrize("content_type", ["application/json", "text/csv", "text/plain"])
@pytest.mark.parametrize("chunks", [b"7\r\ngender,\r\n7ked\r\n\r\n", b"2\r\n{}GET /ping HTTP/1.1\r\n\r\n"])
def test_chunks_that_are_none_are_the_clients_fault_and_end_the_connection(service, content_type, chunks):
    with connections(service, 1) as [connection]:
        after = b"0\r\n\r\nGET /ping HTTP/1.1\r\n\r\n0\r\n\r\n"
        connection.sendall(head(content_type, None) + chunks + after)
        status, body = answers(connection, 1)[0]
        assert (status, json.loads(body)["status"]) in [(400, 400), (415, 415)]
        assert is_ended(connection)
    assert "Traceback" not in service.log()


def test_a_refused_body_is_read_to_its_end_and_the_connection_goes_on(service, predict):
    with connections(service, 1) as [connection]:
        for content_type in "text/plain", "application/json":
            connection.sendall(head(content_type, 9_000_000) + b" " * 9_000_000 + predict)
            refused, scored = answers(connection, 2)
            assert (refused[0], scored[0]) == ({"text/plain": 415}.get(content_type, 413), 200)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET /ping HTTP/9.9\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /ping HTTP/1.1\r\na: " + b"b" * 9000 + b"\r\n\r\n", 431),
        (b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}", 400),
        (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: nonsense\r\n\r\n0\r\n\r\n", 400),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)
def test_what_is_not_http_is_refused_by_gunicorn_and_ends_nothing_else(service, request_, status):
    with connections(service, 1) as [connection]:
        connection.sendall(request_)
        [(found, _)] = answers(connection, 1)
        assert is_ended(connection)
    assert found == status
    assert service.get("/ping").body == b"PONG"
    assert "Traceback" not in service.log()


def test_a_stop_lets_what_has_arrived_finish_and_waits_for_no_idle_client(published_csv, predict):
    body = published_csv.read_bytes()
    with running(ONE_WORKER) as service, connections(service, 4) as [asking, stuck, idle, kept]:
        kept.sendall(predict)
        assert answers(kept, 1)[0][0] == 200
        stuck.sendall(predict[:60])
        asking.sendall(head("text/csv", len(body)) + body[:100_000])
        wait_until(lambda: service.get("/ping").body == b"PONG")
        service.close()
        service.process.terminate()
        wait_until(lambda: "Handling signal: term" in service.log())
        kept.sendall(predict)
        assert answers(kept, 1)[0][0] == 200
        time.sleep(3)  # so that it ends after the others were told to go
        asking.sendall(body[100_000:])
        [(status, scored)] = answers(asking, 1)
        assert (status, scored.count(b"\n")) == (200, 7044)
        assert [is_ended(connection) for connection in (asking, stuck, idle, kept)] == [True] * 4
        assert service.process.wait(timeout=20) == 0
    assert "Worker graceful timeout" not in service.log()


SLOW_TO_START = f"""
import runpy, time
settings = runpy.run_path({str(ROOT / "gunicorn.conf.py")!r})
globals().update({{name: found for name, found in settings.items() if not name.startswith("__")}})
chdir = {str(ROOT)!r}

def post_fork(server, worker):
    settings["post_fork"](server, worker)
    if worker.age > 1:
        time.sleep(5)
"""


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_reaches_a_worker_that_is_still_starting(tmp_path, signal_):
    (tmp_path / "slow.conf.py").write_text(SLOW_TO_START)
    with running([*GUNICORN, "--workers", "2", "--config", str(tmp_path / "slow.conf.py")]) as service:
        service.close()
        wait_until(lambda: service.log().count("Booting worker") == 2)
        service.process.send_signal(signal_)
        assert service.process.wait(timeout=20) == 0


def test_a_client_that_does_not_read_holds_up_nobody_and_gets_all_its_answers(service, customer):
    long = b'{"reasons": "' + b"x" * 3000 + b'"}'
    request = head("application/json", len(long)) + long
    with connections(service, 1) as [lazy]:
        lazy.setblocking(False)
        asked = 0
        with contextlib.suppress(BlockingIOError):
            while asked < 5000:
                asked += lazy.send(request) == len(request)
        for _ in range(20):
            assert service.predict(customer).status == 200
        lazy.settimeout(30)
        assert {status for status, _ in answers(lazy, asked)} == {422}


class Trickle:
    """A socket that has so many bytes each time that it is asked, a second later each time."""

    def __init__(self, clock, size):
        self._clock, self._size = clock, size

    def settimeout(self, seconds):
        pass

    def recv(self, size):
        self._clock.now += 1
        return b"x" * self._size


@pytest.mark.parametrize(("rate", "ends"), [(500, 60), (900, 300), (1001, None)])
def test_a_body_comes_at_a_thousand_bytes_a_second_after_half_a_minute(monkeypatch, rate, ends):
    """With 500 a second it is behind when 30 + 500 n / 1000 < n: after 60 seconds; with 900 after 300."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(gunicorn_worker, "time", clock)
    monkeypatch.setattr(gunicorn_worker.gevent, "idle", lambda priority: None)
    client = gunicorn_worker.Client(Trickle(clock, rate))
    client.begin(SimpleNamespace(headers=[]))
    seconds = 0
    try:
        while seconds < 1000:
            client.recv(8192)
            seconds += 1
    except TimeoutError:
        assert seconds - 1 == ends
    else:
        assert ends is None


def test_what_is_long_lets_others_in():
    """In a process of its own, since gevent replaces what waits."""
    code = """
from gevent import monkey
monkey.patch_all()
import gevent, time
from serving.turns import in_turns
others = set()
def other():
    while True:
        others.add(items)
        gevent.sleep(0)
gevent.spawn(other)
items = 0
for item in in_turns(range(40)):
    assert item == items
    items += 1
    began = time.monotonic()
    while time.monotonic() < began + 0.002:
        pass
print(items, len(others))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    items, others = map(int, done.stdout.split())
    assert items == 40
    assert 5 <= others < 40  # 80 ms of work, in turns of five
