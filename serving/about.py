"""What is being served: the model, its training figures, and the fields it wants."""

from msgspec import Struct

from serving.customer import FIELDS, Allowed
from serving.figures import TrainingFigures
from serving.model import THRESHOLD, Model


class FieldDescription(Struct, frozen=True):
    """A field of a customer, and what it allows."""

    name: str
    allowed: Allowed


class Served(Struct, frozen=True):
    """The model that answers; `training` where the model file has its training figures."""

    file: str
    sha256: str
    classifier: str
    threshold: float
    fields: list[FieldDescription]
    training: TrainingFigures | None


def served(model: Model) -> Served:
    """What is known of a model."""
    file = model.about
    fields = [FieldDescription(field.name, field.allowed) for field in FIELDS]
    return Served(file.file, file.sha256, file.classifier, THRESHOLD, fields, file.figures)
