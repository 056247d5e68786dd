"""What is seen of every request: how long its answer took, and which status it got."""

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from churn.metrics import meter

# Asked by machines every few seconds; they would drown what customers' requests look like.
UNCOUNTED = frozenset({"/ping", "/health", "/metrics"})

# Where no route was found: paths are invented without end.
UNKNOWN = "unknown"

Environ = dict[str, Any]
WSGI = Callable[[Environ, Any], Iterable[bytes]]


def observed(
    application: WSGI, environ: Environ, start_response: Any, route: Callable[[Environ], str]
) -> Iterable[bytes]:
    """The application's answer to a request, which is counted; `route` finds its route afterwards."""
    started = perf_counter()
    answered = ""

    def start(status: str, *headers: Any) -> Any:
        nonlocal answered
        answered = status
        return start_response(status, *headers)

    answer = application(environ, start)
    if environ["PATH_INFO"] not in UNCOUNTED:
        meter.request(route(environ), int(answered[:3]), perf_counter() - started)
    return answer
