"""The bodies of requests: how large they may be, how many at once, and what happens when they stop halfway."""

import io
from functools import partial
from threading import BoundedSemaphore
from typing import Any

from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from serving.observation import Environ
from serving.problem import Problem
from serving.turns import in_turns

# Bodies of more bytes are large, and a process takes so many of them at once: each can take 100 MB of memory,
# or a gigabyte of disk.
LARGE, MOST_LARGE = 100_000, 8

# Bytes of a body that are read at once.
CHUNK = 65536

# Bytes of a refused body that are read, since most clients read no answer before they have sent all.
MOST_DISCARDED = 100_000_000

# Where gunicorn.conf.py is told to end the connection after the answer.
IS_BROKEN = "serving.body_is_broken"

STOPPED = "The rest of the request did not arrive in time."

_large = BoundedSemaphore(MOST_LARGE)


class Body(io.RawIOBase):
    """The body of a request as it arrives, of up to so many bytes; it must be closed.

    Raises `Problem` where it stops arriving, is not sent as HTTP wants it, or is one large body too many;
    `RequestEntityTooLarge` beyond those bytes, and `ClientDisconnected` where it breaks off.
    """

    def __init__(self, environ: Environ, most: int):
        self._environ = environ
        self._most = most
        self._length = _length(environ)
        self._received = 0
        self._is_large = False
        if self._length is not None and self._length > most:
            raise RequestEntityTooLarge
        if self._length is not None and self._length > LARGE:
            self._become_large()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for some of the body. Gives the number of bytes, and 0 at its end."""
        if self._length is None:
            piece = received(self._environ, len(buffer))
        else:
            piece = _received_all(self._environ, min(len(buffer), self._length - self._received))
        self._received += len(piece)
        if self._received > self._most:
            raise RequestEntityTooLarge
        if self._received > LARGE and not self._is_large:
            self._become_large()
        buffer[: len(piece)] = piece
        return len(piece)

    def _become_large(self) -> None:
        if not _large.acquire(blocking=False):
            raise Problem(
                503,
                f"{MOST_LARGE} large bodies are being received; try again in a moment.",
                headers={"Retry-After": "1"},
            )
        self._is_large = True

    def close(self) -> None:
        """Make room for another large body."""
        if self._is_large:
            self._is_large = False
            _large.release()
        super().close()


def whole(environ: Environ, most: int) -> bytes:
    """The body of a request, whole; raises what `Body` does."""
    length = _length(environ)
    if length is not None and length <= min(most, LARGE):
        return _received_all(environ, length)
    with Body(environ, most) as body:
        return body.readall() if length is None else _received_all(environ, length)


def _received_all(environ: Environ, length: int) -> bytes:
    found = received(environ, length)
    if len(found) < length:
        raise broken_off(environ)
    return found


def received(environ: Environ, size: int) -> bytes:
    """So many bytes of a body, or what there is before its end. Raises `Problem`, and `ClientDisconnected`."""
    source: Any = environ["wsgi.input"]
    # gunicorn's body reads by the kilobyte, which takes a quarter of the time of an array; its reader, as asked.
    read = getattr(source, "reader", source).read
    try:
        found: bytes = read(size)
        return found
    except TimeoutError as error:
        environ[IS_BROKEN] = True
        raise Problem(408, STOPPED) from error
    except OSError as error:
        raise broken_off(environ) from error
    except Exception as error:  # each server has exceptions of its own
        environ[IS_BROKEN] = True
        raise Problem(400, "The body is not sent as HTTP wants it: its chunks cannot be read.") from error


def broken_off(environ: Environ) -> ClientDisconnected:
    """What to raise where a body ends too early."""
    environ[IS_BROKEN] = True
    return ClientDisconnected("The body ended before it was whole.")


def discard(environ: Environ) -> None:
    """Read what is left of a body that nobody wants, or end the connection where that is too much."""
    if environ.get(IS_BROKEN) or not environ.get("wsgi.input_terminated"):  # it could be waited for in vain
        return
    left = MOST_DISCARDED
    try:
        for piece in in_turns(iter(partial(received, environ, CHUNK), b"")):
            left -= len(piece)
            if left < 0:
                environ[IS_BROKEN] = True
                return
    except (Problem, ClientDisconnected):
        return


def _length(environ: Environ) -> int | None:
    """The length that was announced; None where the body comes in chunks."""
    text = environ.get("CONTENT_LENGTH", "")
    if text.isdecimal() and len(text) < 20:
        return int(text)
    is_chunked = environ.get("wsgi.input_terminated") or "HTTP_TRANSFER_ENCODING" in environ
    return None if is_chunked else 0
