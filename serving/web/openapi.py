"""The service described for programs: OpenAPI 3.1, from the model's schema and the types of answers."""

import inspect
import json
from typing import Any

import msgspec

from serving.errors import MOST_ERRORS
from serving.fields import LARGEST_NUMBER, Field
from serving.model.base import Reason
from serving.prediction import Predictor
from serving.schema import Schema
from serving.web import examples
from serving.web.about import Served
from serving.web.examples import CSV, JSON, NOT_ALWAYS, Example
from serving.web.problem import MEDIA_TYPE as PROBLEM
from serving.web.problem import ProblemDetails

TEXT = "text/plain"

DESCRIPTION = """\
{question}

Every error is a problem of [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457): `status` and `title` tell its kind,
`detail` says in words what happened, and `errors` names what is wrong with which of the {records}.

Every answer has `X-Model`, the start of the SHA-256 of the model file that gave it. What is no HTTP, or has too long a
head, is refused by the server itself, with a short page."""

PREDICT = """\
A JSON object is one {record} and gets one answer; an array gets an array of answers, in order. If one of an array is
invalid, none is scored, and the problem names every error of each, up to {most:,}.

Names and values are understood in other spellings too, with capitals and spaces. Other keys are ignored.

A table in CSV comes back with four columns more: `{target}_probability`, `{target}`, `note` and `error`. A row that is
invalid keeps its place and says there what is wrong. Commas, semicolons and tabs are understood."""

EXPLAIN = {
    "name": "explain",
    "in": "query",
    "description": "With `true`, `1` or nothing after it: say why, with each field's share in the log-odds.",
    "allowEmptyValue": True,
    "schema": {"enum": ["true", "false", "1", "0", ""], "default": "false"},
}

# Where the service has API keys, a request carries one of them in one of these ways.
SECURITY = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}

REFERENCE = "#/components/schemas/{name}"

# What every problem looks like.
REFUSED = {PROBLEM: {"$ref": "#/components/schemas/ProblemDetails"}}

KEYS: list[dict[str, Any]] = [{}, {"key": []}, {"bearer": []}]
WITHOUT_KEY, NONE_YET = "An API key is missing or wrong.", "An API key is required, and none is configured."

# An operation's answers by status: what they mean, and their schema by media type.
Answers = dict[int, tuple[str, dict[str, Any]]]


def document(predictor: Predictor, hide: bool = False) -> dict[str, Any]:
    """The OpenAPI document, as a dictionary; with `hide` without the values that may be ids, and without examples."""
    schema = predictor.model.schema
    hide = hide and schema.is_private
    words, target = schema.spoken, schema.target
    told = {"question": words.question, "record": words.record, "records": words.records, "target": target}
    types = (Reason, ProblemDetails, Served)
    (_, _, model), components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    for component in components.values():
        component["description"] = inspect.cleandoc(component["description"])
    components["Record"] = _record(schema, hide)
    components["Prediction"] = _prediction(schema)
    records, predictions = (_one_or_more(name) for name in ("Record", "Prediction"))
    table = {"type": "string", "description": "A table with a header and one of them a row."}

    paths = {
        "/predict": _operation(
            "post",
            "predict",
            words.question,
            {
                200: (
                    f"The probability of {words.yes}, and whether it reaches the threshold.",
                    {JSON: predictions, CSV: table},
                ),
                400: ("The body is not JSON, or the table not CSV, or `explain` has another value.", REFUSED),
                401: (WITHOUT_KEY, REFUSED),
                408: ("The body stopped for 30 seconds.", REFUSED),
                413: ("The body is larger than this service takes, or has too many of them.", REFUSED),
                415: ("The header `Content-Type` is neither `application/json` nor `text/csv`.", REFUSED),
                422: (
                    "Something is invalid, or the table lacks a column; `errors` says which and why. "
                    "Or the model has no reasons to give.",
                    REFUSED,
                ),
                503: (f"{NONE_YET} Or, with `Retry-After`, too many large bodies are being received.", REFUSED),
                507: ("The disk is full.", REFUSED),
            },
            description=PREDICT.format(**told, most=MOST_ERRORS),
            parameters=[EXPLAIN],
            security=KEYS,
            requestBody={"required": True, "content": _content({JSON: records, CSV: table})},
        ),
        "/model": _operation(
            "get",
            "model",
            "The model that answers, and how good it was on what it had not seen",
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
            "What Prometheus reads: requests, records, and what was asked about them",
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
    for example in [*([] if hide else examples.always(predictor)), *NOT_ALWAYS]:
        _show(example, paths)
    return {
        "openapi": "3.1.0",
        "info": {"title": "churn-serving", "version": "1", "description": DESCRIPTION.format(**told)},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SECURITY},
    }


def _one_or_more(name: str) -> dict[str, Any]:
    one = {"$ref": REFERENCE.format(name=name)}
    return {"anyOf": [one, {"type": "array", "items": one}]}


def _record(schema: Schema, hide: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {field.name: _property(field, hide and field.is_private) for field in schema.fields}
    if schema.id:
        properties[schema.id] = {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}
    required = [*schema.names]
    return {"title": schema.words.record, "type": "object", "properties": properties, "required": required}


def _property(field: Field, hide: bool) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = []
    if field.values:
        kinds.append({"type": "string"} if hide else {"enum": [*field.values]})
    if not field.is_category:
        kind = "integer" if field.type == "integer" else "number"
        kinds.append({"type": kind, "minimum": field.minimum, "maximum": LARGEST_NUMBER})
    kinds += [{"type": "boolean"}] * field.booleans + [{"type": "null"}] * (field.blank is not None)
    return {"title": field.label, **(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})}


def _prediction(schema: Schema) -> dict[str, Any]:
    properties: dict[str, Any] = {
        f"{schema.target}_probability": {"type": "number", "minimum": 0, "maximum": 1},
        schema.target: {"type": "boolean", "description": f"From a probability of {schema.threshold} on."},
    }
    required = [*properties]
    if schema.id:
        properties[schema.id] = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    unusual = "The fields with values that no record of the training table had."
    properties["unusual"] = {"type": "array", "items": {"enum": [*schema.names]}, "description": unusual}
    properties["reasons"] = {"type": "array", "items": {"$ref": REFERENCE.format(name="Reason")}}
    return {"type": "object", "properties": properties, "required": required}


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
