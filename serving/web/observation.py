"""What is seen of every request: its id, how long its answer took, and which status it got."""

import re
from collections.abc import Callable, Iterable
from random import getrandbits
from time import perf_counter
from typing import Any

from werkzeug.wsgi import ClosingIterator

from serving.web.metrics import meter

# Asked by machines every few seconds; they would drown what other requests look like.
UNCOUNTED = frozenset({"/ping", "/health", "/metrics"})

# Where a request's WSGI environment has its id, and once it is answered its route.
REQUEST_ID, ROUTE = "serving.request_id", "serving.route"

# Where it has, of a large body, what makes room for the next one: called when the answer has gone.
LARGE_BODY = "serving.large_body"

# The ids that are taken over: printable, and not so long that they fill the log.
_usable_id = re.compile(r"[!-~]{1,128}").fullmatch

Environ = dict[str, Any]
WSGI = Callable[[Environ, Any], Iterable[bytes]]


def observed(
    application: WSGI, environ: Environ, start_response: Any, route: Callable[[Environ], str], model: str
) -> Iterable[bytes]:
    """The application's answer to a request, with the request's id and that of the model; it is counted.

    `route` finds the request's route afterwards.
    """
    started = perf_counter()
    given = environ.get("HTTP_X_REQUEST_ID")
    # `random` begins anew in each forked process, and takes a third of the time of the system's generator.
    request_id = environ[REQUEST_ID] = given if given and _usable_id(given) else f"{getrandbits(64):016x}"
    answered = ""

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        nonlocal answered
        answered = status
        headers += [("X-Request-ID", request_id), ("X-Model", model)]
        return start_response(status, headers, exc_info)

    answer = application(environ, start)
    found = environ[ROUTE] = route(environ)
    if found not in UNCOUNTED:
        meter.request(found, int(answered[:3]), perf_counter() - started)
    return ClosingIterator(answer, environ[LARGE_BODY]) if LARGE_BODY in environ else answer
