"""Requests to the service with the answers they get: the documentation shows them, the tests send them."""

import csv
import io
import json
from typing import Any, NamedTuple

from serving import keys
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


def _table(name: str, summary: str, rows: list[list[Any]], status: int, answer: Any) -> Example:
    return Example(name, summary, "POST", "/predict", status, answer, _csv(rows).encode(), CSV)


def _csv(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _another_method(path: str, method: str, taken: str) -> Example:
    answer = _problem(405, "Method Not Allowed", f"{path} takes {taken}, not {method}.")
    return Example("another-method", f"{method} {path}", method, path, 405, answer)


def _problem(status: int, title: str, detail: str, **errors: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, **errors}


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

PING = [
    Example("up", "The process is up", "GET", "/ping", 200, "PONG"),
    _another_method("/ping", "DELETE", "GET and HEAD and OPTIONS"),
]

HEALTH = [
    Example("scores", "The model scores", "GET", "/health", 200, {"status": "ok"}),
    _another_method("/health", "DELETE", "GET and HEAD and OPTIONS"),
]

# This one needs a model that fails.
UNHEALTHY = Example(
    "does-not-score",
    "The model does not score",
    "GET",
    "/health",
    503,
    _problem(503, "Service Unavailable", "The model does not score; the service's log says why."),
)

PREDICT = [
    _predict("one", "One customer", SEED, 200, STAYS),
    _predict("several", "Several customers", [SEED, NEW], 200, [STAYS, LEAVES]),
    _predict("explained", "With ?explain=true", SEED, 200, STAYS | {"reasons": REASONS}, "?explain=true"),
    _table(
        "table",
        "A table with a bad row",
        [[*SEED], *ROWS],
        200,
        _csv([[*SEED, "churn_probability", "churn", "error"], *SCORED]),
    ),
    _predict(
        "not-json",
        "JSON that breaks off",
        b'{"tenure": 24',
        400,
        _problem(400, "Bad Request", "The body is not JSON: Input data was truncated."),
    ),
    _predict(
        "neither-true-nor-false",
        "?explain=perhaps",
        SEED,
        400,
        _problem(400, "Bad Request", "explain is 'perhaps'; it can be true or false."),
        "?explain=perhaps",
    ),
    _another_method("/predict", "GET", "OPTIONS and POST"),
    Example(
        "another-type",
        "XML",
        "POST",
        "/predict",
        415,
        _problem(
            415,
            "Unsupported Media Type",
            "Send the header Content-Type: application/json, or text/csv for a table (it is application/xml).",
        ),
        b"<customer/>",
        "application/xml",
    ),
    _predict(
        "invalid",
        "A contract that does not exist",
        SEED | {"contract": "weekly"},
        422,
        _problem(422, "Unprocessable Entity", "One customer is invalid: see the error.", errors=[WEEKLY]),
    ),
]

# These need a service with API keys, and one that requires a key and has none.
NO_KEY = _predict("no-key", "A service with API keys", SEED, 401, _problem(401, "Unauthorized", keys.SEND_A_KEY))
CLOSED = _predict(
    "closed",
    "A service that requires a key and has none",
    SEED,
    503,
    _problem(503, "Service Unavailable", keys.NO_KEY_YET),
)

# This one needs a disk that is full.
DISK_FULL = Example(
    "disk-full",
    "A table that the disk has no place for",
    "POST",
    "/predict",
    507,
    _problem(507, "Insufficient Storage", "The service has no disk left to keep the scored table on."),
    _csv([[*SEED], *ROWS]).encode(),
    CSV,
)

# This one needs a body of five and a half million bytes and one; kept here, every service would hold it in memory.
TOO_LARGE = Example(
    "too-large",
    "A body of more than SERVING_MAX_JSON_BYTES, by default 5.5 MB",
    "POST",
    "/predict",
    413,
    _problem(
        413,
        "Request Entity Too Large",
        "A JSON body can have 5,500,000 bytes (SERVING_MAX_JSON_BYTES); send more customers as a table (CSV).",
    ),
    content_type=JSON,
)

MODEL = [
    Example("model", "The model that answers", "GET", "/model", 200),
    _another_method("/model", "DELETE", "GET and HEAD and OPTIONS"),
]

DESCRIPTION = [
    Example("counts", "The counts of all processes", "GET", "/metrics", 200),
    _another_method("/metrics", "DELETE", "GET and HEAD and OPTIONS"),
    Example("description", "This description", "GET", "/openapi.json", 200),
    _another_method("/openapi.json", "DELETE", "GET and HEAD and OPTIONS"),
]

EXAMPLES = [*PING, *HEALTH, UNHEALTHY, *PREDICT, NO_KEY, CLOSED, TOO_LARGE, DISK_FULL, *MODEL, *DESCRIPTION]
