"""Requests to the service with the answers they get: the documentation shows them, the tests send them."""

import csv
import io
import json
from http import HTTPStatus
from typing import Any, NamedTuple

from serving import keys
from serving.bodies import STOPPED
from serving.customer import SEED_CUSTOMER, features

JSON = "application/json"
CSV = "text/csv"


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


def _predict(name: str, summary: str, customers: Any, status: int, answer: Any, query: str = "") -> Example:
    body = customers if isinstance(customers, bytes) else json.dumps(customers).encode()
    return Example(name, summary, "POST", "/predict" + query, status, answer, body, JSON)


def _refused(name: str, summary: str, customers: Any, status: int, detail: str, **more: Any) -> Example:
    return _predict(name, summary, customers, status, _problem(status, detail, **more))


def _problem(status: int, detail: str, **more: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}


def _csv(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _another_method(path: str, method: str = "DELETE", taken: str = "GET and HEAD and OPTIONS") -> Example:
    answer = _problem(405, f"{path} takes {taken}, not {method}.")
    return Example("another-method", f"{method} {path}", method, path, 405, answer)


SEED = features(SEED_CUSTOMER)
NEW = SEED | {"tenure": 1, "totalcharges": 29.85, "customerid": "xyz-123"}
STAYS = {"churn_probability": 0.33906403093358023, "churn": False}
LEAVES = {"churn_probability": 0.6279225084409448, "churn": True, "customerid": "xyz-123"}
WEEKLY = {
    "index": 0,
    "field": "contract",
    "message": 'the text "weekly" is not one of the allowed values',
    "allowed": ["month-to-month", "one_year", "two_year"],
}

SHARES = {
    "totalcharges": -0.537531865,
    "internetservice": -0.522234680,
    "tenure": 0.513662654,
    "contract": 0.468186059,
    "monthlycharges": 0.392387151,
    "paymentmethod": 0.213138980,
    "onlinesecurity": 0.175870249,
    "techsupport": 0.165111209,
    "paperlessbilling": 0.133691076,
    "streamingmovies": -0.128870820,
    "phoneservice": 0.095504150,
    "multiplelines": 0.079470729,
    "streamingtv": -0.074253492,
    "deviceprotection": 0.062780243,
    "seniorcitizen": -0.031142488,
    "onlinebackup": -0.025403859,
    "dependents": 0.018861880,
    "partner": 0.017255296,
    "gender": 0.014983215,
}
REASONS = [{"field": field, "value": SEED[field], "share": share} for field, share in SHARES.items()]
ROWS = [[*SEED.values()], [*(SEED | {"contract": "weekly"}).values()]]
SCORED = [[*ROWS[0], 0.33906403093358023, "false", ""], [*ROWS[1], "", "", f"contract: {WEEKLY['message']}"]]

TABLE = Example(
    "table", "A table with a bad row", "POST", "/predict", 200,
    _csv([[*SEED, "churn_probability", "churn", "error"], *SCORED]), _csv([[*SEED], *ROWS]).encode(), CSV,
)  # fmt: skip

BREAKS_OFF = "The body is not JSON: Input data was truncated."
PERHAPS = "explain is 'perhaps'; it can be true or false."
OTHER_TYPE = "Send the header Content-Type: application/json, or text/csv for a table (it is application/xml)."

ALWAYS = [
    Example("up", "The process is up", "GET", "/ping", 200, "PONG"),
    Example("scores", "The model scores", "GET", "/health", 200, {"status": "ok"}),
    Example("model", "The model that answers", "GET", "/model", 200),
    Example("counts", "The counts of all processes", "GET", "/metrics", 200),
    Example("description", "This description", "GET", "/openapi.json", 200),
    *map(_another_method, ("/ping", "/health", "/model", "/metrics", "/openapi.json")),
    _another_method("/predict", "GET", "OPTIONS and POST"),
    _predict("one", "One customer", SEED, 200, STAYS),
    _predict("several", "Several customers", [SEED, NEW], 200, [STAYS, LEAVES]),
    _predict("explained", "With ?explain=true", SEED, 200, STAYS | {"reasons": REASONS}, "?explain=true"),
    TABLE,
    _refused("not-json", "JSON that breaks off", b'{"tenure": 24', 400, BREAKS_OFF),
    _predict("perhaps", "?explain=perhaps", SEED, 400, _problem(400, PERHAPS), "?explain=perhaps"),
    _refused("another-type", "XML", b"<customer/>", 415, OTHER_TYPE)._replace(content_type="application/xml"),
    _refused(
        "invalid", "A contract that does not exist", SEED | {"contract": "weekly"}, 422,
        "One customer is invalid: see the error.", errors=[WEEKLY],
    ),
]  # fmt: skip

# These need a service with API keys, one that requires a key and has none, a model that fails, a full disk, a body that
# stops halfway, and one of five and a half million bytes and one (which every service would hold in memory).
NO_KEY = _refused("no-key", "A service with API keys", SEED, 401, keys.SEND_A_KEY)
CLOSED = _refused("closed", "A service that requires a key and has none", SEED, 503, keys.NO_KEY_YET)
NO_METRICS, CLOSED_METRICS = (each._replace(method="GET", path="/metrics", body=b"") for each in (NO_KEY, CLOSED))
FAILS = "The model does not score; the service's log says why."
UNHEALTHY = Example("does-not-score", "The model does not score", "GET", "/health", 503, _problem(503, FAILS))
NO_DISK = "The service has no disk left to keep the scored table on."
DISK_FULL = TABLE._replace(
    name="disk-full", summary="A table that the disk has no place for", status=507, answer=_problem(507, NO_DISK)
)
STALLED = _refused("stalled", "A body that stops for 30 seconds", b"", 408, STOPPED)
TOO_MANY_BYTES = "A JSON body can have 5,500,000 bytes (SERVING_MAX_JSON_BYTES); send more customers as a table (CSV)."
TOO_LARGE = _refused("too-large", "A JSON body of more than SERVING_MAX_JSON_BYTES", b"", 413, TOO_MANY_BYTES)
NOT_ALWAYS = [NO_KEY, CLOSED, NO_METRICS, CLOSED_METRICS, UNHEALTHY, DISK_FULL, STALLED, TOO_LARGE]
