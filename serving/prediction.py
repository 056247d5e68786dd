"""What the service says of a customer."""

from itertools import repeat
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import astuple

from serving.customer import Customer, CustomerId, InvalidCustomers, columns_of
from serving.metrics import meter
from serving.model import THRESHOLD, Model, Reason
from serving.records import from_json
from serving.turns import in_turns


class Prediction(Struct, frozen=True, gc=False, omit_defaults=True):
    """The probability that a customer leaves, and whether that calls for a discount.

    `customerid` is the customer's, where it had one; `reasons` where they were asked for.
    """

    churn_probability: Annotated[float, Meta(ge=0, le=1)]
    churn: bool
    customerid: CustomerId = None
    reasons: list[Reason] | None = None


def answer(model: Model, text: bytes, most: int, explain: bool) -> Prediction | list[Prediction]:
    """The prediction for the customer in a JSON text, or one each for at most so many customers; they are counted.

    Raises `NotJSON`, `InvalidCustomers`, `TooMuch` and `NotExplainable`.
    """
    try:
        customers = from_json(text, most)
    except InvalidCustomers as invalid:
        meter.invalid(
            "array" if text.lstrip().startswith(b"[") else "object",
            invalid.errors,
            customers=len({error.index for error in invalid.errors}),
        )
        raise
    return predict(model, customers, explain)


def predict(model: Model, customers: Customer | list[Customer], explain: bool) -> Prediction | list[Prediction]:
    """The prediction for a customer, or one each, in order, for several; they are counted.

    With `explain` each has its reasons; raises `NotExplainable` where the model has none.
    """
    if isinstance(customers, Customer):
        row = astuple(customers)
        probability = model.probability(row)
        reasons = model.reasons(row) if explain else None
        meter.scored_alone(row, probability)
        return Prediction(probability, probability >= THRESHOLD, customers.customerid, reasons)
    rows = [*map(astuple, customers)]
    columns = columns_of(rows)
    probabilities = model.probabilities(columns)
    reasons_of_each = map(model.reasons, in_turns(rows)) if explain else repeat(None)
    decisions = map(THRESHOLD.__le__, probabilities)
    predictions = [*map(Prediction, probabilities, decisions, [each.customerid for each in customers], reasons_of_each)]
    meter.scored("array", columns, probabilities)
    return predictions
