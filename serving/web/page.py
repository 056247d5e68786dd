"""What the page for people shows, ready for its template."""

from typing import Any

from serving.fields import Field
from serving.prediction import Predictor
from serving.schema import Schema
from serving.web import about

# The side of a picture's square, in its own units.
SIDE = 300


def groups(schema: Schema) -> list[tuple[str, list[tuple[str, Field]]]]:
    """The form's parts, and of each the fields with ids for their elements."""
    found: list[tuple[str, list[tuple[str, Field]]]] = []
    for place, field in enumerate(schema.fields):
        if field.name in schema.words.groups or not found:
            found.append((schema.words.groups.get(field.name, ""), []))
        found[-1][1].append((f"field-{place}", field))
    return found


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
        "words": model.schema.spoken,
        "schema": model.schema,
        "model": model,
        "model_id": predictor.model.about.id,
        "calibration": [(tenth.predicted, tenth.observed) for tenth in tenths],
        "line": line,
        "dots": dots,
        "side": SIDE,
    }
