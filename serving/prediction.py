"""What the service says of a record."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import msgspec

from serving.model.base import Model, Reason, Unit
from serving.records import Id, JSONReader, Records
from serving.schema import Schema


class Predictor:
    """A model, with what its records are read by and its answers are made of."""

    def __init__(self, model: Model, lenient: bool = False):
        self.model = model
        self.lenient = lenient
        self.read = JSONReader(model.schema, lenient, model.absent)
        self._prediction = _prediction(model.schema)

    def predict(self, records: Records, explain: bool = False) -> tuple[list[float], Any]:
        """The probabilities of records, and the answer: a prediction, or one each, in order, for an array.

        With `explain` each has its reasons; raises `NotExplainable` where the model has none.
        """
        schema, columns = self.model.schema, records.columns
        probabilities = self.model.probabilities(columns)
        ids = [records.ids] if schema.id else []
        unusual = map(records.unusual.get, range(len(probabilities))) if records.unusual else repeat(None)
        reasons: Sequence[Any] | repeat[None] = self.model.reasons(columns) if explain else repeat(None)
        unit = repeat(self.model.reasons_unit if explain else None)
        decisions = map(schema.threshold.__le__, probabilities)
        predictions = [*map(self._prediction, probabilities, decisions, *ids, unusual, reasons, unit)]
        return probabilities, predictions if records.is_array else predictions[0]

    def of_example(self) -> float:
        """The probability of the schema's example, read as a request is."""
        records = self.read(msgspec.json.encode(self.model.schema.example), 1)
        return self.predict(records)[0][0]


def _prediction(schema: Schema) -> type:
    """The type of a prediction: the probability of yes, whether that is enough, and the record's id, if it has one."""
    names = {"probability": f"{schema.target}_probability", "decision": schema.target, "id_": schema.id or ""}
    fields: list[tuple[Any, ...]] = [("probability", float), ("decision", bool)]
    if schema.id:
        fields.append(("id_", Id, None))
    fields += [("unusual", list[str] | None, None), ("reasons", list[Reason] | None, None)]
    fields += [("reasons_unit", Unit | None, None)]
    return msgspec.defstruct("Prediction", fields, rename=names.get, omit_defaults=True, frozen=True, gc=False)
