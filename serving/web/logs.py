"""What the service says of itself: one JSON line an event, on standard output.

A line holds nothing of a record's. What could carry it is left out: the messages of exceptions,
which like to quote values, and with them the values that a message was given.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from serving.model.base import About

log = logging.getLogger(__name__)


class Line(logging.Formatter):
    """A log record as a line of JSON: its time, level, event, process, and its details."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        failure = record.exc_info[1] if record.exc_info else None
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": _message(record, failure),
            "process": record.process,
            **getattr(record, "details", {}),
        }
        if failure:
            line["traceback"] = _chain(failure)
        return json.dumps(line, default=str)


def _message(record: logging.LogRecord, failure: BaseException | None) -> str:
    if failure:
        return record.msg.replace(" %s", "") if isinstance(record.msg, str) else type(record.msg).__name__
    if isinstance(record.args, tuple):
        named = (type(each).__name__ if isinstance(each, BaseException) else each for each in record.args)
        return str(record.msg) % tuple(named) if record.args else str(record.msg)
    return record.getMessage()


def _chain(failure: BaseException | None) -> list[dict[str, object]]:
    """An exception and what led to it: their types, and the places that they went through."""
    chain: list[dict[str, object]] = []
    while failure and len(chain) < 10:
        frames = traceback.extract_tb(failure.__traceback__)
        places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        chain.append({"error": f"{type(failure).__module__}.{type(failure).__qualname__}", "frames": places})
        failure = failure.__cause__ or failure.__context__
    return chain


def start() -> None:
    """Write log records as lines of JSON, where whoever runs the service has not set up something else."""
    if not logging.root.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(Line())
        logging.root.addHandler(handler)
    logging.getLogger("serving").setLevel(logging.INFO)


def model_loaded(about: About) -> None:
    """Say which model is served from now on."""
    details = {"file": about.file, "sha256": about.sha256, "classifier": about.classifier}
    log.info("model loaded", extra={"details": details})


def model_refused(reason: Exception) -> None:
    """Say why a model file is not served; the reason is about the file alone."""
    log.error("model refused", extra={"details": {"reason": str(reason)}})


def failed(error: BaseException, status: int, request_id: str, route: str) -> None:
    """Say that a request was answered with a status of 500 or more, and what led to it."""
    details = {"status": status, "request_id": request_id, "route": route}
    log.error("request failed", exc_info=error, extra={"details": details})
