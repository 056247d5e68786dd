"""The bodies of requests: how large they may be, how many at once, and what happens when they stop halfway."""

import gzip
import io
import zlib
from collections.abc import Callable
from threading import BoundedSemaphore
from typing import Any

from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from serving.web.observation import LARGE_BODY, Environ
from serving.web.problem import Problem

# Bodies of more bytes are large, and workbooks, which become so. A process takes so many of them at once, until they
# are answered: each can take 100 MB of memory, a gigabyte of disk, or the only place where workbooks are unpacked.
LARGE, MOST_LARGE = 100_000, 8

# Bytes of a body that are read at once.
CHUNK = 65_536

# Bytes of a large body that must have come before it takes a place: to announce it is not enough. More may not be left
# of it on the connection, if the first ones came with the request before it.
AWAITED = 25_000

# RFC 9110, section 15.5.16: what an answer of 415 names.
ENCODINGS = {"Accept-Encoding": "gzip"}

STOPPED = "The rest of the request did not arrive in time."

_large = BoundedSemaphore(MOST_LARGE)


class BodyTooLarge(RequestEntityTooLarge):
    """A body has more bytes than are taken, or becomes more."""


class Body(io.RawIOBase):
    """The body of a request as it arrives, of up to so many bytes.

    Raises `Problem` where it stops arriving, is not sent as HTTP wants it, or is one large body too many;
    `BodyTooLarge` beyond those bytes, and `ClientDisconnected` where it breaks off.
    """

    def __init__(self, environ: Environ, most: int):
        self._environ = environ
        self._most = most
        self._length = _length(environ)
        self._received = 0
        if self._length is not None and self._length > most:
            raise BodyTooLarge

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait until the buffer is full, or for what is left. Gives the number of bytes, and 0 at its end."""
        size = len(buffer)
        if self._length is not None:
            size = min(size, self._length - self._received)
        found = _received(self._environ, size, is_whole=self._length is not None)
        self._received += len(found)
        if took := getattr(self._environ.get("gunicorn.socket"), "took", None):
            took()
        _admit(self._environ, self._received, self._most)
        buffer[: len(found)] = found
        return len(found)


class Unpacked(io.RawIOBase):
    """What a body in gzip becomes, of up to so many bytes.

    Raises what `Body` does, and `Problem` for what is no gzip.
    """

    def __init__(self, environ: Environ, most: int):
        self._environ = environ
        self._most = most
        self._file = gzip.GzipFile(fileobj=io.BufferedReader(Body(environ, most), CHUNK))
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Unpack some of the body. Gives the number of bytes, and 0 at its end."""
        try:
            found = self._file.read(len(buffer))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise Problem(400, f"The body is not the gzip that its Content-Encoding says: {error}.") from error
        self._given += len(found)
        _admit(self._environ, self._given, self._most)
        buffer[: len(found)] = found
        return len(found)


def of(environ: Environ, most: int) -> io.RawIOBase:
    """The body of a request as it arrives, unpacked. Raises `Problem` for an encoding that is not known."""
    match environ.get("HTTP_CONTENT_ENCODING", "").strip().lower():
        case "" | "identity":
            return Body(environ, most)
        case "gzip" | "x-gzip":
            return Unpacked(environ, most)
        case other:
            raise Problem(415, f"The body's Content-Encoding is {other}; it can be gzip.", headers=ENCODINGS)


def whole(environ: Environ, most: int) -> bytes:
    """The body of a request, whole; raises what `Body` does.

    It is read as one: pieces that are put together take a twentieth more of an array's time.
    """
    length = _length(environ)
    if length is None or environ.get("HTTP_CONTENT_ENCODING"):
        body = of(environ, most)
        return b"".join(iter(lambda: body.read(CHUNK), b""))
    if length > min(most, LARGE):
        if length <= most and (wait := getattr(environ.get("gunicorn.socket"), "wait_for", None)):
            _received(environ, AWAITED, is_whole=False, read=wait)
        _admit(environ, length, most)
    return _received(environ, length, is_whole=True)


def _admit(environ: Environ, number: int, most: int) -> None:
    """Raise `BodyTooLarge` where a body has more bytes than it may have, and `Problem` where it has become one large
    body too many."""
    if number > most:
        raise BodyTooLarge
    if number > LARGE:
        take_place(environ)


def take_place(environ: Environ) -> None:
    """Have a request be one of those with a large body. Raises `Problem` where it is one too many."""
    if LARGE_BODY not in environ:
        if not _large.acquire(blocking=False):
            detail = f"{MOST_LARGE} large bodies are being received or answered; try again in a moment."
            raise Problem(503, detail, headers={"Retry-After": "1"})
        environ[LARGE_BODY] = _large.release


def _received(environ: Environ, size: int, is_whole: bool, read: Callable[[int], bytes] | None = None) -> bytes:
    """What the request's body, or else `read`, gives when it is asked for so many bytes."""
    source: Any = environ["wsgi.input"]
    # gunicorn's body reads by the kilobyte, which takes a quarter of the time of an array; its reader, as asked.
    read = read or getattr(source, "reader", source).read
    try:
        found = read(size)
    except TimeoutError as error:
        _end_connection(environ)
        raise Problem(408, STOPPED) from error
    except OSError as error:
        _end_connection(environ)
        raise ClientDisconnected("The connection broke off.") from error
    except Exception as error:  # each server has exceptions of its own
        _end_connection(environ)
        raise Problem(400, "The body is not sent as HTTP wants it: its chunks cannot be read.") from error
    if is_whole and len(found) < size:
        _end_connection(environ)
        raise ClientDisconnected("The body ended before it was whole.")
    return found


def _end_connection(environ: Environ) -> None:
    """End it after the answer, where that is this project's to say: under its own gunicorn worker."""
    if end := getattr(environ.get("gunicorn.socket"), "end_after_answer", None):
        end()


def _length(environ: Environ) -> int | None:
    """The length that was announced; None where the body comes in chunks."""
    try:
        return max(0, int(environ["CONTENT_LENGTH"]))
    except (KeyError, ValueError):
        pass
    is_chunked = environ.get("wsgi.input_terminated") or "HTTP_TRANSFER_ENCODING" in environ
    return None if is_chunked else 0
