"""What the service says of a customer."""

from itertools import repeat
from typing import Annotated

from msgspec import Meta, Struct

from churn.customer import Batch, Customer, CustomerId, InvalidCustomers, from_json
from churn.metrics import meter
from churn.model import THRESHOLD, Model, Reason


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

    Raises `NotJSON`, `InvalidCustomers`, `TooManyCustomers` and `NotExplainable`.
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
    return predict(model, customers, explain, counted=True)


def predict(
    model: Model, customers: Customer | list[Customer], explain: bool, counted: bool = False
) -> Prediction | list[Prediction]:
    """The prediction for a customer, or one each, in order, for several; with `counted` they are in the metrics.

    With `explain` each has its reasons; raises `NotExplainable` where the model has none.
    """
    if isinstance(customers, Customer):
        probability = model.probability(customers)
        reasons = model.reasons(customers) if explain else None
        if counted:
            meter.scored_alone(customers, probability)
        return Prediction(probability, probability >= THRESHOLD, customers.customerid, reasons)
    batch = Batch.of(customers)
    probabilities = model.probabilities(batch)
    reasons_of_each = map(model.reasons, customers) if explain else repeat(None)
    predictions = [
        Prediction(probability, probability >= THRESHOLD, customer.customerid, reasons)
        for customer, probability, reasons in zip(customers, probabilities, reasons_of_each, strict=False)
    ]
    if counted:
        meter.scored("array", batch, probabilities)
    return predictions
