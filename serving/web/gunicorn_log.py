"""gunicorn's own lines, and its access log, in the form of the service's."""

import logging
import sys
from datetime import timedelta
from typing import Any

from gunicorn import glogging

from serving.web.logs import Line
from serving.web.metrics import UNKNOWN
from serving.web.observation import REQUEST_ID, ROUTE, Environ


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's logger with lines of JSON; gunicorn's settings decide where they go, as ever."""

    def _set_handler(self, log: logging.Logger, output: str | None, fmt: object, stream: object = None) -> None:  # noqa: ARG002 (gunicorn's signature)
        super()._set_handler(log, output, Line(), sys.stdout)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log for debugging; not each request's method and address, which may name somebody."""
        if msg != "%s %s":
            super().debug(msg, *args, **kwargs)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a warning; of a request that is not HTTP, not the bytes, which may be a record's."""
        text, colon, quoting = str(msg).partition(": ")
        if colon and quoting and text.startswith("Invalid request"):
            refused = type(sys.exc_info()[1]).__name__
            kwargs["extra"], msg = {"details": {"error": refused}}, text
        super().warning(msg, *args, **kwargs)

    def access(self, resp: Any, req: object, environ: Environ, request_time: timedelta) -> None:  # noqa: ARG002
        """Log a request that was answered: its route instead of its address, which may name somebody."""
        if self.access_log_enabled:
            details = {
                "request_id": environ.get(REQUEST_ID),
                "remote": environ.get("REMOTE_ADDR"),
                "method": environ.get("REQUEST_METHOD"),
                "route": environ.get(ROUTE, UNKNOWN),
                "status": int(str(resp.status).split()[0]),
                "bytes": resp.response_length or resp.sent,  # of a file none are counted as sent
                "seconds": request_time.total_seconds(),
            }
            self.access_log.info("request", extra={"details": details})
