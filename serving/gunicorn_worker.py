"""gunicorn's gevent worker, with time limits on clients that stop halfway."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import gevent
from gunicorn.workers.ggevent import GeventWorker

# A request's head must have arrived in so many seconds, and between two pieces of a body or of an answer may be
# as many.
STALL_SECONDS = 30

# Connections that ask nothing are ended so many seconds after the worker was told to stop: a client that is about
# to ask gets its answer.
IDLE_SECONDS = 2


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """`worker_class` in gunicorn.conf.py.

    gunicorn's own waits for bodies and for readers without end, and for connections that ask nothing until a stop
    is a kill. It also asks for some twenty settings in each request, by way of two functions each; looked up once,
    as here, they cost it an eighth of its requests less.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._waiting: set[socket.socket] = set()  # the connections that wait for a request

    def init_process(self) -> None:
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().init_process()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        connection = gevent.getcurrent()  # there is a greenlet for each
        connection.sock, connection.seconds = client, STALL_SECONDS
        super().handle(listener, client, addr)

    @contextlib.contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Gunicorn waits in it for the head of a request, the first on a connection or the next one."""
        # First whoever else has something to read: with one client that asks at once again, the others would wait
        # for 60 ms (99th percentile of 16) instead of 7. (2 is the highest priority, so that none is passed over.)
        gevent.idle(2)
        connection = gevent.getcurrent()
        self._waiting.add(connection.sock)
        try:
            with gevent.Timeout(connection.seconds, False):
                yield
        finally:
            self._waiting.discard(connection.sock)
            connection.seconds = self.cfg.keepalive

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        sock.settimeout(STALL_SECONDS)
        try:
            super().handle_request(listener_name, req, sock, addr)
        except TimeoutError as error:
            raise StopIteration from error  # which ends the connection
        sock.settimeout(None)

    def run(self) -> None:
        gevent.spawn(self._end_idle_connections)
        super().run()

    def _end_idle_connections(self) -> None:
        while self.alive:
            gevent.sleep(0.1)
        gevent.sleep(IDLE_SECONDS)
        for sock in self._waiting:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)  # what has arrived can still be read, and is answered
