"""Linear models as weights: by value for categories, by field for numbers. No NumPy, no scikit-learn."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from operator import call, itemgetter, mul
from typing import Any, NamedTuple

from msgspec import UNSET

from serving.fields import Field
from serving.model.base import About, NotExplainable, Reason, Unit, logistic, strongest_first
from serving.model.packing import Parts, features, folded
from serving.model.stand_ins import FLOAT64, BadModel, Global
from serving.records import ZERO, Columns
from serving.schema import Schema
from serving.turns import in_turns

# Binary classifiers whose probability is the logistic function of a weighted sum, with the
# losses for which it is (in older versions the log loss was named log).
LINEAR: dict[Global, tuple[str | None, ...]] = {
    ("sklearn.linear_model._logistic", "LogisticRegression"): (None,),
    ("sklearn.linear_model._logistic", "LogisticRegressionCV"): (None,),
    ("sklearn.linear_model._stochastic_gradient", "SGDClassifier"): ("log_loss", "log"),
}


def is_linear(parts: Parts) -> bool:
    """Whether stand-ins are of a linear model of plain columns."""
    return (
        parts.classifier.state.get("loss") in LINEAR.get(parts.classifier.stands_for, ())
        and parts.vectorizer.state["dtype"] is FLOAT64
        and parts.scaling is not None
    )


class Weights(NamedTuple):
    """Of features, by name, what a feature's value less its centre is multiplied by; elsewhere the centre is 0."""

    factors: dict[str, float]
    centers: dict[str, float]

    def part(self, feature: str, value: float) -> float:
        """A feature's part of the sum. One that training never saw has none, as in DictVectorizer."""
        return (value - self.centers.get(feature, 0.0)) * self.factors.get(feature, 0.0)


class LinearModel:
    """The logistic function of a weighted sum."""

    def __init__(self, parts: Parts, schema: Schema, about: About):
        """Of stand-ins with their fitted attributes. Raises `BadModel`."""
        self.schema = schema
        self.about = about
        self.absent = ZERO
        self.reasons_unit: Unit | None = "log-odds"
        weights, self._intercept = _fitted(parts)
        separator = parts.vectorizer.state["separator"]
        # By field, what gives a value's part of the sum, and those of a column.
        by_field = [_parts(field, weights, separator) for field in schema.fields]
        self._of_value = [of_value for of_value, _ in by_field]
        self._of_column = [of_column for _, of_column in by_field]
        # By field, the average training record's part of the sum.
        self._average: list[float] | None = None
        if about.figures and about.figures.averages.keys() == weights.factors.keys():
            shares = {feature: weights.part(feature, mean) for feature, mean in about.figures.averages.items()}
            self._average = [
                sum(shares.get(feature, 0.0) for feature in features(field, separator)) for field in schema.fields
            ]

    def probabilities(self, columns: Columns) -> list[float]:
        """How probable yes is for each record."""
        if len(columns[0]) < 2:  # by row one record takes half the time, and many take half as much again
            rows = zip(*columns, strict=True)
            return logistic(sum(map(call, self._of_value, row), self._intercept) for row in rows)
        by_column = map(call, self._of_column, columns)
        return logistic(map(sum, zip(*by_column, strict=True), repeat(self._intercept)))

    def reasons(self, columns: Columns) -> list[list[Reason]]:
        """For each record each field's share of the log-odds, less the average training record's."""
        if self._average is None:
            raise NotExplainable("This model file has no training averages to compare a record with.")
        found = []
        for row in in_turns(zip(*columns, strict=True)):
            shares = (part(value) - each for part, value, each in zip(self._of_value, row, self._average, strict=True))
            found.append(strongest_first(self.schema.names, row, shares))
        return found


def _fitted(parts: Parts) -> tuple[Weights, float]:
    """The weights and the intercept. Raises `BadModel`."""
    state, names = parts.classifier.state, parts.vectorizer.state["feature_names_"]
    coefficients, intercept = state["coef_"].values, state["intercept_"]
    [intercept] = intercept.values if hasattr(intercept, "values") else [intercept]
    if len(names) != len(coefficients):
        raise BadModel(f"it has {len(names)} features and {len(coefficients)} coefficients")
    # scikit-learn's softmax of the sum and its negative.
    times = 2 if state.get("multi_class") == "multinomial" else 1
    centers, factors = folded(parts.scaling or [], len(names))
    factors = [times * each * factor for each, factor in zip(coefficients, factors, strict=True)]
    if not all(map(math.isfinite, [*factors, *centers, intercept])):
        raise BadModel("it has weights that are no numbers")
    centred = {name: center for name, center in zip(names, centers, strict=True) if center}
    return Weights(dict(zip(names, factors, strict=True)), centred), times * intercept


class _Values(dict[Any, float]):
    """The parts of the values of a field that takes numbers too, and of those."""

    def __init__(self, known: dict[Any, float], of_number: Callable[[float], float]):
        super().__init__(known)
        self._of_number = of_number

    def __missing__(self, number: float) -> float:
        return self._of_number(number)


def _parts(
    field: Field, weights: Weights, separator: str
) -> tuple[Callable[[Any], float], Callable[[Sequence[Any]], Iterable[float]]]:
    """What gives the part that a field's value has in the sum, and what gives those of a column of two or more."""
    if field.is_number:
        if field.name in weights.centers:
            of_number = partial(weights.part, field.name)
            return of_number, partial(map, of_number)
        factor = weights.factors.get(field.name, 0.0)
        return partial(mul, factor), lambda column: [factor * value for value in column]
    names = features(field, separator)
    without = sum(weights.part(name, 0) for name in names)  # of all its features, where none is there
    bare = without - weights.part(field.name, 0)
    found: dict[Any, float] = {UNSET: without}
    for value in field.values:
        one_hot = f"{field.name}{separator}{value}"
        if isinstance(value, str):
            found[value] = without - weights.part(one_hot, 0) + weights.part(one_hot, 1)
        else:
            found[value] = weights.part(field.name, value)
    if field.is_category:
        return found.__getitem__, lambda column: itemgetter(*column)(found)  # all at once in half the time
    of_any = _Values(found, lambda number: bare + weights.part(field.name, number)).__getitem__
    return of_any, partial(map, of_any)
