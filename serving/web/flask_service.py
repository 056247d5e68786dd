"""Flask with less work around each request: no session, no absolute URLs, headers as they are sent."""

import io
from collections.abc import Iterable
from functools import cached_property, partial
from typing import IO, Any

from flask import Flask, Request, Response, appcontext_tearing_down, request, request_tearing_down
from flask.sessions import NullSession, SessionInterface
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from serving.web import logs
from serving.web.bodies import CHUNK
from serving.web.metrics import UNKNOWN
from serving.web.observation import REQUEST_ID, Environ, observed
from serving.web.served_model import ServedModel

JSON = "application/json"
CSV = "text/csv"
EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FORM = "multipart/form-data"

# What a page may load: its own files and nothing else, and no script or style inside the page.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
}

# What every answer tells browsers: take it for what it says it is, keep no copy, show nothing of
# it as a page, in nobody's frame, and tell nobody where it came from. A route may say otherwise.
SECURITY_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
]


class NoSession(SessionInterface):
    """A session that is always empty and never saved: the service knows no users."""

    _empty = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002 (Flask's signature)
        return self._empty


class Service(Flask):
    """A Flask application whose routes depend on path and method alone."""

    session_interface = NoSession()

    def __init__(self, name: str, served: ServedModel):
        super().__init__(name)
        self.served = served
        # A double slash is a 404 instead of a redirect, which would need this service's address.
        self.url_map.merge_slashes = False
        # FLASK_DEBUG would have its effect under gunicorn too; `python predict.py` still heeds it.
        self.debug = False

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        if request is None:
            return super().create_url_adapter(request)
        # What Flask adds is for building absolute URLs and for routes by host name.
        path = request.environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        return MapAdapter(self.url_map, "", "/", "", "http", path, request.environ["REQUEST_METHOD"])

    # Flask looks everywhere for functions to be called around a request. Of its own the service has none, and to look
    # for them takes a fiftieth of a request's time.

    def preprocess_request(self) -> Any:
        has_any = self.before_request_funcs or self.url_value_preprocessors
        return super().preprocess_request() if has_any else None

    def do_teardown_request(self, *exc: Any) -> None:
        if self.teardown_request_funcs or request_tearing_down.receivers:
            super().do_teardown_request(*exc)

    def do_teardown_appcontext(self, *exc: Any) -> None:
        if self.teardown_appcontext_funcs or appcontext_tearing_down.receivers:
            super().do_teardown_appcontext(*exc)

    def process_response(self, response: Response) -> Response:
        if isinstance(response, JSONResponse):
            if not (self.before_request_funcs or self.after_request_funcs):
                return response  # it has its headers
            response = response.with_headers()
        for name, value in SECURITY_HEADERS:
            response.headers.setdefault(name, value)
        return super().process_response(response)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        return observed(self.wsgi_app, environ, start_response, self._route, self.served.predictor.model.about.id)

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(rule.rule for rule in self.url_map.iter_rules())

    def _route(self, environ: Environ) -> str:
        """The route of a request that was answered, whether or not it took the method."""
        path: str = environ["PATH_INFO"]
        if path in self._paths:
            return path
        try:
            rule, _ = self.url_map.bind("").match(path, environ["REQUEST_METHOD"], return_rule=True)
        except HTTPException:
            return UNKNOWN
        return rule.rule

    def log_exception(self, exc_info: Any) -> None:
        """Log what no handler was made for; Flask's own line would quote the exception."""
        self.log_failure(exc_info[1], 500)

    def log_failure(self, error: BaseException, status: int) -> None:
        """Log why this request is answered with a status of 500 or more."""
        logs.failed(error, status, request_id(request), self._route(request.environ))


def request_id(request: Request) -> str:
    """The id of a request."""
    known: str = request.environ[REQUEST_ID]
    return known


def mimetype(environ: Environ) -> str:
    """The media type of a request's body."""
    content_type: str = environ.get("CONTENT_TYPE", "")
    return content_type if content_type in (JSON, CSV) else request.mimetype


def file_response(file: IO[bytes], encoding: str) -> Response:
    """A table that is sent from a file, from its beginning; the file is closed at the end.

    It is read here: gunicorn would ask for its descriptor, and then a file in memory goes to disk.
    """
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    response = Response(iter(partial(file.read, CHUNK), b""), content_type=f"{CSV}; charset={encoding}")
    response.content_length = length
    response.call_on_close(file.close)
    return response


class JSONResponse(Response):
    """A successful answer in JSON, made without werkzeug's headers: they would be a tenth of a request's work."""

    def __init__(self, body: bytes):
        self._body = body

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        headers = [("Content-Type", JSON), ("Content-Length", str(len(self._body))), *SECURITY_HEADERS]
        start_response("200 OK", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else self._pieces()

    def with_headers(self) -> Response:
        """The same as werkzeug makes it, for functions that look at an answer."""
        response = Response(self._pieces(), content_type=JSON)
        response.content_length = len(self._body)
        return response

    def _pieces(self) -> list[bytes]:
        body = self._body
        if len(body) <= CHUNK:
            return [body]
        # Since each has its own time to be read in.
        return [body[start : start + CHUNK] for start in range(0, len(body), CHUNK)]


def page(html: str) -> Response:
    """A page for people."""
    return Response(html, mimetype="text/html", headers=PAGE_HEADERS)
