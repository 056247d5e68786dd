"""Requests to the service with a model's answers to them: the documentation shows them, the tests send them."""

import contextlib
import csv
import io
import json
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from serving import errors
from serving.errors import BadTable, InvalidRecords
from serving.model.base import NotExplainable
from serving.prediction import Predictor
from serving.tables import scored
from serving.web import keys
from serving.web.bodies import STOPPED
from serving.web.counts import Tally
from serving.web.flask_service import CSV, JSON


class Example(NamedTuple):
    """A request, and the status and the decoded body of its answer; None where that is too long to be shown."""

    name: str
    summary: str
    method: str
    path: str
    status: int
    answer: Any = None
    body: bytes = b""
    content_type: str | None = None


def _predict(name: str, summary: str, records: Any, status: int, answer: Any, query: str = "") -> Example:
    body = records if isinstance(records, bytes) else json.dumps(records).encode()
    return Example(name, summary, "POST", "/predict" + query, status, answer, body, JSON)


def _refused(name: str, summary: str, records: Any, status: int, detail: str, **more: Any) -> Example:
    return _predict(name, summary, records, status, _problem(status, detail, **more))


def _problem(status: int, detail: str, **more: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}


def _csv(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _another_method(path: str, method: str = "DELETE", taken: str = "GET and HEAD and OPTIONS") -> Example:
    answer = _problem(405, f"{path} takes {taken}, not {method}.")
    return Example("another-method", f"{method} {path}", method, path, 405, answer)


BREAKS_OFF = "The body is not JSON: Input data was truncated."
PERHAPS = "explain is 'perhaps'; it can be true, false or words."
OTHER_TYPE = "Send the header Content-Type: application/json, or text/csv for a table (it is application/xml)."


def always(predictor: Predictor) -> list[Example]:
    """Examples that any service with this model answers so, whatever its settings besides keys."""
    schema, record = predictor.model.schema, predictor.model.schema.example
    field = next((each for each in schema.fields if each.is_category), schema.fields[0])
    bad: dict[str, Any] = record | {field.name: "no such value"}
    wrong = InvalidRecords([errors.wrong(field, "no such value", 0)], schema)
    one, several = msgspec.json.encode(record), [record, record | ({schema.id: "xyz-123"} if schema.id else {})]
    array = msgspec.json.encode(several)
    found = [
        Example("up", "The process is up", "GET", "/ping", 200, "PONG"),
        Example("scores", "The model scores", "GET", "/health", 200, {"status": "ok"}),
        Example("model", "The model that answers", "GET", "/model", 200),
        Example("counts", "The counts of all processes", "GET", "/metrics", 200),
        Example("since-start", "What was asked since the start", "GET", "/drift", 200),
        Example("description", "This description", "GET", "/openapi.json", 200),
        *map(_another_method, ("/ping", "/health", "/model", "/metrics", "/drift", "/openapi.json")),
        _another_method("/predict", "GET", "OPTIONS and POST"),
        _predict("one", f"One {schema.words.record}", record, 200, _answer(predictor, one)),
        _predict("several", f"Several {schema.words.records}", several, 200, _answer(predictor, array)),
        _refused("not-json", "JSON that breaks off", one[:-1], 400, BREAKS_OFF),
        _predict("perhaps", "?explain=perhaps", record, 400, _problem(400, PERHAPS), "?explain=perhaps"),
        _refused("another-type", "XML", b"<record/>", 415, OTHER_TYPE)._replace(content_type="application/xml"),
    ]
    try:
        explained = _answer(predictor, one, explain=True)
        found.append(_predict("explained", "With ?explain=true", record, 200, explained, "?explain=true"))
    except NotExplainable:
        pass
    if not predictor.lenient:
        detail, told = str(wrong), json.loads(msgspec.json.encode(wrong.errors))
        found.append(_refused("invalid", "A value that is not allowed", bad, 422, detail, errors=told))
    upload = _csv([[*record], [*record.values()], [*bad.values()]]).encode()
    with contextlib.suppress(BadTable, InvalidRecords):  # names can be such that no table has them
        with scored.score(io.BytesIO(upload), predictor, None, Tally(schema)).file as file:
            answer = file.read().decode()
        found.append(Example("table", "A table with a bad row", "POST", "/predict", 200, answer, upload, CSV))
    return found


def _answer(predictor: Predictor, body: bytes, explain: bool = False) -> Any:
    return json.loads(msgspec.json.encode(predictor.predict(predictor.read(body, 2), explain)[1]))


# These need a service with API keys, one that requires a key and has none, a model that fails, a full disk, a body that
# stops halfway, and one of five and a half million bytes and one (which every service would hold in memory).
NO_KEY = _refused("no-key", "A service with API keys", {}, 401, keys.SEND_A_KEY)
CLOSED = _refused("closed", "A service that requires a key and has none", {}, 503, keys.NO_KEY_YET)
WITH_KEYS, WITHOUT_KEYS = (
    [each, *(each._replace(method="GET", path=path, body=b"") for path in ("/metrics", "/drift"))]
    for each in (NO_KEY, CLOSED)
)
FAILS = "The model does not score; the service's log says why."
UNHEALTHY = Example("does-not-score", "The model does not score", "GET", "/health", 503, _problem(503, FAILS))
NO_DISK = "The service has no disk left to keep the scored table on (a container's /tmp can be a volume)."
DISK_FULL = Example(
    "disk-full", "A table that the disk has no place for", "POST", "/predict", 507, _problem(507, NO_DISK), b"", CSV
)
STALLED = _refused("stalled", "A body that stops for 30 seconds", b"", 408, STOPPED)
TOO_MANY_BYTES = "A JSON body can have 5,500,000 bytes (SERVING_MAX_JSON_BYTES); send more as a table (CSV)."
TOO_LARGE = _refused("too-large", "A JSON body of more than SERVING_MAX_JSON_BYTES", b"", 413, TOO_MANY_BYTES)
NOT_ALWAYS = [*WITH_KEYS, *WITHOUT_KEYS, UNHEALTHY, DISK_FULL, STALLED, TOO_LARGE]
