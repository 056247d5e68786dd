"""gunicorn's threaded worker, with threads for long work and for nothing else.

gunicorn's own gives a connection to a thread as soon as it opens. As many slow clients as there
are threads then hold up all others, what comes meanwhile waits for as long as it takes, and handing
a request to a thread and back costs more than a prediction. Here the worker's loop collects a
request. A short one it answers itself; others get a thread when they are whole; and one that has
waited too long is answered with 503 instead of late.
"""

import contextlib
import io
import re
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import datetime
from http import HTTPStatus
from secrets import token_hex
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

from gunicorn.http import errors, wsgi
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.workers.gthread import TConn, ThreadWorker

from churn.metrics import meter
from churn.problem import MEDIA_TYPE, Problem
from churn.web import SECURITY_HEADERS

# A body of up to so many bytes is collected by the loop; of a larger one a thread reads the rest.
COLLECTED = 1_000_000

# A request must have arrived, or the first so many bytes of its body, in so many seconds.
ARRIVAL_SECONDS = 30

# Between two pieces of a larger body, or of an answer, may be so many seconds.
STALL_SECONDS = 30

# A request that has waited so many seconds for its answer to begin is refused.
MOST_WAITING_SECONDS = 2

# A connection that was told to go is read for so many seconds, so that the client gets to read why.
LINGER_SECONDS = 2

# A POST of up to so many bytes, which is some ten customers, is answered by the loop.
SHORT = 16_384

# For so many seconds the loop answers what is waiting before it looks for what has come meanwhile.
TURN_SECONDS = 0.01

# What tells whether the service is alive does not wait behind what does.
PROBES = (b"GET /ping ", b"GET /health ", b"HEAD /ping ", b"HEAD /health ")

# Connections that are accepted at once: few enough to leave some to the other workers.
ACCEPTED = 16

# Bytes that are received at once.
CHUNK = 65536

CHECKED = frozenset(SECURITY_HEADERS)

_HEAD_END = b"\r\n\r\n"
_length = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})\b", re.IGNORECASE)
_chunked = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_continue = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A client's connection, what has arrived of its next request, and where it waits for what."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.arrived = bytearray()
        self.place: deque[Connection] | None = None
        self.rest = bytearray()  # of an answer
        self.is_short = False
        self.is_upload = False
        self._told_to_continue = False

    def wait_in(self, place: "deque[Connection] | None", seconds: float = 0) -> None:
        """Be in this place, and in no other, for so many seconds at most."""
        if self.place is not None:
            self.place.remove(self)
        self.place = place
        if place is not None:
            self.timeout = time.monotonic() + seconds
            place.append(self)

    def receive(self) -> bool:
        """Take what is there. False where the client has gone."""
        try:
            received = self.sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        self.arrived += received
        return bool(received)

    def is_whole(self, most_head: int) -> bool:
        """Whether the request has arrived, or as much of it as the loop collects."""
        self.is_short = False
        end = self.arrived.find(_HEAD_END, 0, most_head)
        if end < 0:
            return len(self.arrived) >= most_head  # which the parser refuses
        body = len(self.arrived) - end - len(_HEAD_END)
        if length := _length.search(self.arrived, 0, end):
            self.is_upload = int(length[1]) > COLLECTED
            whole = body >= min(int(length[1]), COLLECTED)
            self.is_short = len(self.arrived) <= SHORT and self.arrived.startswith(b"POST ")
        elif _chunked.search(self.arrived, 0, end):
            ended = self.arrived.endswith(b"0" + _HEAD_END)
            self.is_upload = not ended
            whole = ended or body >= COLLECTED
        else:
            whole = True
            self.is_short = self.arrived.startswith(PROBES)
        if not whole and not self._told_to_continue and _continue.search(self.arrived, 0, end):
            self._told_to_continue = True
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return whole

    def hand_over(self) -> None:
        """Give the head that has arrived to gunicorn's parser; the body it would copy again and again."""
        self.init()
        self.sock.setblocking(False)
        end = self.arrived.find(_HEAD_END)
        self.parser.unreader.unread(self.take(end + len(_HEAD_END) if end >= 0 else len(self.arrived)))
        self._told_to_continue = False

    def take(self, size: int) -> bytes:
        """So many of the bytes that have arrived, or as many as there are, which are then gone from there."""
        taken = bytes(memoryview(self.arrived)[:size])
        del self.arrived[:size]
        return taken

    def send(self, answer: bytes) -> None:
        """Send a short answer, if there is room for it: the loop waits for nobody."""
        with contextlib.suppress(OSError):
            self.sock.setblocking(False)
            self.sock.send(answer)


class Collected:
    """Stands before a socket, and collects what is written: it goes out in one piece, and nobody waits for that."""

    def __init__(self, sock: socket.socket):
        self._sock = sock
        self.answer = bytearray()

    def sendall(self, piece: bytes) -> None:
        self.answer += piece

    send = sendall

    def setblocking(self, flag: bool) -> None:
        """Stay as it is: the loop waits for nobody."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class Answer(wsgi.Response):  # type: ignore[misc]
    """gunicorn's answer to a request; what is in every one of them is not checked in every one."""

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        super().process_headers([header for header in headers if header not in CHECKED])
        self.headers += [header for header in headers if header in CHECKED]


class LargeBody(io.RawIOBase):
    """The body of a request: what has arrived, and then what the socket gives.

    Before all of it is read, what follows on the connection is no request: then the connection ends.
    """

    def __init__(self, req: Any, arrived: bytes, length: int, sock: socket.socket):
        self._req = req
        req.must_close = True
        self._arrived = memoryview(arrived)
        self._left = length
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer)[: self._left]
        if self._arrived:
            size = min(len(room), len(self._arrived))
            room[:size] = self._arrived[:size]
            self._arrived = self._arrived[size:]
        else:
            size = self._sock.recv_into(room) if room else 0
        self._left -= size
        if not self._left:
            self._req.must_close = False
        return size


class Worker(ThreadWorker):  # type: ignore[misc]
    """The threaded worker, as `worker_class` in gunicorn.conf.py, for plain HTTP/1.

    A connection waits in one of these places, each in the order in which they have to leave it:
    `keepalived_conns` for a request, `pending_conns` for the rest of one, `_short` for its answer
    by the loop, `_sending` for a client that is slow to read it, `_lingering` for the client to read
    a last answer. `_waiting` has those that wait for a thread.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._short: deque[Connection] = deque()
        self._waiting: deque[tuple[float, Connection, Future[Any]]] = deque()
        self._sending: deque[Connection] = deque()
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
        # gunicorn asks for some twenty settings in each request, each by way of two functions.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().init_process()

    # A request arrives.

    def accept(self, listener: Any) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            for _ in range(min(ACCEPTED, self.worker_connections - self.nr_conns)):
                client, address = listener.accept()
                self._welcome(client, address, listener.getsockname())

    def _welcome(self, client: socket.socket, address: Any, server: Any) -> None:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # for the threads: the loop never waits
            client.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", STALL_SECONDS, 0))
        self.nr_conns += 1
        conn = Connection(self.cfg, client, address, server)
        conn.wait_in(self.pending_conns, ARRIVAL_SECONDS)
        self._watch(conn)
        self._on_readable(conn)

    def _watch(self, conn: Connection) -> None:
        self.poller.register(conn.sock, EVENT_READ, lambda _: self._on_readable(conn))

    def _on_readable(self, conn: Connection) -> None:
        if conn.place is self._short:
            return  # first its answer
        if not conn.receive():
            self._drop(conn)
        elif conn.place is self._lingering:
            conn.arrived.clear()
        else:
            self._collect(conn)
            if conn.place is self._short and conn.arrived.startswith(PROBES):
                self._short.rotate()  # from the end to the front

    def _collect(self, conn: Connection) -> None:
        """Start what has arrived, or wait for the rest of it."""
        if conn.is_whole(self._most_head):
            self._start(conn)
        elif conn.place is not self.pending_conns:
            conn.wait_in(self.pending_conns, ARRIVAL_SECONDS)

    def _start(self, conn: Connection) -> None:
        if conn.is_short:
            conn.wait_in(self._short, MOST_WAITING_SECONDS)
        else:
            self._start_thread(conn)

    # The loop answers it.

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Gunicorn's loop calls this in every turn."""
        super().wait_for_and_dispatch_events(0 if self._short else timeout)
        now = time.monotonic()
        until = now + TURN_SECONDS
        while self._short and now < until:
            conn = self._short[0]
            if conn.timeout < now:
                self._refuse(conn, BUSY)
            else:
                self._answer(conn)
            now = time.monotonic()

    def _answer(self, conn: Connection) -> None:
        conn.wait_in(None)
        conn.hand_over()
        sock, conn.sock = conn.sock, Collected(conn.sock)
        is_kept = self.handle(conn)
        conn.rest, conn.sock = conn.sock.answer, sock
        self._send(conn, is_kept)

    def _send(self, conn: Connection, is_kept: bool) -> None:
        """Send what is left of an answer, now as far as there is room for it."""
        try:
            sent = conn.sock.send(conn.rest)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(conn)
            return
        del conn.rest[:sent]
        if conn.rest:
            conn.wait_in(self._sending, STALL_SECONDS)
            self.poller.modify(conn.sock, EVENT_WRITE, lambda _: self._send(conn, is_kept))
            return
        if conn.place is self._sending:
            conn.wait_in(None)
            self.poller.modify(conn.sock, EVENT_READ, lambda _: self._on_readable(conn))
        self._finish(conn, is_kept)

    # A thread answers it.

    def _start_thread(self, conn: Connection) -> None:
        if conn.is_upload:
            # One thread at least is left for requests that are whole.
            if self._uploads >= max(1, self.cfg.threads - 1):
                self._refuse(conn, BUSY)
                return
            self._uploads += 1
        conn.wait_in(None)
        conn.hand_over()
        self.poller.unregister(conn.sock)
        future = self.tpool.submit(self.handle, conn)
        self._waiting.append((time.monotonic() + MOST_WAITING_SECONDS, conn, future))
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def finish_request(self, conn: Connection, done: "Future[bool]") -> None:
        if conn.is_upload:
            self._uploads -= 1
            conn.is_upload = False
        conn.sock.setblocking(False)
        self._watch(conn)
        self._finish(conn, not done.cancelled() and not done.exception() and done.result())

    def _finish(self, conn: Connection, is_kept: bool) -> None:
        if not is_kept:
            self._linger(conn)
            return
        # The answer announced that the connection is kept: the next request may be there already.
        conn.arrived[:0] = conn.parser.unreader.take_buffered()
        if conn.arrived:
            self._collect(conn)
        else:
            conn.wait_in(self.keepalived_conns, self.cfg.keepalive if self.alive else LINGER_SECONDS)

    # What gunicorn's own worker does for a request, in a thread or in the loop.

    def handle_request(self, req: Any, conn: Connection) -> Any:
        match req.body.reader:
            case LengthReader(length=length):
                arrived = conn.take(length)
                req.body = io.BytesIO(arrived)
                if len(arrived) < length:
                    req.body = io.BufferedReader(LargeBody(req, arrived, length, conn.sock), CHUNK)
            case ChunkedReader() as reader:
                conn.parser.unreader.unread(conn.take(len(conn.arrived)))
                reader.parser = _chunks(req, reader.parser)
        resp, environ = wsgi.create(req, conn.sock, conn.client, conn.server, self.cfg, response_class=Answer)
        environ["wsgi.multithread"] = True
        self.nr += 1
        if self.nr == self.max_requests:
            self.log.info("The worker has answered max_requests, and is replaced.")
            self.alive = False
        if not self.alive or not self.cfg.keepalive or len(self.keepalived_conns) >= self.max_keepalived:
            resp.force_close()
        try:
            self.cfg.pre_request(self, req)
            self._respond(resp, environ)
        except Exception as error:
            if isinstance(error, OSError) or not resp.headers_sent:
                raise
            self.log.exception("Error handling request")
            return False
        finally:
            self.cfg.post_request(self, req, environ, resp)
        meter.catch_up()
        return not resp.should_close()

    def _respond(self, resp: Any, environ: dict[str, Any]) -> None:
        started = datetime.now()
        pieces = self.wsgi(environ, resp.start_response)
        try:
            if isinstance(pieces, wsgi.FileWrapper):
                resp.write_file(pieces)
            else:
                for piece in pieces:
                    resp.write(piece)
            resp.close()
        finally:
            self.log.access(resp, resp.req, environ, datetime.now() - started)
            if hasattr(pieces, "close"):
                pieces.close()

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        if isinstance(conn.parser.mesg.body, io.BytesIO):  # of which nothing is left on the socket
            return keepalive
        kept: bool = super()._keepalive_after(conn, keepalive)
        return kept

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
            client.send(_refusal(Problem(status, detail)))

    # What takes too long goes.

    def murder_pending(self) -> None:
        """Gunicorn's loop calls this in every turn."""
        now = time.monotonic()
        while self.pending_conns and self.pending_conns[0].timeout <= now:
            conn = self.pending_conns[0]
            if conn.arrived:
                self._refuse(conn, TOO_SLOW)
            else:
                self._drop(conn)
        for place in (self._sending, self._lingering):
            while place and place[0].timeout <= now:
                self._drop(place[0])
        # In the order in which threads take them.
        while self._waiting:
            latest, conn, future = self._waiting[0]
            if not (future.running() or future.done()):
                if latest > now:
                    break
                if future.cancel():  # after which finish_request ends the connection
                    conn.send(_refusal(BUSY))
            self._waiting.popleft()

    def _cap_keepalive(self, deadline: float) -> None:
        """Gunicorn calls this when the worker is to stop."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _refuse(self, conn: Connection, problem: Problem) -> None:
        conn.is_upload = False
        conn.send(_refusal(problem))
        self._linger(conn)

    def _linger(self, conn: Connection) -> None:
        """End a connection, but read on for a moment: closed at once, it could lose the answer (RFC 9112, 9.6)."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)
            return
        conn.wait_in(self._lingering, LINGER_SECONDS)

    def _drop(self, conn: Connection) -> None:
        conn.wait_in(None)
        self.poller.unregister(conn.sock)
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


def _refusal(problem: Problem) -> bytes:
    """A problem as it goes over the wire, after which the connection ends; it is counted."""
    meter.refused(problem.status)
    request_id = token_hex(8)
    body = problem.json(request_id)
    headers = {"X-Request-ID": request_id, **dict(SECURITY_HEADERS), **(problem.headers or {})}
    head = [
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(head).encode() + _HEAD_END + body


BUSY = Problem(503, "The service has more to do than it can; try again in a moment.", headers={"Retry-After": "1"})
TOO_SLOW = Problem(408, f"The request did not arrive within {ARRIVAL_SECONDS} seconds.")

# What gunicorn's parser refuses, the special before the general.
REFUSED: dict[type[Exception], int] = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.ParseException: HTTPStatus.BAD_REQUEST,
}
