"""What the service says of a record."""

from collections.abc import Iterable
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
        threshold = schema.threshold
        decisions = [each >= threshold for each in probabilities]
        told: list[Iterable[Any]] = [records.ids] if schema.id else []
        if records.unusual or explain:
            told.append(map(records.unusual.get, range(len(probabilities))))
        if explain:
            told += [self.model.reasons(columns), repeat(self.model.reasons_unit)]
        predictions = [*map(self._prediction, probabilities, decisions, *told)]
        return probabilities, predictions[0] if records.form == "object" else predictions

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
