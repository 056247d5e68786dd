"""The service described for programs: OpenAPI 3.1, from the types of a customer and of the answers."""

import functools
import inspect
import json
from typing import Any

import msgspec

from serving.about import Served
from serving.customer import MOST_ERRORS, Customer
from serving.examples import ALWAYS, CSV, JSON, NOT_ALWAYS, Example
from serving.prediction import Prediction
from serving.problem import MEDIA_TYPE as PROBLEM
from serving.problem import ProblemDetails

TEXT = "text/plain"

DESCRIPTION = """\
Which customers of a telecom company are about to leave?

Every error is a problem of [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457): `status` and `title` tell its kind,
`detail` says in words what happened, and `errors` names what is wrong with which customer.

Every answer has `X-Model`, the start of the SHA-256 of the model file that gave it. What is no HTTP, or has too long a
head, is refused by the server itself, with a short page."""

PREDICT = f"""\
A JSON object is one customer and gets one answer; an array gets an array of answers, in order. If one customer of an
array is invalid, none is scored, and the problem names every error of every customer, up to {MOST_ERRORS:,}.

The schema shows the canonical spelling of names and values. The raw table's spelling (`SeniorCitizen`,
`"Month-to-month"`, `"No internet service"`) is understood as well. Other keys are ignored.

A table in CSV comes back with three columns more: `churn_probability`, `churn` and `error`. A row that is no customer
keeps its place and says there what is wrong. Commas, semicolons and tabs are understood."""

EXPLAIN = {
    "name": "explain",
    "in": "query",
    "description": "With `true`, `1` or nothing after it: say why, with each field's share in the log-odds of leaving.",
    "allowEmptyValue": True,
    "schema": {"enum": ["true", "false", "1", "0", ""], "default": "false"},
}

# Where the service has API keys, a request carries one of them in one of these ways.
SECURITY = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}

# What every problem looks like.
REFUSED = {PROBLEM: {"$ref": "#/components/schemas/ProblemDetails"}}

KEYS: list[dict[str, Any]] = [{}, {"key": []}, {"bearer": []}]
WITHOUT_KEY, NONE_YET = "An API key is missing or wrong.", "An API key is required, and none is configured."

# An operation's answers by status: what they mean, and their schema by media type.
Answers = dict[int, tuple[str, dict[str, Any]]]


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI document, as a dictionary."""
    types = (Customer | list[Customer], Prediction | list[Prediction], ProblemDetails, Served)
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    customers, predictions, _, model = schemas
    table = {"type": "string", "description": "A table with a header and a customer a row."}
    for component in components.values():
        component["description"] = inspect.cleandoc(component["description"])

    paths = {
        "/predict": _operation(
            "post",
            "predict",
            "How probable it is that customers leave",
            {
                200: (
                    "The probability of leaving, and whether that calls for a discount.",
                    {JSON: predictions, CSV: table},
                ),
                400: ("The body is not JSON, or the table not CSV, or `explain` has another value.", REFUSED),
                401: (WITHOUT_KEY, REFUSED),
                408: ("The body stopped for 30 seconds.", REFUSED),
                413: ("The body is larger than this service takes, or has more customers.", REFUSED),
                415: ("The header `Content-Type` is neither `application/json` nor `text/csv`.", REFUSED),
                422: (
                    "A customer is invalid, or the table lacks a column; `errors` says which and why. "
                    "Or the model has no reasons to give.",
                    REFUSED,
                ),
                503: (f"{NONE_YET} Or, with `Retry-After`, too many large bodies are being received.", REFUSED),
                507: ("The disk is full.", REFUSED),
            },
            description=PREDICT,
            parameters=[EXPLAIN],
            security=KEYS,
            requestBody={"required": True, "content": _content({JSON: customers, CSV: table})},
        ),
        "/model": _operation(
            "get",
            "model",
            "The model that answers, and how good it was on customers that it had not seen",
            {200: ("The model; `training` is null where another script wrote it.", {JSON: model})},
        ),
        "/health": _operation(
            "get",
            "health",
            "Whether the model scores",
            {
                200: ("It does.", {JSON: {"const": {"status": "ok"}}}),
                503: ("It does not; the service's log says why.", REFUSED),
            },
        ),
        "/ping": _operation("get", "ping", "Whether the process is up", {200: ("It is.", {TEXT: {"const": "PONG"}})}),
        "/metrics": _operation(
            "get",
            "metrics",
            "What Prometheus reads: requests, customers, and what was asked about them",
            {
                200: ("The counts of all processes.", {TEXT: {"type": "string"}}),
                401: (WITHOUT_KEY, REFUSED),
                503: (NONE_YET, REFUSED),
            },
            security=KEYS,
        ),
        "/openapi.json": _operation(
            "get", "openapi", "This description", {200: ("An OpenAPI document.", {JSON: {"type": "object"}})}
        ),
    }
    for example in [*ALWAYS, *NOT_ALWAYS]:
        _show(example, paths)
    return {
        "openapi": "3.1.0",
        "info": {"title": "churn-serving", "version": "1", "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SECURITY},
    }


def _operation(method: str, name: str, summary: str, answers: Answers, **members: Any) -> dict[str, Any]:
    """A path of one operation, with other members of it where there are some."""
    answers = answers | {405: ("The path does not take this method; `Allow` says which it does.", REFUSED)}
    responses = {
        str(status): {"description": meaning, "content": _content(schemas)}
        for status, (meaning, schemas) in sorted(answers.items())
    }
    tags = ["The service"]
    return {method: {"operationId": name, "summary": summary, "tags": tags, **members, "responses": responses}}


def _content(schemas: dict[str, Any]) -> dict[str, Any]:
    return {media_type: {"schema": schema} for media_type, schema in schemas.items()}


def _show(example: Example, paths: dict[str, Any]) -> None:
    """Add an example to the operation of its path: the answer, and the request where the schema describes it."""
    [operation] = paths[example.path.partition("?")[0]].values()
    answers = operation["responses"][str(example.status)]["content"]
    answered = PROBLEM if example.status >= 400 else example.content_type or next(iter(answers))
    _add(example, example.answer, answers[answered])
    if example.status == 200 and example.body and "?" not in example.path:
        body = json.loads(example.body) if example.content_type == JSON else example.body.decode()
        _add(example, body, operation["requestBody"]["content"][example.content_type])


def _add(example: Example, value: Any, content: dict[str, Any]) -> None:
    if value is not None:
        content.setdefault("examples", {})[example.name] = {"summary": example.summary, "value": value}
