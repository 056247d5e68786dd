"""What the service says of a customer."""

from msgspec import Struct

from churn.customer import Customer, CustomerId
from churn.model import THRESHOLD, Model


class Prediction(Struct, frozen=True, gc=False, omit_defaults=True):
    """The probability that a customer leaves, and whether that calls for a discount.

    `customerid` is the customer's, where it had one.
    """

    churn_probability: float
    churn: bool
    customerid: CustomerId = None


def predict(model: Model, customers: Customer | list[Customer]) -> Prediction | list[Prediction]:
    """The prediction for a customer, or one each, in order, for several."""
    if isinstance(customers, Customer):
        return _prediction(model.probability(customers), customers)
    return [_prediction(*pair) for pair in zip(model.probabilities(customers), customers, strict=True)]


def _prediction(probability: float, customer: Customer) -> Prediction:
    return Prediction(probability, probability >= THRESHOLD, customer.customerid)
