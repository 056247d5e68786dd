"""gunicorn's gevent worker, for clients that stop halfway, and clients that send without end."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import gevent
from gunicorn.workers.ggevent import GeventWorker

from serving.turns import TURN_SECONDS

# Bytes of a body that are received at once. gunicorn asks for 8 kB and takes more as well; so an array of 5 MB takes a
# twentieth less time, and with twice as many a tenth more.
RECEIVED = 32_768

# Bytes that are read at once, and the priority with which a pause ends when all have been looked at once.
CHUNK, MOST_URGENT = 65_536, 2

# A head must have arrived so many seconds after its first byte; between two pieces of a body or of an answer may be
# as many; and so many after its beginning a body must come at this rate, in bytes a second.
STALL_SECONDS, SLOWEST = 30, 1000

# Bytes that may arrive in chunks until the application says that it `took` something: gunicorn sets no limit to the
# sizes of chunks, their extensions and trailers.
MOST_FRAMING = 1_000_000

# Bytes of a body that nobody has asked for, and that are read all the same: most clients read no answer before they
# have sent all.
MOST_UNREAD = 100_000_000

# Connections that ask nothing are ended so many seconds after the worker was told to stop: a client that is about
# to ask gets its answer.
IDLE_SECONDS = 2


class Client:
    """A connection's socket, as gunicorn reads it."""

    def __init__(self, sock: socket.socket):
        self._sock = sock
        self._request: Any = None  # while one is being answered
        self._began = time.monotonic()  # the request, or its head
        self._received = 0  # since then
        self._framing = 0
        self._is_chunked = False
        self._turn_ends = self._began + TURN_SECONDS
        sock.settimeout(STALL_SECONDS)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def setblocking(self, flag: bool) -> None:
        """Keep the time limits, which gunicorn would take away."""

    def begin(self, request: Any) -> None:
        """A request's head has arrived; None when its answer has gone, and the next one is waited for."""
        self._request = request
        self._is_chunked = request is not None and any(name == "TRANSFER-ENCODING" for name, _ in request.headers)
        self._began = time.monotonic()
        self._turn_ends = self._began + TURN_SECONDS
        self._received = self._framing = 0
        self._sock.settimeout(STALL_SECONDS if request else None)

    def recv(self, size: int) -> bytes:
        """Wait for bytes. Raises `TimeoutError` in a body; a head that does not arrive is as if the client had gone."""
        now = time.monotonic()
        if now >= self._turn_ends:  # gevent itself lets nobody else in while there is something to read
            gevent.idle(MOST_URGENT)
            self._turn_ends = time.monotonic() + TURN_SECONDS
        if self._request is None:
            return self._recv_head(size)
        if now - self._began > STALL_SECONDS + self._received / SLOWEST or (
            self._is_chunked and self._framing > MOST_FRAMING
        ):
            raise TimeoutError("the body comes too slowly, or is all framing")
        piece = self._sock.recv(max(size, RECEIVED))
        self._received += len(piece)
        self._framing += len(piece)
        return piece

    def _recv_head(self, size: int) -> bytes:
        try:
            piece = self._sock.recv(size)
            if not self._received:
                self._began = time.monotonic()
            self._received += len(piece)
            # What is left of the head's seconds.
            self._sock.settimeout(max(0.001, self._began + STALL_SECONDS - time.monotonic()))
        except TimeoutError:
            return b""
        return piece

    def is_read(self, body: Any) -> bool:
        """Whether a body comes to its end, so that the next request can be read; the rest of it is forgotten."""
        try:
            for _ in range(MOST_UNREAD // CHUNK):
                if not body.read(CHUNK):
                    return True
                self.took()
        except Exception:  # whatever is wrong with it, the answer has gone
            return False
        return False

    def took(self) -> None:
        """Something of the body has arrived where it was asked for."""
        self._framing = 0

    def end_after_answer(self) -> None:
        """What follows on the connection is no request."""
        self._request.must_close = True


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """`worker_class` in gunicorn.conf.py.

    gunicorn's own waits for bodies and for readers without end, and for connections that ask nothing until a stop
    is a kill. It also asks for some twenty settings in each request, by way of two functions each; looked up once,
    as here, they cost it an eighth of its requests less.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._clients: dict[Any, Client] = {}  # by their greenlets
        self._waiting: set[Client] = set()  # for a request

    def init_process(self) -> None:
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().init_process()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        connection = gevent.getcurrent()  # there is a greenlet for each
        self._clients[connection] = Client(client)
        try:
            super().handle(listener, self._clients[connection], addr)
        finally:
            del self._clients[connection]

    @contextlib.contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Gunicorn waits in it for the head of a request."""
        # First whoever else has something to read: with one client that asks at once again, the others would wait
        # for 60 ms (99th percentile of 16) instead of 7.
        gevent.idle(MOST_URGENT)
        client = self._clients[gevent.getcurrent()]
        self._waiting.add(client)
        try:
            with super().timeout_ctx():
                yield
        finally:
            self._waiting.discard(client)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        sock.begin(req)
        try:
            super().handle_request(listener_name, req, sock, addr)
        except TimeoutError as error:
            raise StopIteration from error  # which ends the connection
        if not sock.is_read(req.body):
            raise StopIteration
        sock.begin(None)

    def run(self) -> None:
        gevent.spawn(self._end_idle_connections)
        super().run()

    def _end_idle_connections(self) -> None:
        while self.alive:
            gevent.sleep(0.1)
        gevent.sleep(IDLE_SECONDS)
        while True:
            for client in [*self._waiting]:
                # What has arrived can still be read, and is answered: gevent's own shutdown would cancel that.
                with contextlib.suppress(OSError), socket.socket(fileno=os.dup(client.fileno())) as twin:
                    twin.shutdown(socket.SHUT_RD)
            gevent.sleep(0.1)
