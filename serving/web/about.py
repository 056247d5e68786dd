"""What is being served: the model, what a record is, and its training figures."""

from typing import Any

import msgspec
from msgspec import Struct

from serving.model.base import Unit
from serving.model.figures import TrainingFigures
from serving.prediction import Predictor
from serving.schema import Schema


class Example(Struct, frozen=True):
    """A record, and the model's probability for it."""

    record: dict[str, Any]
    probability: float


class Served(Struct, frozen=True):
    """The model that answers.

    `schema` is a Frictionless Table Schema with more to it; `training` is there where the model file has its training
    figures, and `reasons_unit`, what reasons are shares of, where the model gives any. Without a key, where keys are
    configured, there are no values that may be ids, and no example of them.
    """

    file: str
    sha256: str
    classifier: str
    threshold: float
    schema: Schema
    example: Example | None
    training: TrainingFigures | None
    reasons_unit: Unit | None


def served(predictor: Predictor, hide: bool = False) -> Served:
    """What is known of a model; with `hide` without the values that may be ids."""
    model, schema = predictor.model, predictor.model.schema
    file, figures, example = model.about, model.about.figures, None
    if hide and schema.is_private:
        private = tuple(f"{field.name}=" for field in schema.fields if field.is_private)
        if figures:
            averages = {name: mean for name, mean in figures.averages.items() if not name.startswith(private)}
            figures = msgspec.structs.replace(figures, averages=averages)
        schema = schema.shown()
    else:
        example = Example(schema.example, predictor.of_example())
    return Served(
        file.file, file.sha256, file.classifier, schema.threshold, schema, example, figures, model.reasons_unit
    )
