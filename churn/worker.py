"""gunicorn's threaded worker, with threads for requests that have arrived and for nothing else.

gunicorn's own gives a connection to a thread as soon as it opens. As many slow clients as there
are threads then hold up all others, and what comes meanwhile waits for as long as it takes. Here
the worker's loop collects a request, and gives it to a thread when it is whole; a request that has
waited for a thread too long is answered with 503 instead of late.
"""

import contextlib
import re
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from selectors import EVENT_READ
from typing import Any

from gunicorn.http import errors
from gunicorn.http.body import ChunkedReader
from gunicorn.workers.gthread import TConn, ThreadWorker

from churn.problem import MEDIA_TYPE, Problem
from churn.web import SECURITY_HEADERS

# A body of up to so many bytes is collected by the loop; of a larger one a thread reads the rest.
COLLECTED = 1_000_000

# A request must have arrived, or the first so many bytes of its body, in so many seconds.
ARRIVAL_SECONDS = 30

# Between two pieces of a larger body, or of an answer, may be so many seconds.
STALL_SECONDS = 30

# A request that no thread was free for in so many seconds is refused.
MOST_WAITING_SECONDS = 2

# A connection that was told to go is read for so many seconds, so that the client gets to read why.
LINGER_SECONDS = 2

# What tells whether the service is alive has a thread of its own.
PROBES = (b"GET /ping ", b"GET /health ", b"HEAD /ping ", b"HEAD /health ")

_HEAD_END = b"\r\n\r\n"
_length = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_chunked = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_continue = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A client's connection, and what has arrived of its next request."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.data_ready = True  # for the threads, which never wait for the first byte
        self.arrived = bytearray()
        self.is_upload = False
        self._told_to_continue = False

    def receive(self) -> bool:
        """Take what is there. False where the client has gone."""
        try:
            received = self.sock.recv(65536)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        self.arrived += received
        return bool(received)

    def is_whole(self, most_head: int) -> bool:
        """Whether the request has arrived, or as much of it as the loop collects."""
        end = self.arrived.find(_HEAD_END, 0, most_head)
        if end < 0:
            return len(self.arrived) >= most_head  # which the parser refuses
        body = len(self.arrived) - end - len(_HEAD_END)
        if length := _length.search(self.arrived, 0, end):
            self.is_upload = int(length[1]) > COLLECTED
            whole = body >= min(int(length[1]), COLLECTED)
        elif _chunked.search(self.arrived, 0, end):
            ended = self.arrived.endswith(b"0" + _HEAD_END)
            self.is_upload = not ended
            whole = ended or body >= COLLECTED
        else:
            whole = True
        if not whole and not self._told_to_continue and _continue.search(self.arrived, 0, end):
            self._told_to_continue = True
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return whole

    def hand_over(self) -> None:
        """Give what has arrived to gunicorn's parser, which reads on from the socket."""
        self.sock.setblocking(True)
        self.init()
        self.parser.unreader.unread(bytes(self.arrived))
        self.arrived.clear()
        self._told_to_continue = False

    def send(self, answer: bytes) -> None:
        """Send a short answer, if there is room for it: the loop waits for nobody."""
        with contextlib.suppress(OSError):
            self.sock.setblocking(False)
            self.sock.send(answer)


class Worker(ThreadWorker):  # type: ignore[misc]
    """The threaded worker, as `worker_class` in gunicorn.conf.py, for plain HTTP/1."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._waiting: deque[tuple[float, Connection, Future[Any]]] = deque()
        self._lingering: deque[Connection] = deque()
        self._uploads = 0
        # Room for the request line and all headers that gunicorn's limits allow.
        field = self.cfg.limit_request_field_size or 8190
        self._most_head = self.cfg.limit_request_line + self.cfg.limit_request_fields * (field + 4)

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Gunicorn calls this at its start. Exits where the settings ask for what only its own worker can do."""
        super().check_config(cfg, log)
        if cfg.is_ssl or cfg.protocol != "http":
            sys.exit("TLS and other protocols than HTTP need gunicorn's own worker: add --worker-class gthread.")

    def init_process(self) -> None:
        self._probes = ThreadPoolExecutor(max_workers=1)
        super().init_process()

    # A request arrives.

    def accept(self, listener: Any) -> None:
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # for the threads: the loop never waits
            client.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", STALL_SECONDS, 0))
        self.nr_conns += 1
        self._collect(Connection(self.cfg, client, address, listener.getsockname()))

    def on_client_socket_readable(self, conn: Connection, client: Any) -> None:
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._collect(conn)

    def _collect(self, conn: Connection) -> None:
        """Wait for the rest of a request, unless it is there already."""
        conn.sock.setblocking(False)
        if not conn.arrived and not conn.receive():
            self._drop(conn)
        elif conn.is_whole(self._most_head):
            self._start(conn)
        else:
            conn.timeout = time.monotonic() + ARRIVAL_SECONDS
            self.pending_conns.append(conn)
            self.poller.register(conn.sock, EVENT_READ, partial(self._on_arrival, conn))

    def _on_arrival(self, conn: Connection, client: Any) -> None:
        gone = not conn.receive()
        if gone or conn.is_whole(self._most_head):
            self.poller.unregister(client)
            self.pending_conns.remove(conn)
            if gone:
                self._drop(conn)
            else:
                self._start(conn)

    # A thread answers it.

    def _start(self, conn: Connection) -> None:
        if conn.is_upload:
            # One thread at least is left for requests that are whole.
            if self._uploads >= max(1, self.cfg.threads - 1):
                self._refuse(conn, BUSY)
                return
            self._uploads += 1
        is_probe = conn.arrived.startswith(PROBES)
        conn.hand_over()
        future = (self._probes if is_probe else self.tpool).submit(self.handle, conn)
        if not is_probe:
            self._waiting.append((time.monotonic() + MOST_WAITING_SECONDS, conn, future))
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def handle_request(self, req: Any, conn: Connection) -> Any:
        if isinstance(req.body.reader, ChunkedReader):
            req.body.reader.parser = _chunks(req, req.body.reader.parser)
        return super().handle_request(req, conn)

    def finish_request(self, conn: Connection, done: Future[Any]) -> None:
        if conn.is_upload:
            self._uploads -= 1
            conn.is_upload = False
        if done.cancelled() or done.exception() or not done.result():
            self._linger(conn)
            return
        # The answer announced that the connection is kept: the next request may be there already.
        conn.arrived += conn.parser.unreader.take_buffered()
        if conn.arrived:
            self._collect(conn)
            return
        conn.sock.setblocking(False)
        conn.set_timeout()
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + LINGER_SECONDS)
        self.keepalived_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_client_socket_readable, conn))

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:  # noqa: ARG002 (gunicorn's)
        """Answer what the parser refuses, as gunicorn does, but with a problem instead of a page."""
        status = next((status for kind, status in REFUSED.items() if isinstance(exc, kind)), 500)
        if status == 500:
            self.log.exception("Error handling request")
            detail = "The service failed; its log says why."
        else:
            self.log.warning("A request that is no HTTP was answered with %s.", int(status))
            detail = f"The request cannot be read: {exc}"
        with contextlib.suppress(OSError):
            client.setblocking(False)
            client.send(_raw(Problem(status, detail)))

    # What takes too long goes.

    def murder_pending(self) -> None:
        """Gunicorn's loop calls this in every turn."""
        now = time.monotonic()
        while self.pending_conns and self.pending_conns[0].timeout <= now:
            conn = self.pending_conns.popleft()
            self.poller.unregister(conn.sock)
            if conn.arrived:
                self._refuse(conn, TOO_SLOW)
            else:
                self._drop(conn)
        while self._lingering and self._lingering[0].timeout <= now:
            conn = self._lingering.popleft()
            self.poller.unregister(conn.sock)
            self._drop(conn)
        # In the order in which threads take them.
        while self._waiting:
            latest, conn, future = self._waiting[0]
            if not (future.running() or future.done()):
                if latest > now:
                    break
                if future.cancel():  # after which finish_request ends the connection
                    conn.send(BUSY)
            self._waiting.popleft()

    def _cap_keepalive(self, deadline: float) -> None:
        """Gunicorn calls this when the worker is to stop."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _refuse(self, conn: Connection, answer: bytes) -> None:
        conn.is_upload = False
        conn.send(answer)
        self._linger(conn)

    def _linger(self, conn: Connection) -> None:
        """End a connection, but read on for a moment: closed at once, it could lose the answer (RFC 9112, 9.6)."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)
            return
        conn.timeout = time.monotonic() + LINGER_SECONDS
        self._lingering.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self._on_lingering, conn))

    def _on_lingering(self, conn: Connection, client: Any) -> None:
        conn.arrived.clear()
        if not conn.receive():
            self.poller.unregister(client)
            self._lingering.remove(conn)
            self._drop(conn)

    def _drop(self, conn: Connection) -> None:
        self.nr_conns -= 1
        conn.close()


def _chunks(req: Any, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of a chunked body; one that is no HTTP breaks off, as where a client has gone.

    The application then answers 400. What follows on the connection is no request.
    """
    try:
        yield from chunks
    except errors.ParseException as error:
        req.must_close = True
        raise errors.NoMoreData from error


def _raw(problem: Problem, *headers: str) -> bytes:
    """A problem as it goes over the wire, after which the connection ends."""
    body = problem.json()
    head = [
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in SECURITY_HEADERS),
        *headers,
    ]
    return "\r\n".join(head).encode() + _HEAD_END + body


BUSY = _raw(Problem(503, "The service has more to do than it can; try again in a moment."), "Retry-After: 1")
TOO_SLOW = _raw(Problem(408, f"The request did not arrive within {ARRIVAL_SECONDS} seconds."))

# What gunicorn's parser refuses, the special before the general.
REFUSED: dict[type[Exception], int] = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.ParseException: HTTPStatus.BAD_REQUEST,
}
