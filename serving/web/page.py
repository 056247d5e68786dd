"""What the page for people shows, ready for its template."""

from typing import Any, NamedTuple

from msgspec import UNSET

from serving.fields import Field, canonical
from serving.prediction import Predictor
from serving.schema import Schema
from serving.web import about

# The side of a picture's square, in its own units.
SIDE = 300


class Input(NamedTuple):
    """A field as the form shows it: with options a list to choose from, else a number, a text, or either.

    `id` is its element's; `suggestions` are the options of a field that has too many for a list.
    """

    id: str
    name: str
    label: str
    value: str
    options: list[tuple[str, str]]
    suggestions: list[str]
    is_number: bool
    takes_numbers: bool
    may_be_blank: bool
    minimum: int | float | None
    step: str


def groups(schema: Schema) -> list[tuple[str, list[Input]]]:
    """The form's parts with their fields, filled with the example."""
    found: list[tuple[str, list[Input]]] = []
    for place, field in enumerate(schema.fields):
        if field.name in schema.words.groups or not found:
            found.append((schema.words.groups.get(field.name, ""), []))
        found[-1][1].append(_input(field, f"field-{place}", schema))
    return found


def _input(field: Field, id_: str, schema: Schema) -> Input:
    value = schema.example.get(field.name, "")
    is_list = field.is_category and bool(field.values) and not field.is_private
    return Input(
        id=id_,
        name=field.name,
        label=field.label,
        value=str(round(value, 2) if isinstance(value, float) else value),
        options=[(str(each), _words(str(each), schema)) for each in field.values] if is_list else [],
        suggestions=[] if is_list else [*field.texts],
        is_number=field.type in ("integer", "number"),
        takes_numbers=field.type != "string",
        may_be_blank=field.blank is not None,
        minimum=None if field.constraints.minimum is UNSET else field.minimum,
        step="1" if field.type == "integer" else "any",
    )


def _words(value: str, schema: Schema) -> str:
    """A value as people read it: one that is in canonical spelling gets its capital and its spaces."""
    if value in schema.words.labels or value != canonical(value):
        return schema.words.labels.get(value, value)
    spelt_out = value.replace("_", " ")
    return spelt_out[:1].upper() + spelt_out[1:]


def line(pairs: list[tuple[float, float]]) -> str:
    """Pairs of numbers from 0 to 1 as the points of an SVG line, from the lower left."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in dots(pairs))


def dots(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same pairs as places in the square of a picture."""
    return [(SIDE * x, SIDE * (1 - y)) for x, y in pairs]


def context(predictor: Predictor, hide: bool = False) -> dict[str, Any]:
    """What the template needs; with `hide` nothing that may be an id."""
    model = about.served(predictor, hide)
    tenths = model.training.calibration if model.training else []
    return {
        "groups": groups(model.schema),
        "try_": model.schema.words.try_,
        "words": model.schema.spoken,
        "schema": model.schema,
        "model": model,
        "calibration": [(tenth.predicted, tenth.observed) for tenth in tenths],
        "line": line,
        "dots": dots,
        "side": SIDE,
    }
