"""One client's trouble is not the others': slow ones, stuck ones, too many, and nonsense on the wire."""

import concurrent.futures
import contextlib
import json
import pickle
import select
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import GUNICORN, Running, Service, run, running, wait_until
from sklearn.ensemble import RandomForestClassifier

ONE_WORKER = [*GUNICORN, "--workers", "1"]


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running(ONE_WORKER) as service:
        yield service


@pytest.fixture
def predict(customer) -> bytes:
    """A whole request for a prediction, on a connection that is kept."""
    body = json.dumps(customer).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextlib.contextmanager
def connections(service: Service, number: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=30))
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


def test_stuck_clients_hold_up_nobody(service, predict, customer):
    halfway = len(predict) - 100
    with connections(service, 250) as stuck:
        for number, connection in enumerate(stuck):
            # A head that does not end, a body that does not end, a table that does not end, and nothing at all.
            connection.sendall([predict[:60], predict[:halfway], table_head(900_000), b""][number % 4])
        for _ in range(20):
            assert service.predict(customer).status == 200
            assert service.get("/health").status == 200
        # Those that go on after all are answered too.
        for number, connection in enumerate(stuck):
            if number % 4 < 2:
                connection.sendall(predict[[60, halfway][number % 4] :])
                assert answers(connection, 1)[0][0] == 200


def answered(connections: list[socket.socket]) -> list[socket.socket]:
    """Those on which something can be read."""
    return select.select(connections, [], [], 0)[0]


def table_head(length: int) -> bytes:
    return f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: {length}\r\n\r\n".encode()


def test_endless_uploads_leave_a_thread_for_others_and_too_many_are_refused(service, customer, published_csv):
    started = table_head(900_000_000) + published_csv.read_bytes() * 2
    with connections(service, 5) as uploads:
        for upload in uploads:
            upload.sendall(started)
        # Whichever two came last.
        wait_until(lambda: len(answered(uploads)) == 2)
        refused = [answers(upload, 1)[0] for upload in answered(uploads)]
        assert [status for status, _ in refused] == [503, 503]
        assert "more to do" in json.loads(refused[0][1])["detail"]
        for _ in range(20):
            assert service.predict(customer).status == 200
    # The three that broke off make room again.
    with connections(service, 1) as [upload]:
        length = len(published_csv.read_bytes()) * 2
        wait_until(lambda: service.predict(published_csv.read_bytes() * 2, "text/csv").status == 200)
        upload.sendall(table_head(length) + published_csv.read_bytes() * 2)
        assert answers(upload, 1)[0][0] == 200


def test_more_than_can_be_done_is_refused_and_the_probes_answer(published_csv):
    # Each of these takes the worker most of a second, and there are more than it can do in two.
    table = published_csv.read_bytes()
    columns, _, rows = table.partition(b"\n")
    body = columns + b"\n" + (rows * 8)[:990_000]
    with running(ONE_WORKER) as service, connections(service, 100) as clients:
        for client in clients:
            client.sendall(table_head(len(body)) + body)
        for path in ("/ping", "/health"):
            assert service.get(path).status == 200
        with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
            statuses = [found[0][0] for found in pool.map(lambda client: answers(client, 1), clients)]
        assert set(statuses) == {200, 503}
        assert "Traceback" not in service.log()


def test_requests_in_one_piece_are_answered_one_by_one(service, predict):
    with connections(service, 1) as [connection]:
        connection.sendall(predict * 3 + predict[:100])
        found = answers(connection, 3)
        connection.sendall(predict[100:])
        assert [*found, *answers(connection, 1)] == [found[0]] * 4


def test_a_request_may_come_byte_by_byte(service, predict):
    with connections(service, 1) as [connection]:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in predict:
            connection.send(bytes([byte]))
        assert answers(connection, 1)[0][0] == 200


def test_a_client_that_asks_whether_to_go_on_is_told_so(service, customer):
    body = json.dumps(customer).encode()
    head = (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with connections(service, 1) as [connection]:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(body)
        wait_until(lambda: b"churn_probability" in connection.recv(1000))


def test_a_body_may_come_in_chunks(service, customer):
    body = json.dumps(customer).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in (body[:100], body[100:])]
    with connections(service, 1) as [connection]:
        for piece in (head, *chunks, b"0\r\n\r\n"):
            connection.sendall(piece)
        assert answers(connection, 1)[0][0] == 200


@pytest.mark.parametrize("content_type", ["application/json", "text/csv", "text/plain"])
@pytest.mark.parametrize("chunks", [b"7\r\ngender,\r\n7ked\r\n\r\n", b"2\r\n{}GET /ping HTTP/1.1\r\n\r\n"])
def test_chunks_that_are_none_are_the_clients_fault_and_end_the_connection(service, content_type, chunks):
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connections(service, 1) as [connection]:
        connection.sendall(head.encode() + chunks + b"0\r\n\r\nGET /ping HTTP/1.1\r\n\r\n0\r\n\r\n")
        status, body = answers(connection, 1)[0]
        assert (status, json.loads(body)["status"]) in [(400, 400), (415, 415)]
        assert connection.recv(1) == b""
    assert "Traceback" not in service.log()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET /ping HTTP/9.9\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /ping HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /ping HTTP/1.1\r\na: " + b"b" * 9000 + b"\r\n\r\n", 431),
        (b"x" * 2_000_000, 414),
        (b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}", 400),
        (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: nonsense\r\n\r\n0\r\n\r\n", 501),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)
def test_what_is_not_http_is_a_problem_too(service, request_, status):
    with connections(service, 1) as [connection]:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request_)
        [(found, body)] = answers(connection, 1)
    assert found == status
    assert json.loads(body)["status"] == status
    assert service.get("/ping").body == b"PONG"
    assert "Traceback" not in service.log()


@pytest.mark.parametrize("flags", [["--certfile", "x", "--keyfile", "x"], ["--protocol", "uwsgi"]])
def test_what_the_worker_cannot_do_is_said_at_the_start(flags, tmp_path):
    (tmp_path / "x").touch()
    flags = [str(tmp_path / "x") if flag == "x" else flag for flag in flags]
    done = run("-m", "gunicorn", "predict:app", "--bind", "127.0.0.1:0", *flags)
    assert done.returncode == 1
    assert "add --worker-class gthread" in done.stderr.splitlines()[-1]


def test_a_stop_lets_what_has_arrived_finish(published_csv, predict):
    body = published_csv.read_bytes()
    with running(ONE_WORKER) as service, connections(service, 4) as [asking, stuck, idle, kept]:
        kept.sendall(predict)
        assert answers(kept, 1)[0][0] == 200
        stuck.sendall(predict[:100])
        asking.sendall(table_head(len(body)) + body)
        wait_until(lambda: service.get("/ping").body == b"PONG")
        service.close()
        service.process.terminate()
        [(status, scored)] = answers(asking, 1)
        assert (status, scored.count(b"\n")) == (200, 7044)
        assert service.process.wait(timeout=30) == 0
        assert idle.recv(1) == b""


def test_a_slow_models_predictions_are_refused_in_time_and_the_probes_answer(pair, predict, tmp_path):
    vectorizer, _ = pair
    rows = np.eye(len(vectorizer.feature_names_))
    forest = RandomForestClassifier(700, random_state=1).fit(rows, np.arange(len(rows)) % 2)
    with (tmp_path / "forest.bin").open("wb") as file:
        pickle.dump((vectorizer, forest), file)
    with running(ONE_WORKER, CHURN_MODEL=str(tmp_path / "forest.bin")) as service:
        # Each takes the worker some hundredths of a second, and there are more than it can do in two.
        with connections(service, 400) as clients:
            for client in clients:
                client.sendall(predict)
            for path in ("/ping", "/health"):
                assert service.get(path).status == 200
            found = [answers(client, 1)[0] for client in clients]
        assert {status for status, _ in found} == {200, 503}
        refused = [json.loads(body) for status, body in found if status == 503]
        assert len({problem["request_id"] for problem in refused}) == len(refused)
        assert f'churn_requests_total{{route="unknown",status="503"}} {len(refused)}.0' in str(
            service.get("/metrics").body
        )


def test_a_client_that_does_not_read_holds_up_nobody_and_gets_all_its_answers(service, predict, customer):
    long = b'{"reasons": "' + b"x" * 3000 + b'"}'
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(long)}\r\n\r\n"
    with connections(service, 1) as [lazy]:
        lazy.setblocking(False)
        asked = 0
        with contextlib.suppress(BlockingIOError):
            while asked < 5000:
                asked += lazy.send(head.encode() + long) == len(head) + len(long)
        for _ in range(20):
            assert service.predict(customer).status == 200
        lazy.settimeout(30)
        assert {status for status, _ in answers(lazy, asked)} == {422}


def test_many_probes_in_one_piece_are_answered(service):
    with connections(service, 1) as [connection]:
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
        assert answers(connection, 2000) == [(200, b"PONG")] * 2000
