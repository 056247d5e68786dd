"""The model file: written, read, and asked for probabilities.

The file is a pickle of the pair (DictVectorizer, classifier), as in the course.
"""

import contextlib
import hashlib
import math
import os
import pickle
from collections.abc import Sequence
from itertools import repeat
from operator import getitem, mul
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import astuple

from serving import figures, pickles
from serving.customer import CATEGORIES, END, FIELDS, NUMBERS, SEED_CUSTOMER, Columns, Field, Row, canonical, columns_of
from serving.figures import TrainingFigures
from serving.pickles import BadModel, Inert
from serving.sound import require_sound_trees
from serving.turns import in_turns

# A customer counts as leaving from this probability on.
THRESHOLD = 0.5

# Binary classifiers whose probability is the logistic function of a weighted sum, with the
# losses for which it is (in older versions the log loss was named log).
LINEAR: dict[pickles.Global, tuple[str | None, ...]] = {
    ("sklearn.linear_model._logistic", "LogisticRegression"): (None,),
    ("sklearn.linear_model._stochastic_gradient", "SGDClassifier"): ("log_loss", "log"),
}

# Customers that scikit-learn scores at once, in which nobody else is answered.
SCORED_AT_ONCE = 1000

# How tables spell staying and leaving, in the order of a classifier's two classes.
CLASSES = ((False, True), (0, 1), ("no", "yes"))


class About(Struct, frozen=True):
    """What is known of a model file; `figures` where its training left them in it."""

    file: str
    sha256: str
    classifier: str
    figures: TrainingFigures | None

    @property
    def id(self) -> str:
        """What every answer calls the model: the start of its SHA-256."""
        return self.sha256[:12]


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

    def reasons(self, row: Row) -> list[Reason]:
        """The reasons for this customer's probability, the largest first.

        Their shares add up to the log-odds of the customer minus those of the average training
        customer. Raises `NotExplainable`.
        """

    def probability(self, row: Row) -> float:
        """How probable it is that this customer leaves, in [0, 1]."""

    def probabilities(self, columns: Columns) -> list[float]:
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
        model = of(data, path.name)
        test(model)
        return model
    except BadModel as error:
        raise BadModel(f"{path}: {error}") from error


def of(data: bytes, name: str) -> Model:
    """The model of a file's bytes, untested. Raises `BadModel`."""
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


def test(model: Model) -> None:
    """Raise `BadModel` where a model does not score the course's customer as its training did, or not all of three."""
    probability = model.probability(astuple(SEED_CUSTOMER))
    figures = model.about.figures
    expected = figures.seed_probability if figures else probability
    if not 0 <= probability <= 1 or abs(probability - expected) > 1e-9:
        raise BadModel(f"it gives the course's customer {probability}, where its training gave her {expected}")
    first, last = ([field.allowed[place] for field in CATEGORIES] + [0] * len(NUMBERS) for place in (0, -1))
    others = model.probabilities(columns_of([tuple(first), tuple(last)]))
    if not all(0 <= each <= 1 for each in others):
        raise BadModel(f"it gives customers {others} instead of probabilities")


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


class LinearModel:
    """A linear model as weights: by field and value for categories, by field for numbers."""

    def __init__(self, intercept: float, categories: list[dict[Any, float]], numbers: list[float], about: About):
        self.about = about
        self._intercept = intercept
        self._categories = categories
        self._numbers = numbers
        # By field, the average training customer's part of the log-odds.
        self._average: list[float] | None = None

    @classmethod
    def from_fitted(cls, vectorizer: dict[str, Any], classifier: dict[str, Any], about: About) -> "LinearModel":
        """The model of a vectorizer's and a classifier's fitted attributes."""
        _require_churn(classifier["classes_"].values)
        names, coefficients = vectorizer["feature_names_"], classifier["coef_"].values
        if not all(map(math.isfinite, [*coefficients, *classifier["intercept_"].values])):
            raise BadModel("it has weights that are no numbers")
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

    def probability(self, row: Row) -> float:
        # Each of the two ends with its fields; what follows in the row is no field.
        of_categories = sum(map(getitem, self._categories, row), self._intercept)
        return _logistic(sum(map(mul, self._numbers, row[END:]), of_categories))

    def probabilities(self, columns: Columns) -> list[float]:
        # The same sums, term by term, so that a customer's probability does not depend on how it was asked for.
        weights = [map(each.__getitem__, column) for each, column in zip(self._categories, columns, strict=False)]
        products = [map(mul, repeat(each), column) for each, column in zip(self._numbers, columns[END:], strict=True)]
        of_categories = map(sum, zip(*weights, strict=True), repeat(self._intercept))
        # As _logistic does, without calling it 10,000 times.
        exp = math.exp
        return [
            1 / (1 + exp(-log_odds)) if log_odds >= 0 else (odds := exp(log_odds)) / (1 + odds)
            for log_odds in map(sum, zip(*products, strict=True), of_categories)
        ]

    def reasons(self, row: Row) -> list[Reason]:
        if self._average is None:
            raise NotExplainable("This model file has no training averages to compare a customer with.")
        parts = [*map(getitem, self._categories, row), *map(mul, self._numbers, row[END:])]
        columns = zip(FIELDS, row, parts, self._average, strict=False)
        reasons = [Reason(field.name, value, part - average) for field, value, part, average in columns]
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
        require_sound_trees(model._classifier, len(model._vectorizer.feature_names_))
        if not hasattr(model._classifier, "predict_proba"):
            raise BadModel(f"its {classifier.stands_for[1]} gives no probabilities")
        _require_churn(model._classifier.classes_.tolist())
        return model

    def probability(self, row: Row) -> float:
        return self.probabilities(columns_of([row]))[0]

    def probabilities(self, columns: Columns) -> list[float]:
        names = [field.name for field in FIELDS]
        records = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
        probabilities: list[float] = []
        for start in in_turns(range(0, len(records), SCORED_AT_ONCE)):
            matrix = self._vectorizer.transform(records[start : start + SCORED_AT_ONCE])
            probabilities += self._classifier.predict_proba(matrix)[:, 1].tolist()
        return probabilities

    def reasons(self, row: Row) -> list[Reason]:  # noqa: ARG002 (as the others take it)
        raise NotExplainable(f"Reasons are given by linear models only, and this is a {self.about.classifier}.")
