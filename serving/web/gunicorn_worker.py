"""gunicorn's gevent worker, for clients that stop halfway, and clients that send without end."""

import contextlib
import os
import socket
import time
from typing import Any

import gevent
from gunicorn.workers.ggevent import GeventWorker

from serving.turns import TURN_SECONDS

# Bytes of a body that are received at once. gunicorn asks for 8 kB and takes more as well; so an array of 5 MB takes a
# tenth less time.
RECEIVED = 65_536

# The priority with which a pause ends when all others have been looked at once.
MOST_URGENT = 2

# A head must arrive within so many seconds of its first byte; between two pieces of a body or of an answer may be
# as many; and so many after its beginning a body must come at this rate, in bytes a second.
STALL_SECONDS, SLOWEST = 30, 1000

# Bytes that may arrive in chunks until the application says that it `took` something: gunicorn sets no limit to the
# sizes of chunks, their extensions and trailers.
MOST_FRAMING = 1_000_000

# Bytes of a body that are left when the answer has gone, and which gunicorn reads before it looks for the next head:
# most clients read no answer before they have sent all.
MOST_UNREAD = 100_000_000

# Connections that ask nothing are ended so many seconds after the worker was told to stop: a client that is about
# to ask gets its answer.
IDLE_SECONDS = 2


class Client:
    """A connection's socket, as gunicorn reads it."""

    def __init__(self, sock: socket.socket):
        self._sock = sock
        self._request: Any = None  # while one is being answered
        self._has_asked = False
        self._began = 0.0  # when the head had arrived, or its first byte had
        self._received = 0  # of its body, or before it of its head and of what nobody wanted of the body before
        self._awaited = b""  # of its body, and not given yet
        self._framing = 0
        self._turn_ends = 0.0
        sock.settimeout(STALL_SECONDS)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def setblocking(self, flag: bool) -> None:
        """Keep the time limit, which gunicorn would take away."""

    def begin(self, request: Any) -> None:
        """A request's head has arrived; None when its answer has gone, and the next one is waited for."""
        self._request = request
        self._has_asked = True
        self._began = time.monotonic()
        self._received = self._framing = 0
        self._turn_ends = self._began + TURN_SECONDS

    def is_waiting(self) -> bool:
        """Whether there is no request that is being answered."""
        return self._request is None

    def recv(self, size: int) -> bytes:
        """Wait for bytes. Raises `TimeoutError` in a body; a head that does not arrive is as if the client had gone."""
        if self._awaited:
            awaited, self._awaited = self._awaited, b""
            return awaited
        if self._request is None:
            return self._recv_head(size)
        now = self._let_others_in()
        is_slow = now - self._began > STALL_SECONDS + self._received / SLOWEST
        if is_slow or (self._framing > MOST_FRAMING and self._is_chunked()):
            raise TimeoutError("the body comes too slowly, or is all framing")
        piece = self._sock.recv(max(size, RECEIVED))
        self._received += len(piece)
        self._framing += len(piece)
        return piece

    def wait_for(self, size: int) -> bytes:
        """Wait for so many bytes of a body, or its end, and give them; they can still be received."""
        found = b""
        while len(found) < size and (piece := self.recv(size)):
            found += piece
        self._awaited = found
        return found

    def _recv_head(self, size: int) -> bytes:
        if self._received:
            is_late = self._let_others_in() - self._began > STALL_SECONDS
            if is_late or self._received > MOST_UNREAD:
                return b""
        while True:
            try:
                piece = self._sock.recv(size)
                break
            except TimeoutError:
                if self._received or not self._has_asked:
                    return b""
        if not self._received:
            self._began = time.monotonic()
        self._received += len(piece)
        return piece

    def _let_others_in(self) -> float:
        now = time.monotonic()
        if now >= self._turn_ends:  # gevent itself lets nobody else in while there is something to read
            gevent.idle(MOST_URGENT)
            now = time.monotonic()
            self._turn_ends = now + TURN_SECONDS
        return now

    def _is_chunked(self) -> bool:
        return any(name == "TRANSFER-ENCODING" for name, _ in self._request.headers)

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
        self._clients: set[Client] = set()

    def init_process(self) -> None:
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().init_process()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        connection = Client(client)
        self._clients.add(connection)
        try:
            super().handle(listener, connection, addr)
        finally:
            self._clients.discard(connection)

    def timeout_ctx(self) -> Any:
        """Gunicorn waits in it for the head of a request."""
        # First whoever else has something to read: with one client that asks at once again, the others would wait
        # for 60 ms (99th percentile of 16) instead of 7.
        gevent.idle(MOST_URGENT)
        return super().timeout_ctx()

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        sock.begin(req)
        try:
            super().handle_request(listener_name, req, sock, addr)
        except TimeoutError as error:
            raise StopIteration from error  # which ends the connection
        sock.begin(None)

    def run(self) -> None:
        gevent.spawn(self._end_idle_connections)
        super().run()

    def _end_idle_connections(self) -> None:
        while self.alive:
            gevent.sleep(0.1)
        gevent.sleep(IDLE_SECONDS)
        while True:
            for client in [each for each in self._clients if each.is_waiting()]:
                # What has arrived can still be read, and is answered: gevent's own shutdown would cancel that.
                with contextlib.suppress(OSError), socket.socket(fileno=os.dup(client.fileno())) as twin:
                    twin.shutdown(socket.SHUT_RD)
            gevent.sleep(0.1)
