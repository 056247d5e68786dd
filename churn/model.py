"""The model file: written, read, and asked for probabilities.

The file is a pickle of the pair (DictVectorizer, classifier), as in the course.
"""

import contextlib
import hashlib
import math
import os
import pickle
from collections.abc import Sequence
from operator import getitem
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import astuple

from churn import figures, pickles
from churn.customer import (
    CATEGORIES,
    END,
    FIELDS,
    FIRST,
    MONTHLYCHARGES,
    NUMBERS,
    SECOND,
    SEED_CUSTOMER,
    TENURE,
    TOTALCHARGES,
    Batch,
    Combination,
    Customer,
    Field,
    canonical,
    features,
    first_halves,
    second_halves,
)
from churn.figures import TrainingFigures
from churn.pickles import BadModel, Inert

# A customer counts as leaving from this probability on.
THRESHOLD = 0.5

# Binary classifiers whose probability is the logistic function of a weighted sum, with the
# losses for which it is (in older versions the log loss was named log).
LINEAR: dict[pickles.Global, tuple[str | None, ...]] = {
    ("sklearn.linear_model._logistic", "LogisticRegression"): (None,),
    ("sklearn.linear_model._stochastic_gradient", "SGDClassifier"): ("log_loss", "log"),
}

# How tables spell staying and leaving, in the order of a classifier's two classes.
CLASSES = ((False, True), (0, 1), ("no", "yes"))


class About(Struct, frozen=True):
    """What is known of a model file; `figures` where its training left them in it."""

    file: str
    sha256: str
    classifier: str
    figures: TrainingFigures | None


class Reason(Struct, frozen=True, gc=False):
    """A field's share in a customer's log-odds of leaving, relative to the average training customer."""

    field: str
    value: str | int | float
    share: float


class NotExplainable(ValueError):
    """A model cannot give reasons; the message says why."""


class Model(Protocol):
    """What the service asks."""

    about: About

    def reasons(self, customer: Customer) -> list[Reason]:
        """The reasons for this customer's probability, the largest first.

        Their shares add up to the log-odds of the customer minus those of the average training
        customer. Raises `NotExplainable`.
        """

    def probability(self, customer: Customer) -> float:
        """How probable it is that this customer leaves, in [0, 1]."""

    def probabilities(self, batch: Batch) -> list[float]:
        """The same for several customers, in order."""


def write(pair: tuple[Any, Any], path: Path) -> None:
    """Write the pair of vectorizer and classifier as a pickle.

    It appears under its name once it is complete, so a failure leaves an older file as it was.
    Raises `OSError`.
    """
    unfinished = path.parent / f".{path.name}.{os.getpid()}"
    try:
        with unfinished.open("xb") as file:
            pickle.dump(pair, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def read(path: Path) -> Model:
    """The model of a file; a linear one without scikit-learn, whatever version wrote it.

    Nothing in the file is run. Raises `BadModel` where it cannot be served or does not say of the
    course's customer what it said when it was trained, and `OSError` where it cannot be read.
    """
    data = path.read_bytes()
    try:
        model = _from_pickle(data, path.name)
        _test(model)
        return model
    except BadModel as error:
        raise BadModel(f"{path}: {error}") from error


def _from_pickle(data: bytes, name: str) -> Model:
    vectorizer, classifier, named = pickles.inspect(data)
    try:
        about = About(
            file=name,
            sha256=hashlib.sha256(data).hexdigest(),
            classifier=classifier.stands_for[1],
            figures=figures.of(classifier.state),
        )
        _require_the_schema(vectorizer.state["feature_names_"], vectorizer.state["separator"])
        if _is_linear(vectorizer, classifier):
            pickles.require_helpers(named - {vectorizer.stands_for, classifier.stands_for})
            return LinearModel.from_fitted(vectorizer.state, classifier.state, about)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, BadModel):
            raise
        raise BadModel(f"its vectorizer or its classifier is not fitted: {error!r}") from error
    return SklearnModel.from_pickle(data, classifier, named, about)


def _test(model: Model) -> None:
    """Raise `BadModel` where a model does not score the course's customer as its training did."""
    probability = model.probability(SEED_CUSTOMER)
    figures = model.about.figures
    expected = figures.seed_probability if figures else probability
    if not 0 <= probability <= 1 or abs(probability - expected) > 1e-9:
        raise BadModel(f"it gives the course's customer {probability}, where its training gave her {expected}")


def _is_linear(vectorizer: Inert, classifier: Inert) -> bool:
    state = classifier.state
    return (
        state.get("loss") in LINEAR.get(classifier.stands_for, ())
        and state.get("multi_class") != "multinomial"  # whose probability is another function of the sum
        and vectorizer.state["dtype"] is pickles.FLOAT64
    )


def _require_the_schema(feature_names: list[str], separator: str) -> None:
    """Raise `BadModel` where these are not the features of the schema's fields."""
    known = {feature: field.name for field in FIELDS for feature in _features(field, separator)}
    strangers = [feature for feature in feature_names if feature not in known]
    if strangers:
        raise BadModel(f"it was trained on other fields than a customer has: {', '.join(strangers[:10])}")
    unused = {field.name for field in FIELDS} - {known[feature] for feature in feature_names}
    if unused:
        raise BadModel(f"it was trained without the field {', '.join(sorted(unused))}")


def _features(field: Field, separator: str) -> list[str]:
    """A field's features, as DictVectorizer names them: text is one-hot, a number stays one."""
    values = field.allowed if field.is_category else ()
    return [f"{field.name}{separator}{value}" for value in values if isinstance(value, str)] or [field.name]


def _require_churn(classes: Sequence[Any]) -> None:
    """Raise `BadModel` where a classifier's classes are not staying and leaving, in this order."""
    spelt = tuple(canonical(each) if isinstance(each, str) else each for each in classes)
    if spelt not in CLASSES:
        raise BadModel(f"its classes are {list(classes)}, which are not churn: no and yes, 0 and 1, or False and True")


class _Sums(dict[Combination, float]):
    """For a combination of values the sum of their weights and a start, worked out when it is first asked for."""

    def __init__(self, weights: list[dict[Any, float]], start: float = 0.0):
        self._weights = weights
        self._start = start

    def __missing__(self, combination: Combination) -> float:
        total = self[combination] = sum(map(getitem, self._weights, combination.values), self._start)
        return total


class LinearModel:
    """A linear model as weights: by field and value for categories, by field for numbers."""

    def __init__(self, intercept: float, categories: list[dict[Any, float]], numbers: list[float], about: About):
        self.about = about
        self._categories = categories
        self._first, self._second = _Sums(categories[FIRST], intercept), _Sums(categories[SECOND])
        self._tenure, self._monthly, self._total = numbers
        # By field, the average training customer's part of the log-odds.
        self._average: list[float] | None = None

    @classmethod
    def from_fitted(cls, vectorizer: dict[str, Any], classifier: dict[str, Any], about: About) -> "LinearModel":
        """The model of a vectorizer's and a classifier's fitted attributes."""
        _require_churn(classifier["classes_"].values)
        names, coefficients = vectorizer["feature_names_"], classifier["coef_"].values
        if len(names) != len(coefficients):
            raise BadModel(f"it has {len(names)} features and {len(coefficients)} coefficients")
        weights = dict(zip(names, coefficients, strict=True))
        categories = [_weights_by_value(field, weights, vectorizer["separator"]) for field in CATEGORIES]
        [intercept] = classifier["intercept_"].values
        model = cls(intercept, categories, [weights[field.name] for field in NUMBERS], about)
        if about.figures and about.figures.averages.keys() == weights.keys():
            model._average = [
                sum(weights[name] * about.figures.averages[name] for name in features if name in weights)
                for features in (_features(field, vectorizer["separator"]) for field in FIELDS)
            ]
        return model

    def probability(self, customer: Customer) -> float:
        values = astuple(customer)
        return _logistic(
            self._first[first_halves[values[FIRST]]]
            + self._second[second_halves[values[SECOND]]]
            + self._tenure * values[TENURE]
            + self._monthly * values[MONTHLYCHARGES]
            + self._total * values[TOTALCHARGES]
        )

    def probabilities(self, batch: Batch) -> list[float]:
        # The same sum, term by term, so that a customer's probability does not depend on how it was asked for.
        first = map(self._first.__getitem__, batch.first)
        second = map(self._second.__getitem__, batch.second)
        columns = zip(first, second, batch.tenure, batch.monthlycharges, batch.totalcharges, strict=True)
        per_month, per_charge, per_total = self._tenure, self._monthly, self._total
        all_log_odds = [
            first_sum + second_sum + per_month * tenure + per_charge * monthly + per_total * total
            for first_sum, second_sum, tenure, monthly, total in columns
        ]
        # As _logistic does, which would take a fifth of the time only to be called.
        exp = math.exp
        return [
            1 / (1 + exp(-log_odds)) if log_odds >= 0 else (odds := exp(log_odds)) / (1 + odds)
            for log_odds in all_log_odds
        ]

    def reasons(self, customer: Customer) -> list[Reason]:
        if self._average is None:
            raise NotExplainable("This model file has no training averages to compare a customer with.")
        *values, _ = astuple(customer)
        numbers = zip((self._tenure, self._monthly, self._total), values[END:], strict=True)
        parts = [
            *(weights[value] for weights, value in zip(self._categories, values[:END], strict=True)),
            *(weight * value for weight, value in numbers),
        ]
        reasons = [
            Reason(field.name, value, part - average)
            for field, value, part, average in zip(FIELDS, values, parts, self._average, strict=True)
        ]
        return sorted(reasons, key=lambda reason: -abs(reason.share))


def _logistic(log_odds: float) -> float:
    """The logistic function, without overflow on either side."""
    if log_odds >= 0:
        return 1 / (1 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1 + odds)


def _weights_by_value(field: Field, weights: dict[str, float], separator: str) -> dict[Any, float]:
    """A category's weights; a value that training never saw has none, as in DictVectorizer."""
    return {
        value: weights.get(f"{field.name}{separator}{value}", 0.0)
        if isinstance(value, str)
        else value * weights[field.name]
        for value in field.allowed
    }


class SklearnModel:
    """Any other classifier that gives probabilities, scored by scikit-learn."""

    def __init__(self, vectorizer: Any, classifier: Any, about: About):
        self.about = about
        self._vectorizer = vectorizer
        self._classifier = classifier

    @classmethod
    def from_pickle(cls, data: bytes, classifier: Inert, named: set[pickles.Global], about: About) -> "SklearnModel":
        """The model of a pickle that the installed scikit-learn wrote. Raises `BadModel` for another's."""
        import sklearn  # noqa: PLC0415 (it takes a second, and a linear model does without)

        written_by = classifier.state.get("_sklearn_version")
        if not written_by:
            raise BadModel(f"its {classifier.stands_for[1]} is no classifier of scikit-learn")
        if written_by != sklearn.__version__:
            raise BadModel(
                f"its {classifier.stands_for[1]} was written by scikit-learn {written_by}, and {sklearn.__version__} "
                "is installed: only linear models can be read across versions; train it again, or install that version"
            )
        model = cls(*pickles.load(data, named), about)
        if not hasattr(model._classifier, "predict_proba"):
            raise BadModel(f"its {classifier.stands_for[1]} gives no probabilities")
        _require_churn(model._classifier.classes_.tolist())
        return model

    def probability(self, customer: Customer) -> float:
        return self.probabilities(Batch.of([customer]))[0]

    def probabilities(self, batch: Batch) -> list[float]:
        if not batch:
            return []
        matrix = self._vectorizer.transform([features(customer) for customer in batch.customers()])
        probabilities: list[float] = self._classifier.predict_proba(matrix)[:, 1].tolist()
        return probabilities

    def reasons(self, customer: Customer) -> list[Reason]:  # noqa: ARG002 (as the others take it)
        raise NotExplainable(f"Reasons are given by linear models only, and this is a {self.about.classifier}.")
