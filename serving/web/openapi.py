"""What the description for programs, templates/openapi.json, says of the model: its records, answers and examples."""

import inspect
import json
from typing import Any, get_args

import msgspec

from serving.errors import MOST_ERRORS
from serving.fields import LARGEST_NUMBER, Field
from serving.model.base import Reason, Unit
from serving.prediction import Predictor
from serving.schema import Schema
from serving.web import examples
from serving.web.about import Served
from serving.web.drift import Drifts
from serving.web.examples import NOT_ALWAYS
from serving.web.flask_service import EXCEL, JSON
from serving.web.problem import ProblemDetails

REFERENCE = "#/components/schemas/{name}"


def context(predictor: Predictor, hide: bool = False) -> dict[str, Any]:
    """What the template needs; with `hide` without the values that may be ids, and without examples of them."""
    schema = predictor.model.schema
    hide = hide and schema.is_private
    schema = schema.shown() if hide else schema
    _, components = msgspec.json.schema_components((Reason, ProblemDetails, Served, Drifts), ref_template=REFERENCE)
    for component in components.values():
        component["description"] = inspect.cleandoc(component["description"])
    components |= {"Record": _record(schema), "Prediction": _prediction(schema)}
    shown = [*([] if hide else examples.always(predictor)), *NOT_ALWAYS]

    def of_answers(path: str, status: int, media_type: str) -> dict[str, Any]:
        """The examples of an operation's answers with this status."""
        asked = (each for each in shown if (each.path.partition("?")[0], each.status) == (path, status))
        return {
            each.name: {"summary": each.summary, "value": each.answer}
            for each in asked
            if each.answer is not None and (status >= 400 or (each.content_type or media_type) == media_type)
        }

    def of_requests(media_type: str) -> dict[str, Any]:
        """The examples of requests that are answered."""
        return {
            each.name: {
                "summary": each.summary,
                "value": json.loads(each.body) if media_type == JSON else each.body.decode(),
            }
            for each in shown
            if each.status == 200 and each.content_type == media_type and "?" not in each.path
        }

    return {
        "words": schema.spoken,
        "excel": EXCEL,
        "target": schema.target,
        "most_errors": MOST_ERRORS,
        "components": components,
        "records": _one_or_more("Record"),
        "predictions": _one_or_more("Prediction"),
        "table": {"type": "string", "description": "A table with a header and one of them a row."},
        "examples": of_answers,
        "requests": of_requests,
    }


def _one_or_more(name: str) -> dict[str, Any]:
    one = {"$ref": REFERENCE.format(name=name)}
    return {"anyOf": [one, {"type": "array", "items": one}]}


def _record(schema: Schema) -> dict[str, Any]:
    properties: dict[str, Any] = {field.name: _property(field) for field in schema.fields}
    if schema.id:
        properties[schema.id] = {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}
    required = [*schema.names]
    return {"title": schema.words.record, "type": "object", "properties": properties, "required": required}


def _property(field: Field) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = []
    if field.values:
        kinds.append({"enum": [*field.values]})
    elif field.type in ("string", "any"):  # its values are not for whoever asks
        kinds.append({"type": "string"})
    if not field.is_category and field.type != "string":
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
    properties["reasons_unit"] = {"enum": [*get_args(Unit)], "description": "What the reasons are shares of."}
    return {"type": "object", "properties": properties, "required": required}
